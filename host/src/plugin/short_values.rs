//! What a guest reads most often: rows of short values, encoded without a look at what texts are.

use super::encode::CALL_BYTES_MAX;
use super::plan::InUse;
use super::values::{Class, nearest_f64, parse_f64, parse_int};
use super::wire::Wire;
use crate::batch::{Batch, Cell, Row, Tuple};
use rowmill_abi::{short_decimal_in, short_digits_in};

/// Bytes of a short text that are copied, those that are none of it included.
const SHORT_BYTES: usize = 32;
/// The same with what stands before it: no short value takes more.
const VALUE_BYTES: usize = 1 + SHORT_BYTES;
/// Bytes of a row's head that are copied.
const HEAD_BYTES: usize = 16;

/// Rows that room is made for at once, and bytes of it where they are wide.
const ROWS: usize = 64;
const ROOM_BYTES: usize = 16 * 1024;

/// Encodes rows of short values alone, as many as there are at the beginning. Returns how many. Each value has the room of
/// the longest, which is made for several rows at once, and is written by stores of a fixed size: texts 32 bytes at a
/// time, whatever their length.
#[inline]
pub(crate) fn short_values(
    plan: &InUse,
    batch: &Batch,
    rows: &[Row],
    new_of: impl Fn(&Row) -> Option<Tuple>,
    (head, head_len): (&[u8; HEAD_BYTES], usize),
    out: &mut Wire,
) -> usize {
    if let [read] = plan.read.as_slice()
        && read.class == Class::Text
    {
        return one_text(read.slot, batch, rows, new_of, (head, head_len), out);
    }
    let row_max = head.len() + plan.read.len() * VALUE_BYTES;
    let (cells, bytes, arena) = (batch.cells.as_slice(), &*batch.bytes, batch.arena.as_slice());
    let encode = |row: &Row, room: &mut [u8]| {
        let start = new_of(row)?.0 as usize;
        *room.first_chunk_mut()? = *head;
        let mut at = head_len;
        for read in &plan.read {
            let cell = cells.get(start + usize::from(read.slot))?;
            let room = room.get_mut(at..)?.first_chunk_mut::<VALUE_BYTES>()?;
            at += match cell.short_text(bytes, arena) {
                Some((len, text)) => short_value(read.class, text, len, room)?,
                None if *cell == Cell::NULL => {
                    room[0] = 0xc0;
                    1
                }
                None => return None,
            };
        }
        Some(at)
    };
    let mut count = 0;
    for rows in rows.chunks((ROOM_BYTES / row_max).clamp(1, ROWS)) {
        if out.len() + rows.len() * row_max > CALL_BYTES_MAX {
            break;
        }
        let room = out.space(rows.len() * row_max);
        let (mut len, mut encoded) = (0, 0);
        for row in rows {
            let Some(row_len) = room.get_mut(len..).and_then(|room| encode(row, room)) else {
                break;
            };
            len += row_len;
            encoded += 1;
        }
        out.advance(len);
        count += encoded;
        if encoded < rows.len() {
            break;
        }
    }
    count
}

