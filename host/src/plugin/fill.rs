//! Where the old row is whole, what the server didn't send of the new one is filled in from it.
//!
//! This happens once, before the first plugin: a value that was filled in goes through all of them like any other. Never
//! behind a plugin, or a raw value could come back behind a mask.

use crate::batch::{Batch, Cell, OldImage, Op, Row, Tuple};

/// Fills unchanged TOAST values of new images in from whole old ones. Only cells are copied. Tells whether there were
/// any: then `filled` are the rows.
pub(crate) fn fill_all(batch: &mut Batch, rows: &[Row], filled: &mut Vec<Row>) -> bool {
    let Some(first) = rows.iter().position(|row| lacking(batch, row).is_some()) else {
        return false;
    };
    filled.clear();
    filled.extend_from_slice(rows);
    for row in &mut filled[first..] {
        if let Some((new, old)) = lacking(batch, row) {
            row.new = Some(fill(batch, row, new, old));
        }
    }
    true
}

/// New and old image of a change of which the first lacks what the second has.
#[inline]
fn lacking(batch: &Batch, row: &Row) -> Option<(Tuple, Tuple)> {
    if row.op != Op::Update || row.old_image != OldImage::Full {
        return None;
    }
    let (new, old) = (row.new?, row.old?);
    let slots = usize::from(batch.relation(row).slots);
    let start = new.0 as usize;
    let lacks = batch.cells[start..start + slots].contains(&Cell::UNCHANGED);
    lacks.then_some((new, old))
}

fn fill(batch: &mut Batch, row: &Row, new: Tuple, old: Tuple) -> Tuple {
    let slots = batch.relation(row).slots;
    let filled = batch.copy_tuple(new, slots);
    for slot in 0..usize::from(slots) {
        if batch.cells[filled.0 as usize + slot] == Cell::UNCHANGED {
            batch.cells[filled.0 as usize + slot] = batch.cells[old.0 as usize + slot];
        }
    }
    filled
}
