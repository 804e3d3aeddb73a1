//! Leaves out updates that a later change of the same row makes unseen.
//!
//! ```text
//!   a1  b1  a2  b2  delete a  b3      updates of the keys a and b, in one target transaction
//!   -   -   -   -   delete a  b3      what is left
//! ```
//!
//! Only what is applied together is looked at, so nobody but a trigger or another constraint could tell: tables
//! that have ENABLE ALWAYS or REPLICA triggers, or unique or exclusion constraints besides their key, are left as they
//! are. An update is left out where a later one of the same key brings every column, or a delete takes the row, and
//! nothing between them concerns the key in another way. Where the target lacks the row, what is left out isn't counted
//! as missing: the change that stays is.

use super::apply::Work;
use super::run::{key_differs, key_hash, key_value};
use super::target::Target;
use crate::batch::{Op, Row, Tuple, Value};
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::Arc;

/// The rows that are left, and where each stood. `None` where all are.
pub(super) fn compact(
    work: Work<'_>,
    range: Range<usize>,
    targets: &FxHashMap<u32, Arc<Target>>,
) -> Option<(Vec<Row>, Vec<usize>)> {
    let is_update = |row: &&Row| matches!(row.op, Op::Update | Op::Upsert);
    work.rows[range.clone()].iter().filter(is_update).nth(1)?;
    let mut later = Later {
        work,
        by_key: FxHashMap::default(),
    };
    let mut left = Vec::with_capacity(range.len());
    for at in range.clone().rev() {
        if later.keeps(at, targets)? {
            left.push(at);
        }
    }
    if left.len() == range.len() {
        return None;
    }
    left.reverse();
    Some((left.iter().map(|at| work.rows[*at]).collect(), left))
}

/// What is known of the changes behind the one that is looked at.
struct Later<'a> {
    work: Work<'a>,
    /// The last change by table and hash of the key, where nothing before it in the row is left to see.
    by_key: FxHashMap<(u32, u64), usize>,
}

impl Later<'_> {
    /// Whether the change has to be applied; `None` where its key can't be read.
    fn keeps(&mut self, at: usize, targets: &FxHashMap<u32, Arc<Target>>) -> Option<bool> {
        let row = &self.work.rows[at];
        if row.op == Op::Message {
            return Some(true);
        }
        if row.op == Op::Truncate {
            self.by_key.clear();
            return Some(true);
        }
        let target = &targets[&self.work.batch.relation(row).index];
        if !target.compacts {
            return Some(true);
        }
        let (image, old) = images(row)?;
        let key = (target.table, key_hash(self.work.batch, target, image, old).ok()?);
        if matches!(row.op, Op::Insert | Op::Read) {
            self.by_key.remove(&key);
            return Some(true);
        }
        if row.op == Op::Delete {
            self.by_key.insert(key, at);
            return Some(true);
        }
        if let Some(old) = row.old
            && key_differs(self.work.batch, target, old, image)
        {
            let before = (target.table, key_hash(self.work.batch, target, old, None).ok()?);
            self.by_key.remove(&before);
            self.by_key.remove(&key);
            return Some(true);
        }
        let whole = self.is_whole(target, image);
        if let Some(by) = self.by_key.get(&key)
            && self.is_same_row(target, at, *by)
        {
            // One that must find its row says so where it doesn't.
            return Some(row.op == Op::Upsert && !whole);
        }
        if whole {
            self.by_key.insert(key, at);
        }
        Some(true)
    }

    fn is_whole(&self, target: &Target, image: Tuple) -> bool {
        let mut values = target
            .columns
            .iter()
            .map(|column| self.work.batch.value(image, column.slot));
        values.all(|value| matches!(value, Value::Null | Value::Text(_)))
    }

    /// Keys of the same hash may differ.
    fn is_same_row(&self, target: &Target, one: usize, other: usize) -> bool {
        let (batch, rows) = (self.work.batch, self.work.rows);
        let (Some(one), Some(other)) = (images(&rows[one]), images(&rows[other])) else {
            return false;
        };
        let mut key = target.columns.iter().filter(|column| column.key);
        key.all(|column| key_value(batch, column.slot, one.0, one.1) == key_value(batch, column.slot, other.0, other.1))
    }
}

/// The images that hold a row's key: the newest, and the one before it.
fn images(row: &Row) -> Option<(Tuple, Option<Tuple>)> {
    match row.op {
        Op::Delete => Some((row.old?, None)),
        _ => Some((row.new?, row.old)),
    }
}
