//! Rows of `COPY ... TO STDOUT`, to the same batches as the stream's: lines of the text form here, see `copy_binary` for the
//! other one.

use super::DecodeError;
use super::binary::Types;
use super::copy_binary::BinaryRows;
use super::straight::Straight;
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
    /// Rows and cells of the last batch: the next one is about as large.
    last_len: (usize, usize),
    /// Where the COPY is in binary form.
    binary: Option<BinaryRows>,
}

impl CopyDecoder {
    pub fn new(relation: Arc<Relation>) -> Self {
        Self {
            relation,
            bytes: BytesMut::new(),
            batch: Batch::default(),
            next_ordinal: 0,
            last_len: (0, 0),
            binary: None,
        }
    }

    /// The same for one `COPY ... (FORMAT binary)`, whose values become text. Columns without a binary form are asked for
    /// as text. Only [`Self::decode`] takes its rows.
    #[must_use]
    pub fn with_binary(mut self, types: Arc<Types>) -> Self {
        self.binary = Some(BinaryRows::new(types));
        self
    }

    /// The same where the values of all columns but these stay as they came: see [`super::straight`]. All of the columns'
    /// types are alike everywhere.
    #[must_use]
    pub fn straight(mut self, key: &[String]) -> Self {
        let straight = Straight::new(&self.relation, key);
        self.binary = Some(BinaryRows::straight(straight));
        self
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
        self.index(line, base)
    }

    /// Takes whole CopyData frames with their headers as one batch, which keeps them: nothing is copied.
    pub fn decode(&mut self, frames: Bytes, transaction: Transaction) -> Result<Batch, DecodeError> {
        if frames.len() > BATCH_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "a batch of copied rows",
                limit: BATCH_BYTES_MAX,
            });
        }
        self.batch.rows.reserve(self.last_len.0);
        self.batch.cells.reserve(self.last_len.1);
        let mut at = 0;
        while at < frames.len() {
            let (begin, end) = frame(&frames, at).ok_or(DecodeError::CopyFrame)?;
            match &mut self.binary {
                Some(binary) => {
                    let relation = &*self.relation;
                    self.next_ordinal =
                        binary.index(&frames, begin, end, relation, self.next_ordinal, &mut self.batch)?;
                }
                None => {
                    let line = &frames[begin..end];
                    self.index(line.strip_suffix(b"\n").unwrap_or(line), begin)?;
                }
            }
            at = end;
        }
        self.last_len = (self.batch.rows.len(), self.batch.cells.len());
        let mut batch = self.finish(transaction);
        batch.bytes = frames;
        Ok(batch)
    }

    /// Takes the line that lies at `base` of the batch's bytes.
    #[inline]
    fn index(&mut self, line: &[u8], base: usize) -> Result<(), DecodeError> {
        let start = self.batch.cells.len();
        let slots = self.relation.slots as usize;
        self.batch.cells.resize(start + slots, Cell::ABSENT);
        let columns = &self.relation.columns;
        let mut count = 0;
        if !columns.is_empty() {
            let (cells, arena) = (&mut self.batch.cells[start..], &mut self.batch.arena);
            // Where the next backslash is: most lines have none, and are looked through once.
            let mut backslash = next_backslash(line, 0);
            let mut at = 0;
            tabs(line, |end| {
                if let Some(column) = columns.get(count) {
                    cells[column.slot as usize] = if backslash >= end {
                        Cell::text(base + at, end - at)
                    } else {
                        escaped(&line[at..end], arena)
                    };
                }
                if backslash < end {
                    backslash = next_backslash(line, end);
                }
                count += 1;
                at = end + 1;
            });
        }
        if count != columns.len() {
            return Err(DecodeError::CopyColumns {
                expected: columns.len(),
                found: count,
            });
        }
        self.batch.rows.push(row(start, self.next_ordinal));
        self.next_ordinal += 1;
        Ok(())
    }

    /// The rows collected, as (a part of) `transaction`. The decoder goes on with the unit's next rows.
    pub fn finish(&mut self, transaction: Transaction) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        batch.bytes = Bytes::from(std::mem::take(&mut self.bytes));
        batch.binary = self.binary.is_some();
        batch.straight = self.binary.as_ref().is_some_and(BinaryRows::is_straight);
        batch.relations.push(Arc::clone(&self.relation));
        batch.transactions.push(transaction);
        batch
    }
}

/// A copied row whose cells begin at `start`.
pub(super) fn row(start: usize, ordinal: u64) -> Row {
    Row {
        relation: 0,
        transaction: 0,
        ordinal,
        new: Some(Tuple(start as u32)),
        old: None,
        extra: 0,
        fan_out: 0,
        op: Op::Read,
        old_image: OldImage::Key,
    }
}

/// Where the body of the CopyData frame at `at` begins and ends. One tag byte, and a length that counts itself.
#[inline]
fn frame(frames: &[u8], at: usize) -> Option<(usize, usize)> {
    let (&[tag, a, b, c, d], body) = frames.get(at..)?.split_first_chunk::<5>()?;
    let length = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(4)?;
    (tag == b'd' && length <= body.len()).then_some((at + 5, at + 5 + length))
}

/// The position of the first backslash from `from` on, or the line's length.
#[inline]
fn next_backslash(line: &[u8], from: usize) -> usize {
    memchr::memchr(b'\\', &line[from..]).map_or(line.len(), |len| from + len)
}

/// Calls `field` with the end of each: of every tab, and of the line. Eight bytes at a time, since fields are short.
#[inline]
fn tabs(line: &[u8], mut field: impl FnMut(usize)) {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const TABS: u64 = 0x0909_0909_0909_0909;
    let (words, rest) = line.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let tabless = u64::from_le_bytes(*word) ^ TABS;
        // The highest bit of every byte that is zero, and of no other.
        let mut zero = !(((tabless & LOW) + LOW) | tabless | LOW);
        while zero != 0 {
            field(at * 8 + zero.trailing_zeros() as usize / 8);
            zero &= zero - 1;
        }
    }
    let start = line.len() - rest.len();
    for (at, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == b'\t') {
        field(start + at);
    }
    field(line.len());
}

/// The value of a field with backslashes: NULL, or copied without them into the arena.
fn escaped(field: &[u8], arena: &mut Vec<u8>) -> Cell {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_end_where_a_split_at_tabs_ends_them(line in proptest::collection::vec(
            prop_oneof![Just(b'\t'), Just(8_u8), Just(10), Just(0x89), Just(b'\\'), any::<u8>()], 0..60,
        )) {
            let mut ends = Vec::new();
            tabs(&line, |end| ends.push(end));
            let mut expected = Vec::new();
            let mut at = 0;
            for field in line.split(|byte| *byte == b'\t') {
                expected.push(at + field.len());
                at += field.len() + 1;
            }
            prop_assert_eq!(ends, expected);
        }
    }
}
