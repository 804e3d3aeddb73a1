//! What most rows are: new images alone, of one table, with nothing or a patch of few columns said of each.

use super::{Applied, Apply, Image, Target};
use crate::batch::{Batch, Row, Tuple};
use crate::plugin::encode::mark;
use crate::plugin::plan::{InUse, Output};
use crate::plugin::values::Class;

/// Rows that are carried on at once. What is carried on in vain, where something else is said of one of them, is bounded
/// by it.
const RUN_MAX: usize = 128;
/// Rows that are looked at one by one before the next attempt at many.
const SINGLE_MAX: usize = 16;

impl Apply<'_, '_> {
    /// Applies the reply to as many rows at the beginning of `rows` as are like that, the first of which is the guest row
    /// `image`. Returns how many; what comes behind them has to be looked at more closely.
    pub(super) fn alike(&mut self, plan: &InUse, rows: &[Row], marks: &[u8], image: u32) -> Applied<usize> {
        let output = &plan.outputs[0];
        if output.added > 0 || output.writes_key || self.drops {
            return Ok(0);
        }
        let Some(first) = rows.first() else {
            return Ok(0);
        };
        let is_alike = |(row, marks): &(&Row, &u8)| {
            row.new.is_some() && row.old.is_none() && row.relation == first.relation && **marks == mark::NEW
        };
        if self.is_patch_of_one(image) {
            let run = rows.iter().zip(marks).take(RUN_MAX).take_while(is_alike).count();
            let count = self.patches_of_one(plan, &rows[..run], image)?;
            if count > 0 {
                return Ok(count);
            }
        }
        let mut relation = None;
        let mut count = 0;
        for (image, (row, marks)) in (image..).zip(rows.iter().zip(marks)).take(SINGLE_MAX) {
            let Some(new) = row.new.filter(|_| row.old.is_none() && row.relation == first.relation) else {
                break;
            };
            if *marks != mark::NEW {
                break;
            }
            let mut made = new;
            if let Some((_, len)) = self.next.filter(|(of, _)| *of == image) {
                let shipped = Image::new(row, image, new, false, *marks);
                let Some(patched) = self.short_patch(plan, new, shipped, len)? else {
                    break;
                };
                made = patched;
                self.advance(image + 1)?;
            }
            let relation = *relation.get_or_insert_with(|| self.relation(plan, Target::FIRST, first.relation));
            // Field by field: a row that is changed and then copied as a whole waits for what was just written.
            self.out.push(Row {
                relation,
                transaction: row.transaction,
                ordinal: row.ordinal,
                new: Some(made),
                old: None,
                extra: row.extra,
                fan_out: row.fan_out,
                op: row.op,
                old_image: row.old_image,
            });
            count += 1;
        }
        Ok(count)
    }

    /// Whether what the reply says of a guest row is nothing, or a patch of one column.
    fn is_patch_of_one(&self, image: u32) -> bool {
        let mut action = self.cursor;
        action.go_to(self.begins);
        self.next.is_none_or(|(of, _)| of != image) || action.patch_of_one().is_some()
    }

    /// Carries all of these rows on, then patches those of which the reply does so, up to the first of which it says
    /// anything but a patch of one column. Returns how many rows that leaves.
    fn patches_of_one(&mut self, plan: &InUse, rows: &[Row], image: u32) -> Applied<usize> {
        let Some(first) = rows.first() else {
            return Ok(0);
        };
        let before = self.out.len();
        self.out.extend_from_slice(rows);
        let relation = self.relation(plan, Target::FIRST, first.relation);
        if relation != first.relation {
            self.out[before..].iter_mut().for_each(|row| row.relation = relation);
        }
        if self.next.is_some_and(|(of, _)| row_of(of, image) < rows.len()) {
            // To be read again, as a whole.
            self.cursor.go_to(self.begins);
            self.left += 1;
            let copies = Copies::new(rows, plan.input.slots, self.batch);
            let least = self.patch_copies(&plan.outputs[0], rows, image, before, &copies)?;
            self.advance(least)?;
        }
        let said = self.next.map_or(rows.len(), |(of, _)| row_of(of, image));
        let count = said.min(rows.len());
        self.out.truncate(before + count);
        Ok(count)
    }

