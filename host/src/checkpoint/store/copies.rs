//! The copy ledger: which tables are copied, and which ranges of those whose copy is under way.

use super::failure::Failure;
use super::format::{COPIES, RANGES, decode, encode};
use super::{CopiedRange, CopiedUnit, CopyState, Mark, Reach, StateStore, TableCopy};
use crate::problem::Problem;
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};
use std::ops::RangeInclusive;

type Place = (u32, u32, u32);
type Ranges<'t> = Table<'t, Place, &'static [u8]>;

impl StateStore {
    pub fn copies(&self) -> Result<Vec<TableCopy>, Problem> {
        self.read(copies)
    }

    /// Stores a copy, and the ranges of the table that it has already. Whatever else the ledger had of it is forgotten
    /// in the same transaction.
    pub fn set_copy(&self, copy: &TableCopy, ranges: &[CopiedRange]) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut copies = transaction.open_table(COPIES)?;
            copies.insert(copy.table_oid, encode(copy)?.as_slice())?;
            let mut stored = transaction.open_table(RANGES)?;
            stored.retain_in(places(copy.table_oid), |_, _| false)?;
            for range in ranges {
                put(&mut stored, copy.table_oid, range)?;
            }
            Ok(())
        })
    }

    /// The copy of the table starts over, as this epoch, unless it has been given up for a later one. Rows ahead stay: a
    /// start may come before what made it do so.
    pub fn restart_copy(&self, table_oid: u32, epoch: u32) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut copies = transaction.open_table(COPIES)?;
            let Some(mut copy) = stored_copy(&copies, table_oid)? else {
                return Ok(());
            };
            if copy.epoch > epoch {
                return Ok(());
            }
            copy.epoch = epoch;
            copies.insert(table_oid, encode(&copy)?.as_slice())?;
            let mut ranges = transaction.open_table(RANGES)?;
            ranges.retain_in(places(table_oid), |_, _| false)?;
            Ok(())
        })
    }

    /// The table is to be copied once more, from its first row on, and its targets are to be emptied before. What a copy
    /// that is under way still reports counts for nothing.
    pub fn copy_again(&self, table_oid: u32, table: &str) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut copies = transaction.open_table(COPIES)?;
            let before = stored_copy(&copies, table_oid)?;
            // Beyond that of whatever is under way: its marks come late.
            let epoch = before.as_ref().map_or(0, |copy| copy.epoch + 1);
            let copy = TableCopy {
                table_oid,
                table: table.to_owned(),
                epoch,
                began: epoch,
                state: CopyState::Planned,
                basis: String::new(),
                empties: true,
                joined: before.as_ref().is_some_and(|copy| copy.joined),
                altered: before.as_ref().is_some_and(|copy| copy.altered),
                reach: Reach {
                    only: Vec::new(),
                    ..before.map(|copy| copy.reach).unwrap_or_default()
                },
            };
            copies.insert(table_oid, encode(&copy)?.as_slice())?;
            let mut ranges = transaction.open_table(RANGES)?;
            ranges.retain_in(places(table_oid), |_, _| false)?;
            Ok(())
        })
    }

    /// The targets of the copy under way are to be emptied before its first row goes out.
    pub fn empty_first(&self, table_oid: u32) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut copies = transaction.open_table(COPIES)?;
            if let Some(mut copy) = stored_copy(&copies, table_oid)? {
                copy.empties = true;
                copies.insert(table_oid, encode(&copy)?.as_slice())?;
            }
            Ok(())
        })
    }

    /// Forgets the table, as if it had never been copied.
    pub fn remove_copy(&self, table_oid: u32) -> Result<(), Problem> {
        self.write(|transaction| {
            transaction.open_table(COPIES)?.remove(table_oid)?;
            forget_ranges(transaction, table_oid)
        })
    }

    /// The ranges of a table that are copied, in the order of its key.
    pub fn copied_ranges(&self, table_oid: u32) -> Result<Vec<CopiedRange>, Problem> {
        self.read(|transaction| ranges(transaction, table_oid))
    }
}

/// Enters what has become durable everywhere. Marks of an epoch before the stored one are passed over: the copy that
/// they speak of has started over. So are those of a table that has left.
pub(super) fn apply(transaction: &WriteTransaction, marks: &[Mark]) -> Result<(), Failure> {
    for mark in marks {
        let (table_oid, epoch) = match mark {
            Mark::UnitDone(done) => (done.unit.table_oid, done.unit.epoch),
            Mark::TableDone { table_oid, epoch } | Mark::Emptied { table_oid, epoch } => (*table_oid, *epoch),
            Mark::State(_) | Mark::Entries(_) | Mark::Replayed(_) | Mark::Sent(_) => continue,
        };
        let mut copies = transaction.open_table(COPIES)?;
        let is_of = |copy: &TableCopy| match mark {
            // Once is enough, though the copy should have started over since.
            Mark::Emptied { .. } => copy.began == epoch,
            _ => copy.epoch <= epoch,
        };
        let stored = stored_copy(&copies, table_oid)?;
        let Some(mut copy) = stored.filter(|copy| is_of(copy) && copy.state != CopyState::Left) else {
            continue;
        };
        match mark {
            Mark::Emptied { .. } => {
                copy.empties = false;
                copies.insert(table_oid, encode(&copy)?.as_slice())?;
            }
            // It speaks of rows that went out before the targets are emptied.
            _ if copy.empties => {}
            Mark::UnitDone(done) => add(&mut transaction.open_table(RANGES)?, done)?,
            Mark::TableDone { .. } => {
                copy.epoch = epoch;
                copy.state = CopyState::Finished;
                copy.joined = false;
                copy.altered = false;
                copy.reach.only.clear();
                copies.insert(table_oid, encode(&copy)?.as_slice())?;
                forget_ranges(transaction, table_oid)?;
            }
            Mark::State(_) | Mark::Entries(_) | Mark::Replayed(_) | Mark::Sent(_) => {}
        }
    }
    Ok(())
}

