//! Plugins that change rows in place, where others look at the same rows.

use super::*;
use crate::batch::Row;
use crate::dead_letter::peek;
use crate::pipeline::job::{Done, Job};
use crate::pipeline::lane::Lane;
use crate::plugin::tests::{chain_that_masks, chain_that_masks_and_rejects};

fn lane(bench: &Bench, chains: Vec<Option<Chain>>) -> Lane {
    let warden = super::super::Warden {
        limits: ProbationLimits {
            time: Duration::from_secs(60),
            batches: 1000,
        },
        store: bench.store.clone(),
        told: Arc::new(|_, _| ()),
        queue: Arc::clone(&bench.queue),
        names: Vec::new(),
    };
    let routes = chains.into_iter().map(LaneChain::of).collect();
    Lane::new(routes, Arc::default(), Arc::new(warden))
}

/// Three orders through the lane: `rows` are those of each route.
fn through(lane: &mut Lane, rows: &[std::ops::Range<usize>]) -> (Done, Vec<Vec<String>>) {
    let orders = orders();
    let names = ["ann", "bob", "cid"];
    let builder = names
        .iter()
        .fold(Builder::new().transaction(0x10, Part::Whole), |builder, name| {
            builder.insert(&orders, &["1", name, "2"].map(text))
        });
    let delivery = builder.delivery(0);
    let done = lane.process(Job {
        rows: rows.iter().map(|range| delivery.rows[range.clone()].to_vec()).collect(),
        batch: Arc::try_unwrap(delivery.batch).unwrap(),
        waiting: Vec::new(),
        copying: Vec::new(),
        spared: Vec::new(),
        keep_rows: true,
        marks: Vec::new(),
        position: Lsn(0),
        checkpoint: None,
        replay: None,
    });
    let done = done.unwrap();
    let shown = done.rows.iter().map(|rows| names_of(&done.batch, rows)).collect();
    (done, shown)
}

fn names_of(batch: &Batch, rows: &[Row]) -> Vec<String> {
    let name = |row: &Row| String::from_utf8(batch.value(row.new.unwrap(), 1).text().unwrap().to_vec()).unwrap();
    rows.iter().map(name).collect()
}

#[test]
fn a_route_that_shares_rows_leaves_them_to_the_other_as_they_came() {
    let bench = Bench::new(1);
    let mut masked_first = lane(&bench, vec![Some(chain_that_masks(3)), None]);
    let (done, names) = through(&mut masked_first, &[0..3, 0..3]);
    assert_eq!(names, [["***"; 3], ["ann", "bob", "cid"]]);
    assert_eq!(done.batch.changes(), 0);
    // Both mask, and one row is in both.
    let mut both = lane(&bench, vec![Some(chain_that_masks(2)), Some(chain_that_masks(2))]);
    let (_, names) = through(&mut both, &[0..2, 1..3]);
    assert_eq!(names, [["***"; 2], ["***"; 2]]);
    // The other one's rows are others.
    let mut apart = lane(&bench, vec![Some(chain_that_masks(2)), None]);
    let (done, names) = through(&mut apart, &[0..2, 2..3]);
    assert_eq!(names, [vec!["***"; 2], vec!["cid"]]);
    assert_eq!(done.batch.changes(), 2);
    assert_eq!(
        names_of(&done.batch.as_it_came(), &done.sides[0].before),
        ["ann", "bob"]
    );
}

/// A letter is sent again through the whole chain, so it has the row that came, not what the plugins before made of it.
#[test]
fn a_letter_has_the_row_as_it_came() {
    let (bench, orders) = (Bench::new(1), orders());
    let names = ["ann", "bob", "cid"].into_iter().enumerate();
    let batch = names.fold(Builder::new().transaction(0x10, Part::Whole), |builder, (id, name)| {
        let id = id.to_string();
        builder.insert(&orders, &[text(&id), text(name), text("2")])
    });
    bench.push(batch);
    let got = bench.run(
        vec![route("orders", &[0], Some(chain_that_masks_and_rejects(3, 1)))],
        1,
        0,
    );
    assert_eq!(rows(&got[0]), ["0/10:0 insert orders", "0/10:2 insert orders"]);
    let peeked = peek(bench.folder.path(), |_| ()).unwrap();
    let letters: Vec<_> = peeked.letters.values().collect();
    assert_eq!(letters.len(), 1);
    let new = letters[0].new.as_ref().unwrap();
    assert_eq!(new[1].as_value(), crate::batch::Value::Text(b"bob"));
}