    /// Patches rows, which stand in `out` from `carried` on, as long as that is what the reply says. Returns the guest row
    /// behind the last one.
    fn patch_copies(
        &mut self,
        output: &Output,
        rows: &[Row],
        image: u32,
        carried: usize,
        copies: &Copies,
    ) -> Applied<u32> {
        let mut least = image;
        // What is known of the last column: mostly all rows are patched in the same.
        let (mut known, mut slot, mut is_text) = (usize::MAX, 0, false);
        while self.left > 0 {
            let begins = self.cursor.position();
            let Some((of, column)) = self.cursor.patch_of_one() else {
                break;
            };
            if column != known
                && let Some(writable) = output.columns.get(column).filter(|of| of.writable)
            {
                (known, slot, is_text) = (column, writable.slot, writable.class == Class::Text);
            }
            let at = row_of(of, image);
            let new = rows.get(at).and_then(|row| row.new);
            let (Some(tuple), true) = (new, of >= least && column == known) else {
                self.cursor.go_to(begins);
                break;
            };
            let value = match is_text.then(|| self.short_value()).flatten() {
                Some(value) => value,
                None => self.any_value(output, column, Image::new(&rows[at], of, tuple, false, mark::NEW))?,
            };
            let made = copies.of(at, tuple);
            self.batch.change_present(made, slot, value);
            self.out[carried + at].new = Some(made);
            self.left -= 1;
            least = of + 1;
        }
        Ok(least)
    }

    /// Patches a copy of `tuple` where that is what the action at hand does, of which `len` elements are left. `None` says
    /// nothing, and leaves the reply as it was.
    #[inline]
    fn short_patch(&mut self, plan: &InUse, tuple: Tuple, image: Image, len: usize) -> Applied<Option<Tuple>> {
        let before = self.cursor;
        let Some(columns) = (len == 2).then(|| self.cursor.short_patch()).flatten() else {
            return Ok(None);
        };
        let output = &plan.outputs[0];
        let made = self.batch.writable(tuple, plan.input.slots);
        for _ in 0..columns {
            let at = self
                .cursor
                .small()
                .filter(|at| output.columns.get(*at).is_some_and(|of| of.writable));
            let Some(at) = at else {
                self.cursor = before;
                return Ok(None);
            };
            let value = self.value(output, at, image)?;
            self.batch.change_present(made, output.columns[at].slot, value);
        }
        Ok(Some(made))
    }
}

/// The row of a guest row, counted from that of `image`; beyond all where it lies before.
#[inline]
fn row_of(of: u32, image: u32) -> usize {
    of.wrapping_sub(image) as usize
}

/// Where the tuples of a run of rows are patched.
enum Copies {
    /// Where they are.
    InPlace,
    /// One behind the other, from this cell on.
    Each { from: usize, slots: usize },
    /// The cells that they lie in, copied at once: so far behind themselves.
    Together { behind: usize },
}

impl Copies {
    fn new(rows: &[Row], slots: u16, batch: &mut Batch) -> Self {
        if batch.changes_in_place() {
            batch.expect_changes(rows.len());
            return Self::InPlace;
        }
        let slots = usize::from(slots);
        let starts = rows.iter().filter_map(|row| row.new).map(|new| new.0 as usize);
        let (first, from) = (starts.clone().next().unwrap_or(0), batch.cells.len());
        let mut end = first;
        let apart = starts.clone().all(|start| {
            let is_apart = start >= end;
            end = start + slots;
            is_apart
        });
        // As they are decoded, they lie together; rows that were taken out may lie between them.
        if apart && end - first <= 2 * rows.len() * slots {
            batch.cells.extend_from_within(first..end);
            return Self::Together { behind: from - first };
        }
        starts.for_each(|start| batch.cells.extend_from_within(start..start + slots));
        Self::Each { from, slots }
    }

    /// The copy of the tuple of a row, counted from the first.
    #[inline]
    fn of(&self, row: usize, tuple: Tuple) -> Tuple {
        Tuple(match self {
            Self::InPlace => return tuple,
            Self::Each { from, slots } => from + row * slots,
            Self::Together { behind } => tuple.0 as usize + behind,
        } as u32)
    }
}