/// Adds a range, joined with those beside it that it meets: so there are hardly more of them than workers.
fn add(ranges: &mut Ranges<'_>, done: &CopiedUnit) -> Result<(), Failure> {
    let table_oid = done.unit.table_oid;
    let of_table = places(table_oid);
    let place = (table_oid, done.range.place.0, done.range.place.1);
    let before = ranges.range(*of_table.start()..place)?.next_back().transpose()?;
    let before = before
        .map(|(key, value)| read(key.value(), value.value()))
        .transpose()?;
    let behind = ranges.range(place..=*of_table.end())?.next().transpose()?;
    let behind = behind
        .map(|(key, value)| read(key.value(), value.value()))
        .transpose()?;
    let beside = [before.clone(), behind.clone()];
    for range in beside.iter().flatten() {
        ranges.remove((table_oid, range.place.0, range.place.1))?;
    }
    let all = [before, Some(done.range.clone()), behind];
    for range in CopiedRange::join(all.into_iter().flatten()) {
        put(ranges, table_oid, &range)?;
    }
    Ok(())
}

/// The copies that aren't through.
pub(super) fn under_way(transaction: &WriteTransaction) -> Result<Vec<TableCopy>, Failure> {
    let mut found = Vec::new();
    for entry in transaction.open_table(COPIES)?.iter()? {
        let copy: TableCopy = decode(entry?.1.value())?;
        if copy.state == CopyState::Planned {
            found.push(copy);
        }
    }
    Ok(found)
}

/// The copy begins with its first row again, and its targets are emptied before. One that is for some sinks alone is so
/// still: the others have nothing of it.
pub(super) fn begin_anew(transaction: &WriteTransaction, mut copy: TableCopy) -> Result<(), Failure> {
    copy.epoch += 1;
    copy.basis = String::new();
    copy.empties = true;
    let mut copies = transaction.open_table(COPIES)?;
    copies.insert(copy.table_oid, encode(&copy)?.as_slice())?;
    let mut ranges = transaction.open_table(RANGES)?;
    ranges.retain_in(places(copy.table_oid), |_, _| false)?;
    Ok(())
}

fn stored_copy(copies: &impl ReadableTable<u32, &'static [u8]>, oid: u32) -> Result<Option<TableCopy>, Failure> {
    copies.get(oid)?.map(|stored| decode(stored.value())).transpose()
}

pub(super) fn copies(transaction: &ReadTransaction) -> Result<Vec<TableCopy>, Failure> {
    let mut copies = Vec::new();
    for entry in transaction.open_table(COPIES)?.iter()? {
        copies.push(decode(entry?.1.value())?);
    }
    Ok(copies)
}

pub(super) fn ranges(transaction: &ReadTransaction, table_oid: u32) -> Result<Vec<CopiedRange>, Failure> {
    let ranges = transaction.open_table(RANGES)?;
    let mut found = Vec::new();
    for entry in ranges.range(places(table_oid))? {
        let (key, value) = entry?;
        found.push(read(key.value(), value.value())?);
    }
    Ok(found)
}

/// A copy that is over has no ranges and is ahead of nothing.
fn forget_ranges(transaction: &WriteTransaction, table_oid: u32) -> Result<(), Failure> {
    super::ahead::forget(transaction, table_oid)?;
    let mut ranges = transaction.open_table(RANGES)?;
    ranges.retain_in(places(table_oid), |_, _| false)?;
    Ok(())
}

fn put(ranges: &mut Ranges<'_>, table_oid: u32, range: &CopiedRange) -> Result<(), Failure> {
    let place = (table_oid, range.place.0, range.place.1);
    ranges.insert(place, encode(range)?.as_slice())?;
    Ok(())
}

fn read((_, gap, number): Place, value: &[u8]) -> Result<CopiedRange, Failure> {
    let range: CopiedRange = decode(value)?;
    Ok(CopiedRange {
        place: (gap, number),
        ..range
    })
}

fn places(table_oid: u32) -> RangeInclusive<Place> {
    (table_oid, 0, 0)..=(table_oid, u32::MAX, u32::MAX)
}
