//! The copy ledger: which tables are copied, in which units, and which of those are merged.

use super::failure::Failure;
use super::format::{COPIES, UNITS, decode, encode};
use super::{CopyState, Mark, StateStore, TableCopy, UnitRecord};
use crate::batch::{CopyUnit, Lsn};
use crate::problem::Problem;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

type UnitKey = (u32, u32, u32);

impl StateStore {
    pub fn copies(&self) -> Result<Vec<TableCopy>, Problem> {
        self.read(copies)
    }

    /// Plans a copy. Units of the table's other epochs are forgotten in the same transaction.
    pub fn set_copy(&self, copy: &TableCopy) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut copies = transaction.open_table(COPIES)?;
            copies.insert(copy.table_oid, encode(copy)?.as_slice())?;
            let mut units = transaction.open_table(UNITS)?;
            units.retain_in(table_range(copy.table_oid), |(_, epoch, _), _| epoch == copy.epoch)?;
            Ok(())
        })
    }

    /// Forgets the table, as if it had never been copied.
    pub fn remove_copy(&self, table_oid: u32) -> Result<(), Problem> {
        self.write(|transaction| {
            transaction.open_table(COPIES)?.remove(table_oid)?;
            transaction
                .open_table(UNITS)?
                .retain_in(table_range(table_oid), |_, _| false)?;
            Ok(())
        })
    }

    /// The units of a copy in the order of their numbers.
    pub fn copy_units(&self, table_oid: u32, epoch: u32) -> Result<Vec<UnitRecord>, Problem> {
        self.read(|transaction| {
            let units = transaction.open_table(UNITS)?;
            let mut records = Vec::new();
            for entry in units.range((table_oid, epoch, 0)..=(table_oid, epoch, u32::MAX))? {
                let (key, value) = entry?;
                let (range, snapshot, read_until, merged) = value.value();
                records.push(UnitRecord {
                    unit: from_key(key.value()),
                    range: range.to_vec(),
                    snapshot: snapshot.to_owned(),
                    read_until: Lsn(read_until),
                    merged,
                });
            }
            Ok(records)
        })
    }

    /// Stores units as they are planned or read, in one transaction.
    pub fn put_units(&self, records: &[UnitRecord]) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut units = transaction.open_table(UNITS)?;
            for record in records {
                let value = (
                    record.range.as_slice(),
                    record.snapshot.as_str(),
                    record.read_until.0,
                    record.merged,
                );
                units.insert(to_key(record.unit), value)?;
            }
            Ok(())
        })
    }
}

/// Enters what has become durable everywhere. Marks of an epoch before the stored one are passed over: the copy that
/// they speak of was started anew by a later session. A TRUNCATE makes a copy count on within its session, so its
/// epoch may be beyond the stored one.
pub(super) fn apply(transaction: &WriteTransaction, marks: &[Mark]) -> Result<(), Failure> {
    if marks.is_empty() {
        return Ok(());
    }
    let mut copies = transaction.open_table(COPIES)?;
    let mut units = transaction.open_table(UNITS)?;
    for mark in marks {
        let (table_oid, epoch) = match *mark {
            Mark::UnitDone(unit) => (unit.table_oid, unit.epoch),
            Mark::TableDone { table_oid, epoch } => (table_oid, epoch),
            Mark::State(_) | Mark::Entries(_) | Mark::Replayed(_) => continue,
        };
        let stored = copies
            .get(table_oid)?
            .map(|stored| decode::<TableCopy>(stored.value()))
            .transpose()?;
        let Some(mut copy) = stored.filter(|copy| copy.epoch <= epoch) else {
            continue;
        };
        match *mark {
            Mark::UnitDone(unit) => {
                let found = units.get(to_key(unit))?.map(|stored| owned(stored.value()));
                let (range, snapshot, read_until) = found.unwrap_or_default();
                units.insert(to_key(unit), (range.as_slice(), snapshot.as_str(), read_until, true))?;
            }
            Mark::TableDone { .. } => {
                copy.epoch = epoch;
                copy.state = CopyState::Finished;
                copies.insert(table_oid, encode(&copy)?.as_slice())?;
            }
            Mark::State(_) | Mark::Entries(_) | Mark::Replayed(_) => {}
        }
    }
    Ok(())
}

pub(super) fn copies(transaction: &ReadTransaction) -> Result<Vec<TableCopy>, Failure> {
    let mut copies = Vec::new();
    for entry in transaction.open_table(COPIES)?.iter()? {
        copies.push(decode(entry?.1.value())?);
    }
    Ok(copies)
}

/// How many units of a copy there are, and how many of those are merged.
pub(super) fn counts(transaction: &ReadTransaction, copy: &TableCopy) -> Result<(usize, usize), Failure> {
    let (mut all, mut merged) = (0, 0);
    let range = (copy.table_oid, copy.epoch, 0)..=(copy.table_oid, copy.epoch, u32::MAX);
    for entry in transaction.open_table(UNITS)?.range(range)? {
        all += 1;
        merged += usize::from(entry?.1.value().3);
    }
    Ok((all, merged))
}

fn owned((range, snapshot, read_until, _): super::format::UnitValue<'_>) -> (Vec<u8>, String, u64) {
    (range.to_vec(), snapshot.to_owned(), read_until)
}

fn to_key(unit: CopyUnit) -> UnitKey {
    (unit.table_oid, unit.epoch, unit.unit)
}

fn from_key((table_oid, epoch, unit): UnitKey) -> CopyUnit {
    CopyUnit { epoch, table_oid, unit }
}

fn table_range(table_oid: u32) -> std::ops::RangeInclusive<UnitKey> {
    (table_oid, 0, 0)..=(table_oid, u32::MAX, u32::MAX)
}