/// Writes the value that the first `len` bytes are the text of. Returns how many bytes of the room it takes. `None` says
/// nothing: it may be none.
#[inline(always)]
fn short_value(class: Class, text: &[u8; SHORT_BYTES], len: usize, room: &mut [u8; VALUE_BYTES]) -> Option<usize> {
    let [marker, behind @ ..] = room;
    match class {
        Class::Text => {
            *marker = 0xa0 | len as u8;
            *behind = *text;
            Some(1 + len)
        }
        Class::Int2 | Class::Int4 | Class::Int8 => {
            let (negative, begins) = sign(text);
            let digits = short_digits_in(text.get(begins..)?.first_chunk()?, len.wrapping_sub(begins));
            let value = match digits.map(|size| size as i64) {
                Some(size) => Some(if negative { -size } else { size }),
                None => parse_int(text.get(..len)?),
            };
            Some(int(value?, marker, behind.first_chunk_mut()?))
        }
        Class::Float8 => {
            let (negative, begins) = sign(text);
            let decimal = short_decimal_in(text.get(begins..)?.first_chunk()?, len.wrapping_sub(begins));
            let value = match decimal.and_then(nearest_f64) {
                Some(size) => Some(if negative { -size } else { size }),
                None => parse_f64(text.get(..len)?).ok(),
            };
            *marker = 0xcb;
            *behind.first_chunk_mut()? = value?.to_be_bytes();
            Some(9)
        }
        Class::Bool => {
            *marker = match (len, text[0]) {
                (1, b't') => 0xc3,
                (1, b'f') => 0xc2,
                _ => return None,
            };
            Some(1)
        }
        Class::Float4 | Class::Bytea => None,
    }
}

/// Whether a number has a sign, and where its digits begin.
#[inline(always)]
fn sign(text: &[u8; SHORT_BYTES]) -> (bool, usize) {
    let negative = text[0] == b'-';
    (negative, usize::from(negative))
}

/// An integer in its shortest form: a marker and the last bytes of it. Returns how many bytes it takes.
#[inline(always)]
fn int(value: i64, marker: &mut u8, behind: &mut [u8; 8]) -> usize {
    let (first, len) = match value {
        -32..0x80 => (value as u8, 0),
        0x80..0x100 => (0xcc, 1),
        0x100..0x1_0000 => (0xcd, 2),
        0x1_0000..0x1_0000_0000 => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    *marker = first;
    // Of no bytes nothing counts, whatever is written.
    *behind = (value << ((64 - 8 * len) & 63)).to_be_bytes();
    1 + len
}

/// The same for one text, which is all that most filters and masks read: every row has the same room.
fn one_text(
    slot: u16,
    batch: &Batch,
    rows: &[Row],
    new_of: impl Fn(&Row) -> Option<Tuple>,
    (head, head_len): (&[u8; HEAD_BYTES], usize),
    out: &mut Wire,
) -> usize {
    const ROW_MAX: usize = HEAD_BYTES + VALUE_BYTES;
    /// A power of two, so that it is a mask that says where the next row may begin: then nothing has to be checked.
    const BEGINS: usize = 4096;
    const ROWS: usize = BEGINS / ROW_MAX;
    let (cells, bytes, arena) = (batch.cells.as_slice(), &*batch.bytes, batch.arena.as_slice());
    // Which it is: said here so that no place in a row has to be checked.
    let head_len = head_len.min(HEAD_BYTES);
    let encode = |row: &Row, room: &mut [u8; ROW_MAX]| {
        let cell = cells.get(new_of(row)?.0 as usize + usize::from(slot))?;
        let (len, text) = cell.short_text(bytes, arena)?;
        *room.first_chunk_mut()? = *head;
        let [marker, place @ ..] = room.get_mut(head_len..)?.first_chunk_mut::<VALUE_BYTES>()?;
        *marker = 0xa0 | len as u8;
        *place = *text;
        Some(head_len + 1 + len)
    };
    let mut count = 0;
    for rows in rows.chunks(ROWS) {
        if out.len() + BEGINS + ROW_MAX > CALL_BYTES_MAX {
            break;
        }
        let Some(room) = out.space(BEGINS + ROW_MAX).first_chunk_mut::<{ BEGINS + ROW_MAX }>() else {
            break;
        };
        let (mut len, mut encoded) = (0, 0);
        for row in rows {
            let room = room.get_mut(len % BEGINS..).and_then(|room| room.first_chunk_mut());
            let Some(row_len) = room.and_then(|room| encode(row, room)) else {
                break;
            };
            len += row_len;
            encoded += 1;
        }
        out.advance(len);
        count += encoded;
        if encoded < rows.len() {
            break;
        }
    }
    count
}
