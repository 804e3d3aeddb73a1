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
//! nothing between them concerns the key in another way. Where routes or plugins lead several relations into one table, every
//! column is every one of its own relation's: another's isn't left out for it. Where the target lacks the row, what is left out isn't counted
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
    if !have_one_order(work, targets) {
        return None;
    }
    let mut later = Later {
        work,
        targets,
        by_key: FxHashMap::default(),
    };
    let mut left = Vec::with_capacity(range.len());
    for at in range.clone().rev() {
        if later.keeps(at)? {
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
    targets: &'a FxHashMap<u32, Arc<Target>>,
    /// The last change by table and hash of the key, where nothing before it in the row is left to see.
    by_key: FxHashMap<(u32, u64), usize>,
}

/// Whether relations that lead into one table have its key in one order, so that equal keys have equal hashes.
fn have_one_order(work: Work<'_>, targets: &FxHashMap<u32, Arc<Target>>) -> bool {
    let mut by_table: FxHashMap<u32, &Target> = FxHashMap::default();
    let mut targets = work.batch.relations.iter().filter_map(|it| targets.get(&it.index));
    targets.all(|target| {
        let first = *by_table.entry(target.table).or_insert(target);
        std::ptr::eq(first, &**target) || first.key_names().eq(target.key_names())
    })
}

impl<'a> Later<'a> {
    fn target(&self, row: &Row) -> &'a Target {
        &self.targets[&self.work.batch.relation(row).index]
    }

    /// Whether the change has to be applied; `None` where its key can't be read.
    fn keeps(&mut self, at: usize) -> Option<bool> {
        let row = &self.work.rows[at];
        if row.op == Op::Message {
            return Some(true);
        }
        if row.op == Op::Truncate {
            self.by_key.clear();
            return Some(true);
        }
        let target = self.target(row);
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
            && self.covers(at, *by)
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

    /// Whether the later change leaves nothing of the earlier one to see. Keys of the same hash may differ.
    fn covers(&self, earlier: usize, later: usize) -> bool {
        let (batch, rows) = (self.work.batch, self.work.rows);
        let (one, other) = (&rows[earlier], &rows[later]);
        if other.op != Op::Delete && batch.relation(one).index != batch.relation(other).index {
            return false;
        }
        let (Some(of_one), Some(of_other)) = (images(one), images(other)) else {
            return false;
        };
        let slots = |target: &'a Target| target.columns.iter().filter(|it| it.key).map(|it| it.slot);
        let mut keys = slots(self.target(one)).zip(slots(self.target(other)));
        keys.all(|(slot, others)| {
            key_value(batch, slot, of_one.0, of_one.1) == key_value(batch, others, of_other.0, of_other.1)
        })
    }
}

/// The images that hold a row's key: the newest, and the one before it.
fn images(row: &Row) -> Option<(Tuple, Option<Tuple>)> {
    match row.op {
        Op::Delete => Some((row.old?, None)),
        _ => Some((row.new?, row.old)),
    }
}
