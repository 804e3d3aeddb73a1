//! Lines of `COPY ... TO STDOUT` in text form, to the same batches as the stream's.

use super::DecodeError;
use crate::batch::{Batch, Cell, OldImage, Op, Relation, Row, Transaction, Tuple};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Bytes of one batch; cells point with 32 bits.
const BATCH_BYTES_MAX: usize = u32::MAX as usize;

/// Collects lines into a batch. The columns of the COPY are those of the relation, in its order.
#[derive(Debug)]
pub struct CopyDecoder {
    relation: Arc<Relation>,
    bytes: BytesMut,
    batch: Batch,
    /// The number of the next row in its unit.
    next_ordinal: u64,
}

impl CopyDecoder {
    pub fn new(relation: Arc<Relation>) -> Self {
        Self {
            relation,
            bytes: BytesMut::new(),
            batch: Batch::default(),
            next_ordinal: 0,
        }
    }

    /// Bytes collected since the last [`Self::finish`].
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes one CopyData message: one line with its newline.
    pub fn push(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        if self.bytes.len() + line.len() > BATCH_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "a batch of copied rows",
                limit: BATCH_BYTES_MAX,
            });
        }
        let base = self.bytes.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.bytes.extend_from_slice(line);
        let start = self.batch.cells.len();
        let columns = self.relation.columns.len();
        self.batch
            .cells
            .resize(start + self.relation.slots as usize, Cell::ABSENT);
        let mut count = 0;
        if columns > 0 {
            let mut at = 0;
            loop {
                let end = memchr::memchr(b'\t', &line[at..]).map_or(line.len(), |len| at + len);
                if let Some(column) = self.relation.columns.get(count) {
                    let cell = cell(&line[at..end], base + at, &mut self.batch.arena);
                    self.batch.cells[start + column.slot as usize] = cell;
                }
                count += 1;
                if end == line.len() {
                    break;
                }
                at = end + 1;
            }
        }
        if count != columns {
            return Err(DecodeError::CopyColumns {
                expected: columns,
                found: count,
            });
        }
        self.batch.rows.push(Row {
            relation: 0,
            transaction: 0,
            ordinal: self.next_ordinal,
            new: Some(Tuple(start as u32)),
            old: None,
            extra: 0,
            fan_out: 0,
            op: Op::Read,
            old_image: OldImage::Key,
        });
        self.next_ordinal += 1;
        Ok(())
    }

    /// The rows collected, as (a part of) `transaction`. The decoder goes on with the unit's next rows.
    pub fn finish(&mut self, transaction: Transaction) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        batch.bytes = Bytes::from(std::mem::take(&mut self.bytes));
        batch.relations.push(Arc::clone(&self.relation));
        batch.transactions.push(transaction);
        batch
    }
}

/// The value of a field. Only one with backslashes is copied, without them, into the arena.
#[inline]
fn cell(field: &[u8], start: usize, arena: &mut Vec<u8>) -> Cell {
    if memchr::memchr(b'\\', field).is_none() {
        return Cell::text(start, field.len());
    }
    if field == b"\\N" {
        return Cell::NULL;
    }
    let begin = arena.len();
    unescape(field, arena);
    Cell::arena(begin, arena.len() - begin)
}

/// COPY TO escapes with these only: <https://www.postgresql.org/docs/current/sql-copy.html>, text format.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(&escaped) = rest.get(at + 1) else {
            out.push(b'\\');
            return;
        };
        out.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        });
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
}
