//! Letters as the lane uses them.

mod disk;
mod keys;
mod late;
mod model;
mod order;
mod refused;
mod replay;

use super::*;
use crate::batch::{Delivery, OldImage, Op, Part, Relation, Row, Value};
use crate::config::{self, ByteSize, Duration};
use crate::sink::testing::{Builder, orders, text};
use std::path::Path;
use std::sync::Arc;

pub(super) const ROUTE: &str = "public.orders";

pub(super) fn limits() -> config::DeadLetters {
    config::DeadLetters {
        quota: ByteSize::mib(64),
        retention: Duration::from_secs(3600),
        max_behind: 10_000,
    }
}

pub(super) fn open(folder: &Path) -> DeadLetters {
    DeadLetters::open(folder, "shop", &limits()).unwrap()
}

pub(super) fn insert(lsn: u64, id: &str) -> Builder {
    let (relation, row) = (orders(), [text(id), text("a"), Value::Null]);
    Builder::new().transaction(lsn, Part::Whole).insert(&relation, &row)
}

pub(super) fn update(lsn: u64, id: &str) -> Builder {
    let (relation, row) = (orders(), [text(id), Value::Unchanged, text("7")]);
    Builder::new()
        .transaction(lsn, Part::Whole)
        .update(&relation, &row, None)
}

pub(super) fn rejected(row: &Row) -> Aside {
    Aside {
        row: *row,
        cause: Cause {
            kind: "rejected".into(),
            code: Some("bad".into()),
            message: "no good".into(),
            panic: None,
            backtrace: None,
        },
        plugin: PluginName {
            name: "mask".into(),
            version: Some("1.2.0".into()),
            hash: "9f86d081884c".into(),
        },
    }
}

/// Sets aside the rows with these indexes, and returns which rows are delivered.
pub(super) fn pass(letters: &DeadLetters, delivery: &Delivery, poison: &[usize]) -> Vec<usize> {
    let asides = poison.iter().map(|at| rejected(&delivery.rows[*at])).collect();
    let route = letters.route(ROUTE);
    let held = letters
        .set_aside(route, &delivery.batch, &delivery.rows, asides, &Held::default())
        .unwrap();
    (0..delivery.rows.len())
        .filter(|at| !held.holds(&delivery.rows[*at]))
        .collect()
}

/// Sends everything that was asked for, and returns the ids of what went out.
pub(super) fn replay(letters: &DeadLetters, poison: &[u64]) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(replay) = letters.take_replay(crate::batch::Lsn(u64::MAX)).unwrap() {
        let rows: Vec<Row> = replay.rows.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
        let number = |row: &Row| match replay.batch.transaction(row).origin {
            crate::batch::Origin::Replay(replay) => replay.letter,
            _ => panic!("not a replay"),
        };
        let fails = rows.iter().filter(|row| poison.contains(&number(row)));
        let held = letters
            .failed_again(&replay, fails.map(rejected).collect(), &[])
            .unwrap();
        sent.extend(rows.iter().filter(|row| !held.holds(row)).map(number));
        letters.settle(replay.ticket).unwrap();
    }
    sent
}

pub(super) fn numbers(folder: &Path) -> Vec<u64> {
    peek(folder, |_| {}).unwrap().letters.into_keys().collect()
}
