//! Changes one behind the other, as bytes.
//!
//! A transaction is `T`, its xid, where it committed, and when; a change is `C`, the index of its relation, its ordinal, fan-out
//! and operation, what its old image is, and its new and old tuple. A tuple is a byte for each cell, which its length and
//! value follow where it has one.

use crate::batch::{Batch, Cell, Lsn, OldImage, Op, Origin, Part, Relation, Row, Transaction, Tuple, Value};
use bytes::Bytes;
use std::sync::Arc;

const TRANSACTION: u8 = b'T';
const CHANGE: u8 = b'C';
const NULL: u8 = b'n';
const UNCHANGED: u8 = b'u';
const ABSENT: u8 = b'a';
const TEXT: u8 = b't';
const BINARY: u8 = b'b';
const NO_TUPLE: u8 = 0;
const A_TUPLE: u8 = 1;

pub(super) fn write_transaction(piece: &mut Vec<u8>, transaction: &Transaction) {
    piece.push(TRANSACTION);
    piece.extend_from_slice(&transaction.xid.to_le_bytes());
    piece.extend_from_slice(&transaction.commit_lsn.0.to_le_bytes());
    piece.extend_from_slice(&transaction.commit_us.to_le_bytes());
}

/// `relation` is the index by which it is known when the piece is read.
pub(super) fn write_change(piece: &mut Vec<u8>, batch: &Batch, row: &Row, relation: u32) {
    let slots = batch.relation(row).slots;
    piece.push(CHANGE);
    piece.extend_from_slice(&relation.to_le_bytes());
    piece.extend_from_slice(&row.ordinal.to_le_bytes());
    piece.extend_from_slice(&row.fan_out.to_le_bytes());
    piece.push(row.op as u8);
    piece.push(u8::from(row.old_image == OldImage::Full));
    for tuple in [row.new, row.old] {
        match tuple {
            None => piece.push(NO_TUPLE),
            Some(tuple) => {
                piece.push(A_TUPLE);
                (0..slots).for_each(|slot| write_value(piece, batch.value(tuple, slot)));
            }
        }
    }
}

fn write_value(piece: &mut Vec<u8>, value: Value<'_>) {
    let (kind, bytes) = match value {
        Value::Null => return piece.push(NULL),
        Value::Unchanged => return piece.push(UNCHANGED),
        Value::Absent => return piece.push(ABSENT),
        Value::Text(text) => (TEXT, text),
        Value::Binary(bytes) => (BINARY, bytes),
    };
    piece.push(kind);
    piece.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    piece.extend_from_slice(bytes);
}

/// The changes of a piece whose transaction `keep` says so of. They keep their commit's place, by which they are known, and
/// have no end: a sink whose position is beyond that place doesn't have them. `None`: it isn't what was written.
pub(super) fn read(piece: Vec<u8>, relations: &[Arc<Relation>], keep: impl Fn(u32) -> bool) -> Option<Batch> {
    let bytes = Bytes::from(piece);
    let mut reader = Reader { bytes: &bytes, at: 0 };
    let mut batch = Batch::default();
    let mut kept = false;
    while let Some(tag) = reader.byte() {
        match tag {
            TRANSACTION => {
                let transaction = reader.transaction()?;
                kept = keep(transaction.xid);
                if kept {
                    batch.transactions.push(transaction);
                }
            }
            CHANGE => {
                let cells = batch.cells.len();
                let row = reader.change(&mut batch, relations)?;
                match kept {
                    true => batch.rows.push(row),
                    false => batch.cells.truncate(cells),
                }
            }
            _ => return None,
        }
    }
    batch.bytes = bytes;
    Some(batch)
}

struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn transaction(&mut self) -> Option<Transaction> {
        Some(Transaction {
            xid: self.u32()?,
            commit_lsn: Lsn(self.array().map(u64::from_le_bytes)?),
            end_lsn: Lsn(0),
            commit_us: self.array().map(i64::from_le_bytes)?,
            part: Part::Whole,
            origin: Origin::Stream,
        })
    }

    fn change(&mut self, batch: &mut Batch, relations: &[Arc<Relation>]) -> Option<Row> {
        let relation = relations.get(self.u32()? as usize)?;
        let ordinal = self.array().map(u64::from_le_bytes)?;
        let fan_out = self.array().map(u16::from_le_bytes)?;
        let op = match self.byte()? {
            op if op == Op::Insert as u8 => Op::Insert,
            op if op == Op::Update as u8 => Op::Update,
            op if op == Op::Delete as u8 => Op::Delete,
            _ => return None,
        };
        let old_image = match self.byte()? {
            0 => OldImage::Key,
            _ => OldImage::Full,
        };
        Some(Row {
            relation: batch.relation_index(relation),
            transaction: (batch.transactions.len() as u32).saturating_sub(1),
            ordinal,
            new: self.tuple(batch, relation.slots)?,
            old: self.tuple(batch, relation.slots)?,
            extra: 0,
            fan_out,
            op,
            old_image,
        })
    }

    fn tuple(&mut self, batch: &mut Batch, slots: u16) -> Option<Option<Tuple>> {
        if self.byte()? == NO_TUPLE {
            return Some(None);
        }
        let start = batch.cells.len() as u32;
        for _ in 0..slots {
            let cell = self.cell()?;
            batch.cells.push(cell);
        }
        Some(Some(Tuple(start)))
    }

    fn cell(&mut self) -> Option<Cell> {
        let kind = self.byte()?;
        match kind {
            NULL => return Some(Cell::NULL),
            UNCHANGED => return Some(Cell::UNCHANGED),
            ABSENT => return Some(Cell::ABSENT),
            TEXT | BINARY => {}
            _ => return None,
        }
        let len = self.u32()? as usize;
        let at = self.at;
        self.at = at.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        Some(match kind {
            TEXT => Cell::text(at, len),
            _ => Cell::binary(at, len),
        })
    }
}
