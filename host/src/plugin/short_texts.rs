//! What a guest reads most often: rows of short texts, encoded without a look at what the texts are.

use super::encode::CALL_BYTES_MAX;
use super::plan::InUse;
use super::wire::Wire;
use crate::batch::{Batch, Row, Tuple};

/// Bytes of a short text that are copied, those that are none of it included.
const SHORT_BYTES: usize = 32;

/// Encodes rows of short texts alone, as many as there are at the beginning. Returns how many. Texts are copied 32 bytes
/// at a time, whatever their length, into room that is made for several rows at once.
#[inline]
pub(crate) fn short_texts(
    plan: &InUse,
    batch: &Batch,
    rows: &[Row],
    new_of: impl Fn(&Row) -> Option<Tuple>,
    (head, head_len): (&[u8; 16], usize),
    out: &mut Wire,
) -> usize {
    const ROWS: usize = 64;
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
