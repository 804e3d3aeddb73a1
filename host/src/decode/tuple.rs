//! Tuples of pgoutput: one cell per slot of the relation, nothing copied.

use super::DecodeError;
use super::binary::{Columns, OfRelation};
use super::cursor::Cursor;
use crate::batch::{Batch, Cell, Relation, Tuple};

#[inline]
pub(super) fn expect(cursor: &mut Cursor<'_>, kind: u8) -> Result<(), DecodeError> {
    match cursor.u8("the kind of a tuple")? {
        found if found == kind => Ok(()),
        found => Err(DecodeError::Unexpected {
            lsn: cursor.lsn,
            found,
            expected: "a new tuple",
        }),
    }
}

/// Indexes a tuple: one cell per slot of the relation. Columns that the relation doesn't have are passed over, ones
/// that the tuple doesn't have are absent (servers 15.0 and 15.1 send such tuples under column lists). `binary` makes text
/// of values in binary form; without it they stay as they are.
#[inline]
pub(super) fn tuple(
    cursor: &mut Cursor<'_>,
    batch: &mut Batch,
    relation: u32,
    key_only: bool,
    binary: Option<&mut Columns>,
) -> Result<Tuple, DecodeError> {
    let Batch {
        cells,
        relations,
        arena,
        ..
    } = batch;
    let relation: &Relation = &relations[relation as usize];
    let binary = binary.map(|columns| columns.of(relation));
    let count = cursor.u16("the number of columns of a tuple")? as usize;
    let start = cells.len();
    let slots = relation.slots as usize;
    cells.resize(start + slots, Cell::ABSENT);
    let places = &mut cells[start..];
    let mut at = 0;
    loop {
        if binary.is_none() {
            let known = slots.min(count);
            at += cursor.texts(places.get_mut(at..known).unwrap_or_default());
        }
        if at >= count {
            break;
        }
        let cell = other_value(cursor, at, binary.as_ref(), arena)?;
        if let Some(place) = places.get_mut(at) {
            *place = cell;
        }
        at += 1;
    }
    if key_only {
        for (cell, column) in cells[start..].iter_mut().zip(&relation.columns) {
            if !column.key {
                *cell = Cell::ABSENT;
            }
        }
    }
    Ok(Tuple(start as u32))
}

/// Any value.
#[inline]
fn other_value(
    cursor: &mut Cursor<'_>,
    at: usize,
    binary: Option<&OfRelation<'_>>,
    arena: &mut Vec<u8>,
) -> Result<Cell, DecodeError> {
    Ok(match cursor.u8("the kind of a value")? {
        b't' => {
            let len = cursor.u32("the length of a value")? as usize;
            let cell = Cell::text(cursor.position(), len);
            cursor.take(len, "the end of a value")?;
            cell
        }
        b'n' => Cell::NULL,
        b'u' => Cell::UNCHANGED,
        b'b' => {
            let len = cursor.u32("the length of a value")? as usize;
            let position = cursor.position();
            let value = cursor.take(len, "the end of a value")?;
            match binary {
                Some(columns) => columns.cell(at, value, position, arena)?,
                None => Cell::binary(position, len),
            }
        }
        found => {
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found,
                expected: "the kind of a value",
            });
        }
    })
}
