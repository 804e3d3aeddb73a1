//! Copied rows that go out before the stream has passed what they show: stored before they do.

use super::failure::Failure;
use super::format::{AHEAD, NUMBERS, POSITION};
use super::{RowsAhead, StateStore};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::{ReadableTable, WriteTransaction};
use std::ops::RangeInclusive;

impl StateStore {
    /// Adds to what is ahead, and forgets of these tables what the stored position has passed.
    pub fn add_ahead(&self, added: &[RowsAhead]) -> Result<(), Problem> {
        self.write(|transaction| {
            let numbers = transaction.open_table(NUMBERS)?;
            let position = numbers.get(POSITION)?.map_or(0, |stored| stored.value());
            let mut ahead = transaction.open_table(AHEAD)?;
            for rows in added {
                let of_table = of_table(rows.table_oid);
                ahead.retain_in(of_table.clone(), |_, (_, finish, ..)| finish > position)?;
                let last = ahead.range(of_table)?.next_back().transpose()?;
                let number = last.map_or(0, |(key, _)| key.value().1 + 1);
                let value = (rows.snapshot.as_str(), rows.finish.0, rows.repair, &*pack(&rows.keys));
                ahead.insert((rows.table_oid, number), value)?;
            }
            Ok(())
        })
    }

    /// Nothing of the table is ahead any more.
    pub fn forget_ahead(&self, table_oid: u32) -> Result<(), Problem> {
        self.write(|transaction| forget(transaction, table_oid))
    }

    /// What the stored position hasn't passed, in the order in which it went out.
    pub fn rows_ahead(&self, table_oid: u32) -> Result<Vec<RowsAhead>, Problem> {
        self.read(|transaction| {
            let position = super::position(transaction)?.unwrap_or(Lsn(0));
            let mut found = Vec::new();
            for entry in transaction.open_table(AHEAD)?.range(of_table(table_oid))? {
                let (_, value) = entry?;
                let (snapshot, finish, repair, keys) = value.value();
                if finish > position.0 {
                    found.push(RowsAhead {
                        table_oid,
                        snapshot: snapshot.to_owned(),
                        finish: Lsn(finish),
                        keys: unpack(keys),
                        repair,
                    });
                }
            }
            Ok(found)
        })
    }
}

/// Whether rows of the table are ahead of the stored position.
pub(super) fn is_any(transaction: &WriteTransaction, table_oid: u32) -> Result<bool, Failure> {
    let numbers = transaction.open_table(NUMBERS)?;
    let position = numbers.get(POSITION)?.map_or(0, |stored| stored.value());
    for entry in transaction.open_table(AHEAD)?.range(of_table(table_oid))? {
        let (_, value) = entry?;
        if value.value().1 > position {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn forget(transaction: &WriteTransaction, table_oid: u32) -> Result<(), Failure> {
    transaction
        .open_table(AHEAD)?
        .retain_in(of_table(table_oid), |_, _| false)?;
    Ok(())
}

fn pack(keys: &[Box<[u8]>]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(keys.iter().map(|key| key.len() + 4).sum());
    for key in keys {
        packed.extend_from_slice(&(key.len() as u32).to_le_bytes());
        packed.extend_from_slice(key);
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Vec<Box<[u8]>> {
    let mut keys = Vec::new();
    while let Some((len, rest)) = packed.split_first_chunk::<4>() {
        let Some((key, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else {
            break;
        };
        keys.push(key.into());
        packed = rest;
    }
    keys
}

fn of_table(table_oid: u32) -> RangeInclusive<(u32, u64)> {
    (table_oid, 0)..=(table_oid, u64::MAX)
}
