//! Where the old row is whole, what the server didn't send of the new one is filled in from it.
//!
//! This happens once, before the first plugin: a value that was filled in goes through all of them like any other. Never
//! behind a plugin, or a raw value could come back behind a mask.

use crate::batch::{Batch, Cell, OldImage, Op, Row};

/// Fills unchanged TOAST values of the new image in from the whole old one. Only cells are copied.
#[inline]
pub(crate) fn fill_from_old(batch: &mut Batch, row: &mut Row) {
    if row.op != Op::Update || row.old_image != OldImage::Full {
        return;
    }
    let (Some(new), Some(old)) = (row.new, row.old) else {
        return;
    };
    let slots = batch.relation(row).slots;
    let span = |start: u32| start as usize..start as usize + usize::from(slots);
    if !batch.cells[span(new.0)].contains(&Cell::UNCHANGED) {
        return;
    }
    let filled = batch.copy_tuple(new, slots);
    for slot in 0..usize::from(slots) {
        if batch.cells[filled.0 as usize + slot] == Cell::UNCHANGED {
            batch.cells[filled.0 as usize + slot] = batch.cells[old.0 as usize + slot];
        }
    }
    row.new = Some(filled);
}
