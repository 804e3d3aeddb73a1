//! Changes at random, beside a map that takes them one by one.

use super::*;
use crate::sink::driver;
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

/// Appends new rows in a number that COPY takes, with keys that nothing had before.
fn burst(builder: Builder, relation: &Arc<Relation>, table: &mut Table, numbers: &mut Numbers) -> Builder {
    let first = table.keys().next_back().map_or(2 * KEYS, |last| last + 1).max(2 * KEYS);
    (first..first + 64 + numbers.below(100)).fold(builder, |builder, key| {
        let (id, value) = (key.to_string(), format!("\\{}\t", numbers.below(1000)));
        table.insert(key, (value.clone(), value.clone()));
        builder.insert(relation, &[text(&id), text(&value), text(&value)])
    })
}

/// Transactions that are whole, and now and then the end of one that the delivery before has begun, or the beginning
/// of one that the next goes on with.
struct Model {
    numbers: Numbers,
    relations: [Arc<Relation>; 2],
    tables: [Table; 2],
    commit_lsn: u64,
    begun: bool,
}

impl Model {
    fn changes(&mut self, mut builder: Builder) -> Builder {
        for _ in 0..self.numbers.below(CHANGES_MAX) {
            let at = self.numbers.below(2) as usize;
            builder = match self.numbers.below(100) {
                0 => burst(builder, &self.relations[at], &mut self.tables[at], &mut self.numbers),
                _ => change(builder, &self.relations[at], &mut self.tables[at], &mut self.numbers),
            };
        }
        builder
    }

    fn delivery(&mut self, sequence: u64) -> Delivery {
        let mut builder = Builder::new();
        if self.begun {
            self.begun = self.numbers.below(3) == 0;
            let part = if self.begun { Part::Middle } else { Part::Last };
            builder = builder.transaction(self.commit_lsn, part);
            builder = self.changes(builder);
        }
        if !self.begun {
            for transaction in 0..=self.numbers.below(5) {
                self.commit_lsn += 0x10;
                builder = builder.transaction(self.commit_lsn, Part::Whole);
                if transaction == 3 && self.numbers.below(4) == 0 {
                    builder = builder.truncate(&[&self.relations[0]], false, false);
                    self.tables[0].clear();
                }
                builder = self.changes(builder);
            }
            self.begun = self.numbers.below(3) == 0;
            if self.begun {
                self.commit_lsn += 0x10;
                builder = builder.transaction(self.commit_lsn, Part::First);
                builder = self.changes(builder);
            }
        }
        builder.delivery(sequence)
    }
}

#[tokio::test]
async fn any_changes_leave_what_they_leave_one_by_one() {
    any_changes(7, |_| None).await;
}

/// With another number of connections each time.
#[tokio::test]
async fn so_they_do_by_several_connections() {
    any_changes(11, |opened| Some(2 + opened % 3)).await;
}

/// `relaxed` says how many connections there are when the sink is opened for the n-th time.
async fn any_changes(seed: u64, relaxed: impl Fn(usize) -> Option<usize>) {
    let create = "CREATE TABLE a (id int PRIMARY KEY, name text, note text); CREATE TABLE b (LIKE a INCLUDING ALL)";
    let cluster = target(create);
    let mut opened = 0;
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    sink.config.relaxed = relaxed(opened);
    sink.open(&context("warehouse")).await.unwrap();
    let columns = [
        ("id", 23, "integer", true),
        ("name", 25, "text", false),
        ("note", 25, "text", false),
    ];
    let mut model = Model {
        numbers: Numbers(seed),
        relations: [relation("a", &columns), relation("b", &columns)],
        tables: [Table::new(), Table::new()],
        commit_lsn: 0,
        begun: false,
    };
    let mut undurable: Vec<Delivery> = Vec::new();
    for sequence in 1..=DELIVERIES {
        let delivery = model.delivery(sequence);
        sink.write(&delivery).await.unwrap();
        undurable.push(delivery);
        if model.numbers.below(3) == 0 {
            let durable = sink.flush().await.unwrap();
            undurable.retain(|delivery| delivery.sequence > durable);
        }
        if model.numbers.below(4) == 0 {
            // A crash before the commit: all that is open comes again.
            opened += 1;
            sink.config.relaxed = relaxed(opened);
            let position = sink.open(&context("warehouse")).await.unwrap();
            for delivery in &undurable {
                let rest = position.and_then(|position| driver::without_known(delivery, position));
                sink.write(rest.as_ref().unwrap_or(delivery)).await.unwrap();
            }
        }
        if !model.begun && model.numbers.below(2) == 0 {
            assert_eq!(sink.flush().await.unwrap(), sequence);
            undurable.clear();
            assert_eq!(found(&cluster, "a"), model.tables[0]);
            assert_eq!(found(&cluster, "b"), model.tables[1]);
        }
    }
}
