//! What a guest reads most often: rows of short texts, encoded without a look at what the texts are.

use super::encode::CALL_BYTES_MAX;
use super::plan::InUse;
use super::wire::Wire;
use crate::batch::{Batch, Row, Tuple};

/// Bytes of a short text that are copied, those that are none of it included.
const SHORT_BYTES: usize = 32;
/// Bytes of a row's head that are copied.
const HEAD_BYTES: usize = 16;

/// Rows that room is made for at once.
const ROWS: usize = 64;

/// Encodes rows of short texts alone, as many as there are at the beginning. Returns how many. Texts are copied 32 bytes
/// at a time, whatever their length, into room that is made for several rows at once.
#[inline]
pub(crate) fn short_texts(
    plan: &InUse,
    batch: &Batch,
    rows: &[Row],
    new_of: impl Fn(&Row) -> Option<Tuple>,
    (head, head_len): (&[u8; HEAD_BYTES], usize),
    out: &mut Wire,
) -> usize {
    if let [read] = plan.read.as_slice() {
        return one_text(read.slot, batch, rows, new_of, (head, head_len), out);
    }
    let row_max = head.len() + plan.read.len() * (1 + SHORT_BYTES);
    let (cells, bytes, arena) = (batch.cells.as_slice(), &*batch.bytes, batch.arena.as_slice());
    let encode = |row: &Row, room: &mut [u8]| {
        let start = new_of(row)?.0 as usize;
        *room.first_chunk_mut()? = *head;
        let mut at = head_len;
        for read in &plan.read {
            let (len, text) = cells.get(start + usize::from(read.slot))?.short_text(bytes, arena)?;
            let [marker, place @ ..] = room.get_mut(at..)?.first_chunk_mut::<{ 1 + SHORT_BYTES }>()?;
            *marker = 0xa0 | len as u8;
            *place = *text;
            at += 1 + len;
        }
        Some(at)
    };
    let mut count = 0;
    for rows in rows.chunks(ROWS) {
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

/// The same for one column, which is all that most filters and masks read: every row has the same room.
fn one_text(
    slot: u16,
    batch: &Batch,
    rows: &[Row],
    new_of: impl Fn(&Row) -> Option<Tuple>,
    (head, head_len): (&[u8; HEAD_BYTES], usize),
    out: &mut Wire,
) -> usize {
    const ROW_MAX: usize = HEAD_BYTES + 1 + SHORT_BYTES;
    let (cells, bytes, arena) = (batch.cells.as_slice(), &*batch.bytes, batch.arena.as_slice());
    // Which it is: said here so that no place in a row has to be checked.
    let head_len = head_len.min(HEAD_BYTES);
    let encode = |row: &Row, room: &mut [u8; ROW_MAX]| {
        let cell = cells.get(new_of(row)?.0 as usize + usize::from(slot))?;
        let (len, text) = cell.short_text(bytes, arena)?;
        *room.first_chunk_mut()? = *head;
        let [marker, place @ ..] = room.get_mut(head_len..)?.first_chunk_mut::<{ 1 + SHORT_BYTES }>()?;
        *marker = 0xa0 | len as u8;
        *place = *text;
        Some(head_len + 1 + len)
    };
    let mut count = 0;
    for rows in rows.chunks(ROWS) {
        if out.len() + ROWS * ROW_MAX > CALL_BYTES_MAX {
            break;
        }
        let room = out.space(ROWS * ROW_MAX);
        let (mut len, mut encoded) = (0, 0);
        for row in rows {
            let room = room.get_mut(len..).and_then(|room| room.first_chunk_mut());
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
