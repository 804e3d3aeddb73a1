//! What is done to the rows of a unit on their way out.

use super::fault;
use super::key;
use super::merge::{KeyedMerge, Reread};
use super::plan::TableCopy;
use super::visibility::Snapshot;
use crate::batch::{Batch, CopyUnit, Lsn, OldImage, Op, Origin, Part, Relation, Row, Transaction, Truncate};
use crate::problem::Problem;
use std::sync::Arc;
use std::time::SystemTime;

/// Microseconds between 1970 and 2000, where Postgres counts from.
const POSTGRES_EPOCH_US: u128 = 946_684_800_000_000;

/// Takes out the rows of a unit that are no longer as it has them, and returns their keys.
pub(super) fn leave_out_stale(
    merge: &KeyedMerge,
    copy: &TableCopy,
    snapshot: &Snapshot,
    batches: &mut [Batch],
) -> Result<Vec<Reread>, Box<Problem>> {
    let mut rereads = Vec::new();
    if !merge.is_mindful() {
        return Ok(rereads);
    }
    for batch in batches {
        retain_by_key(batch, copy, |key| {
            let stale = merge.stale(snapshot, key);
            let is_fresh = stale.is_none();
            rereads.extend(stale);
            is_fresh
        })?;
    }
    Ok(rereads)
}

pub(super) fn retain_by_key(
    batch: &mut Batch,
    copy: &TableCopy,
    mut keep: impl FnMut(&[u8]) -> bool,
) -> Result<(), Box<Problem>> {
    let mut kept = Vec::with_capacity(batch.rows.len());
    for_each_key(batch, copy, |at, key| {
        if keep(key) {
            kept.push(batch.rows[at]);
        }
    })?;
    batch.rows = kept;
    Ok(())
}

pub(super) fn for_each_key(
    batch: &Batch,
    copy: &TableCopy,
    mut with: impl FnMut(usize, &[u8]),
) -> Result<(), Box<Problem>> {
    let slots = key::slots(&copy.relation, &copy.key).ok_or_else(|| fault::changed(copy))?;
    let mut key = Vec::new();
    for (at, row) in batch.rows.iter().enumerate() {
        let Some(tuple) = row.new else { continue };
        key::write(batch, tuple, None, &slots, &mut key).map_err(|_| fault::no_key(copy))?;
        with(at, &key);
    }
    Ok(())
}

/// Lets filters take back what the target may have of these rows.
pub(super) fn as_updates(batches: &mut [Batch]) {
    for row in batches.iter_mut().flat_map(|batch| &mut batch.rows) {
        row.op = Op::Update;
    }
}

/// Makes the batches one transaction at `position`; empty ones are left out.
pub(super) fn as_transaction(mut batches: Vec<Batch>, unit: CopyUnit, position: Lsn) -> Vec<Batch> {
    batches.retain(|batch| !batch.rows.is_empty());
    let commit_us = now_us();
    let last = batches.len().saturating_sub(1);
    for (at, batch) in batches.iter_mut().enumerate() {
        let part = match at {
            _ if last == 0 => Part::Whole,
            0 => Part::First,
            at if at == last => Part::Last,
            _ => Part::Middle,
        };
        let end_lsn = if at == last { position } else { Lsn(0) };
        let origin = Origin::Copy(unit);
        batch.transactions = vec![Transaction {
            xid: 0,
            commit_lsn: position,
            end_lsn,
            commit_us,
            part,
            origin,
        }];
    }
    batches
}

/// A TRUNCATE of the table that the source never made.
pub(super) fn emptying(relation: &Arc<Relation>, unit: CopyUnit, position: Lsn) -> Batch {
    let mut batch = Batch::default();
    let relation = batch.relation_index(relation);
    batch.truncates.push(Truncate {
        relations: vec![relation],
        cascade: false,
        restart_identity: false,
    });
    batch.transactions.push(Transaction {
        xid: 0,
        commit_lsn: position,
        end_lsn: position,
        commit_us: now_us(),
        part: Part::Whole,
        origin: Origin::Copy(unit),
    });
    batch.rows.push(Row {
        relation,
        transaction: 0,
        ordinal: 0,
        new: None,
        old: None,
        extra: 0,
        fan_out: 0,
        op: Op::Truncate,
        old_image: OldImage::Key,
    });
    batch
}

/// Microseconds since 2000, by the clock of this machine.
fn now_us() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since_1970.as_micros().saturating_sub(POSTGRES_EPOCH_US) as i64
}
