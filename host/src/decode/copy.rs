//! Rows of `COPY ... TO STDOUT`, to the same batches as the stream's: lines of the text form here, see `copy_binary` for the
//! other one.

use super::DecodeError;
use super::binary::Types;
use super::copy_binary::BinaryRows;
use super::fields::fields;
use super::open::Size;
use super::straight::Straight;
use crate::batch::{Batch, Cell, OldImage, Op, OwnTypes, Relation, Row, Transaction, Tuple};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Bytes of one batch; cells point with 32 bits.
const BATCH_BYTES_MAX: usize = u32::MAX as usize;

/// Where the values of a line go.
#[derive(Debug)]
struct Places {
    /// By column.
    slots: Vec<u16>,
    /// Of a tuple.
    cells: usize,
}

/// Collects lines into a batch. The columns of the COPY are those of the relation, in its order.
#[derive(Debug)]
pub struct CopyDecoder {
    relation: Arc<Relation>,
    places: Places,
    bytes: BytesMut,
    batch: Batch,
    /// The number of the next row in its unit.
    next_ordinal: u64,
    last: Size,
    /// Where the COPY is in binary form.
    binary: Option<BinaryRows>,
    own_types: Arc<OwnTypes>,
}

impl CopyDecoder {
    pub fn new(relation: Arc<Relation>) -> Self {
        Self {
            places: Places {
                slots: relation.columns.iter().map(|column| column.slot).collect(),
                cells: usize::from(relation.slots),
            },
            relation,
            bytes: BytesMut::new(),
            batch: Batch::default(),
            next_ordinal: 0,
            last: Size::default(),
            binary: None,
            own_types: Arc::default(),
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
    /// types are alike everywhere, or are `own_types` that are read as such.
    #[must_use]
    pub fn straight(mut self, key: &[String], own_types: &Arc<OwnTypes>) -> Self {
        let straight = Straight::new(&self.relation, key);
        self.binary = Some(BinaryRows::straight(straight, Arc::clone(own_types)));
        self.own_types = Arc::clone(own_types);
        self
    }

    fn is_straight(&self) -> bool {
        self.binary.as_ref().is_some_and(BinaryRows::is_straight)
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
        let begin = self.bytes.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.bytes.extend_from_slice(line);
        let end = self.bytes.len();
        let rows = index(
            &self.bytes,
            begin,
            end,
            &self.places,
            self.next_ordinal,
            &mut self.batch,
        );
        self.next_ordinal = rows?;
        Ok(())
    }

    /// Takes whole CopyData frames with their headers as one batch, which keeps them: nothing is copied.
    pub fn decode(&mut self, frames: Bytes, transaction: Transaction) -> Result<Batch, DecodeError> {
        if frames.len() > BATCH_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "a batch of copied rows",
                limit: BATCH_BYTES_MAX,
            });
        }
        if self.last.bytes == 0 {
            // Mostly the others are about as long as the first.
            self.last = Size {
                bytes: frame(&frames, 0).map_or(0, |(_, end)| end),
                rows: 1,
                cells: self.places.cells + usize::from(self.is_straight()),
            };
        }
        self.batch.rows.reserve(self.last.of(self.last.rows, frames.len()));
        // Twice: a plugin that writes into every row copies every tuple once. None sees rows that go straight.
        let times = if self.is_straight() { 1 } else { 2 };
        self.batch
            .cells
            .reserve(times * self.last.of(self.last.cells, frames.len()));
        let mut at = 0;
        while at < frames.len() {
            let (begin, end) = frame(&frames, at).ok_or(DecodeError::CopyFrame)?;
            let (ordinal, batch) = (self.next_ordinal, &mut self.batch);
            self.next_ordinal = match &mut self.binary {
                Some(binary) => binary.index(&frames, begin, end, &self.relation, ordinal, batch)?,
                None => {
                    let newline = usize::from(end > begin && frames[end - 1] == b'\n');
                    index(&frames, begin, end - newline, &self.places, ordinal, batch)?
                }
            };
            at = end;
        }
        self.last = Size {
            bytes: frames.len(),
            rows: self.batch.rows.len(),
            cells: self.batch.cells.len(),
        };
        let mut batch = self.finish(transaction);
        batch.bytes = frames;
        Ok(batch)
    }

    /// The rows collected, as (a part of) `transaction`. The decoder goes on with the unit's next rows.
    pub fn finish(&mut self, transaction: Transaction) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        batch.bytes = Bytes::from(std::mem::take(&mut self.bytes));
        batch.binary = self.binary.is_some();
        batch.straight = self.is_straight();
        batch.own_types = Arc::clone(&self.own_types);
        batch.relations.push(Arc::clone(&self.relation));
        batch.transactions.push(transaction);
        batch
    }
}

/// Takes the line that lies from `begin` to `end` of the batch's bytes, as the row of this number. Returns the next one.
#[inline]
fn index(
    bytes: &[u8],
    begin: usize,
    end: usize,
    places: &Places,
    ordinal: u64,
    batch: &mut Batch,
) -> Result<u64, DecodeError> {
    let Batch { cells, arena, rows, .. } = batch;
    let start = cells.len();
    let mut count = 0;
    let Places { slots, cells: of_tuple } = places;
    cells.resize(start + of_tuple, Cell::ABSENT);
    if !slots.is_empty() {
        let tuple = &mut cells[start..];
        let mut at = begin;
        fields(bytes, begin, end, |end, is_escaped| {
            if let Some(slot) = slots.get(count) {
                tuple[usize::from(*slot)] = match is_escaped {
                    false => Cell::text(at, end - at),
                    true => escaped(&bytes[at..end], arena),
                };
            }
            count += 1;
            at = end + 1;
        });
    }
    if count != slots.len() {
        return Err(DecodeError::CopyColumns {
            expected: slots.len(),
            found: count,
        });
    }
    rows.push(row(start, ordinal));
    Ok(ordinal + 1)
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

/// The value of a field with backslashes: NULL, or copied without them into the arena.
#[inline(never)]
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
