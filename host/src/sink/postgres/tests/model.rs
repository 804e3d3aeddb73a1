//! Changes at random, beside a map that takes them one by one.

use super::*;
use std::collections::BTreeMap;

const DELIVERIES: u64 = 40;
const CHANGES_MAX: u64 = 400;
const KEYS: u64 = 90;

/// Numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (number ^ (number >> 31)) % bound
    }
}

type Table = BTreeMap<u64, (String, String)>;

/// Appends one change that is possible in `table`.
fn change(builder: Builder, relation: &Arc<Relation>, table: &mut Table, numbers: &mut Numbers) -> Builder {
    let key = numbers.below(KEYS);
    let id = key.to_string();
    let name = format!("n{}", numbers.below(1000));
    let note = format!("t{}", numbers.below(1000));
    let Some((_, known_note)) = table.get(&key).cloned() else {
        table.insert(key, (name.clone(), note.clone()));
        return builder.insert(relation, &[text(&id), text(&name), text(&note)]);
    };
    match numbers.below(10) {
        0..=3 => {
            table.insert(key, (name.clone(), note.clone()));
            builder.update(relation, &[text(&id), text(&name), text(&note)], None)
        }
        4..=5 => {
            table.insert(key, (name.clone(), known_note));
            builder.update(relation, &[text(&id), text(&name), UNCHANGED], None)
        }
        6 => {
            let mut free = (key..key + KEYS).map(|key| key % (2 * KEYS));
            let moved = free.find(|key| !table.contains_key(key)).unwrap();
            table.remove(&key);
            table.insert(moved, (name.clone(), known_note));
            let new = moved.to_string();
            let old = [text(&id), ABSENT, ABSENT];
            builder.update(relation, &[text(&new), text(&name), UNCHANGED], Some(&old))
        }
        _ => {
            table.remove(&key);
            builder.delete(relation, &[text(&id), ABSENT, ABSENT])
        }
    }
}

fn found(cluster: &Cluster, table: &str) -> Table {
    let rows = cluster
        .sql("postgres", &format!("SELECT id, name, note FROM {table}"))
        .unwrap();
    let row = |line: &str| {
        let mut fields = line.split('|').map(str::to_owned);
        let mut field = || fields.next().unwrap();
        (field().parse().unwrap(), (field(), field()))
    };
    rows.lines().map(row).collect()
}

#[tokio::test]
async fn any_changes_leave_what_they_leave_one_by_one() {
    let create = "CREATE TABLE a (id int PRIMARY KEY, name text, note text); CREATE TABLE b (LIKE a INCLUDING ALL)";
    let cluster = target(create);
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let columns = [
        ("id", 23, "integer", true),
        ("name", 25, "text", false),
        ("note", 25, "text", false),
    ];
    let relations = [relation("a", &columns), relation("b", &columns)];
    let mut tables = [Table::new(), Table::new()];
    let mut numbers = Numbers(7);
    let mut commit_lsn = 0;
    for sequence in 1..=DELIVERIES {
        let mut builder = Builder::new();
        for transaction in 0..=numbers.below(5) {
            commit_lsn += 0x10;
            builder = builder.transaction(commit_lsn, Part::Whole);
            if transaction == 3 && numbers.below(4) == 0 {
                builder = builder.truncate(&[&relations[0]], false, false);
                tables[0].clear();
            }
            for _ in 0..numbers.below(CHANGES_MAX) {
                let at = numbers.below(2) as usize;
                builder = change(builder, &relations[at], &mut tables[at], &mut numbers);
            }
        }
        let delivery = builder.delivery(sequence);
        if numbers.below(4) == 0 {
            // A crash before the commit: all that is open comes again.
            sink.write(&delivery).await.unwrap();
            sink.open(&context("warehouse")).await.unwrap();
        }
        deliver(&mut sink, &delivery).await;
        assert_eq!(found(&cluster, "a"), tables[0]);
        assert_eq!(found(&cluster, "b"), tables[1]);
    }
}
