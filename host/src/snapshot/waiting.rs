//! Streamed changes of a table without a key, which wait until the table's rows are out.

use super::visibility::Snapshot;
use crate::batch::{Batch, Cell, Lsn, Part, Row, Transaction, Tuple, Value};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of changes that wait for one table. They wait in memory.
pub(super) const WAITING_BYTES_MAX: usize = 256 << 20;

/// More than [`WAITING_BYTES_MAX`] wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// Changes in the order of the stream, copied out of their batches, which would be kept whole otherwise.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    batch: Batch,
}

impl Waiting {
    /// Takes a copy of `row`, which belongs to `batch`.
    pub(super) fn push(&mut self, batch: &Batch, row: &Row) -> Result<(), TooMuch> {
        let transaction = batch.transaction(row);
        let is_last = |last: &Transaction| last.xid == transaction.xid && last.commit_lsn == transaction.commit_lsn;
        if !self.batch.transactions.last().is_some_and(is_last) {
            self.batch.transactions.push(*transaction);
        }
        let relation = batch.relation(row);
        let slots = relation.slots;
        let copy = Row {
            relation: self.batch.relation_index(&Arc::clone(relation)),
            transaction: (self.batch.transactions.len() - 1) as u32,
            new: row.new.map(|tuple| self.tuple(batch, tuple, slots)),
            old: row.old.map(|tuple| self.tuple(batch, tuple, slots)),
            ..*row
        };
        self.batch.rows.push(copy);
        match self.size_bytes() > WAITING_BYTES_MAX {
            true => Err(TooMuch),
            false => Ok(()),
        }
    }

    /// The changes that the copied rows don't show, to be delivered behind them. They keep their commit's place, by
    /// which they are known, and have no end: a sink whose position is beyond that place doesn't have them.
    pub(super) fn release(&mut self, snapshot: &Snapshot) -> Option<Batch> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let transactions = &batch.transactions;
        batch
            .rows
            .retain(|row| !snapshot.sees(transactions[row.transaction as usize].xid));
        for transaction in &mut batch.transactions {
            transaction.part = Part::Whole;
            transaction.end_lsn = Lsn(0);
        }
        (!batch.rows.is_empty()).then_some(batch)
    }

    fn size_bytes(&self) -> usize {
        self.bytes.len() + self.batch.size_bytes()
    }

    fn tuple(&mut self, batch: &Batch, tuple: Tuple, slots: u16) -> Tuple {
        let start = self.batch.cells.len();
        for slot in 0..slots {
            let at = self.bytes.len();
            let cell = match batch.value(tuple, slot) {
                Value::Null => Cell::NULL,
                Value::Unchanged => Cell::UNCHANGED,
                Value::Absent => Cell::ABSENT,
                Value::Text(text) => {
                    self.bytes.extend_from_slice(text);
                    Cell::text(at, text.len())
                }
                Value::Binary(bytes) => {
                    self.bytes.extend_from_slice(bytes);
                    Cell::binary(at, bytes.len())
                }
            };
            self.batch.cells.push(cell);
        }
        Tuple(start as u32)
    }
}
