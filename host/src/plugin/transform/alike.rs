//! What most rows are: new images alone, of one table, with nothing or a patch of few columns said of each.

use super::image::{short_float, short_text};
use super::{Applied, Apply, Image, Target};
use crate::batch::{Batch, Cell, Row, Tuple};
use crate::plugin::cursor::KnownPatch;
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
    /// `image`; so many of them are known to be. Returns how many; what comes behind them has to be looked at more closely.
    pub(super) fn alike(
        &mut self,
        plan: &InUse,
        rows: &[Row],
        marks: &[u8],
        image: u32,
        known: Option<usize>,
    ) -> Applied<usize> {
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
            // They were looked at as they were encoded, mostly.
            let known = known.map(|known| known.min(RUN_MAX));
            let run = known.unwrap_or_else(|| rows.iter().zip(marks).take(RUN_MAX).take_while(is_alike).count());
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
            let output = &plan.outputs[0];
            let least = match copies {
                Copies::InPlace => self.patch_copies::<true>(output, rows, image, before, &copies)?,
                _ => self.patch_copies::<false>(output, rows, image, before, &copies)?,
            };
            self.advance(least)?;
        }
        let said = self.next.map_or(rows.len(), |(of, _)| row_of(of, image));
        let count = said.min(rows.len());
        self.out.truncate(before + count);
        Ok(count)
    }

    /// Patches rows, which stand in `out` from `carried` on, as long as that is what the reply says. Returns the guest row
    /// behind the last one.
    fn patch_copies<const IN_PLACE: bool>(
        &mut self,
        output: &Output,
        rows: &[Row],
        image: u32,
        carried: usize,
        copies: &Copies,
    ) -> Applied<u32> {
        let mut run = Run::new(image);
        while let Some(unread) = self.short_patches::<IN_PLACE>(output, rows, carried, copies, &mut run) {
            let Unread { of, at, tuple } = unread;
            let shipped = Image::new(&rows[at], of, tuple, false, mark::NEW);
            let value = self.any_value(output, run.column, shipped)?;
            let made = copies.of(at, tuple);
            self.batch.change_present(made, run.slot, value);
            self.out[carried + at].new = Some(made);
            self.left -= 1;
            run.least = of + 1;
        }
        Ok(run.least)
    }

    /// The same up to the first value that isn't a short one, which is still to be read.
    ///
    /// What it works on is held apart from all else, so that it stays in registers.
    fn short_patches<const IN_PLACE: bool>(
        &mut self,
        output: &Output,
        rows: &[Row],
        carried: usize,
        copies: &Copies,
        run: &mut Run,
    ) -> Option<Unread> {
        let (mut cursor, mut left, mut now) = (self.cursor, self.left, *run);
        let Batch {
            cells,
            arena,
            overwritten,
            ..
        } = &mut *self.batch;
        let (cells, out) = (cells.as_mut_slice(), self.out.get_mut(carried..).unwrap_or_default());
        let mut unread = None;
        while left > 0 {
            let begins = cursor.position();
            let known = cursor.known_patch(&now.known).map(|of| (of, now.column));
            let Some((of, column)) = known.or_else(|| cursor.patch_of_one()) else {
                break;
            };
            if column != now.column
                && let Some(writable) = output.columns.get(column).filter(|of| of.writable)
            {
                (now.column, now.slot, now.class) = (column, writable.slot, writable.class);
                now.known = KnownPatch::NONE;
            }
            let at = row_of(of, now.image);
            let new = rows.get(at).and_then(|row| row.new);
            let (Some(tuple), true) = (new, of >= now.least && column == now.column) else {
                cursor.go_to(begins);
                break;
            };
            let value = match now.class {
                _ if known.is_some() => Some(now.value),
                Class::Text => short_text(&mut cursor, arena),
                Class::Float8 => short_float(&mut cursor, arena),
                _ => None,
            };
            let Some(value) = value else {
                unread = Some(Unread { of, at, tuple });
                break;
            };
            if known.is_none()
                && now.class == Class::Text
                && let Some(known) = cursor.as_known(begins)
            {
                // Bytes of the arena are never written over: rows may share them.
                (now.known, now.value) = (known, value);
            }
            let made = copies.of(at, tuple);
            overwritten.write_present(cells, made, now.slot, value, IN_PLACE);
            // Where it is patched in place, the row has that tuple already.
            if !IN_PLACE && let Some(row) = out.get_mut(at) {
                row.new = Some(made);
            }
            left -= 1;
            now.least = of + 1;
        }
        (self.cursor, self.left, *run) = (cursor, left, now);
        unread
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

/// How far the rows of a run are patched, and what is known of the last patch: mostly all rows are patched in the same
/// column, and masks often say the same of all.
#[derive(Clone, Copy)]
struct Run {
    /// The guest row of its first row.
    image: u32,
    /// The least guest row that may follow.
    least: u32,
    column: usize,
    slot: u16,
    class: Class,
    /// A patch of that column, and the value that it gives.
    known: KnownPatch,
    value: Cell,
}

impl Run {
    fn new(image: u32) -> Self {
        Self {
            image,
            least: image,
            column: usize::MAX,
            slot: 0,
            class: Class::Text,
            known: KnownPatch::NONE,
            value: Cell::NULL,
        }
    }
}

/// A patch of which the value is still to be read.
struct Unread {
    /// The guest row.
    of: u32,
    /// The row, counted from the first.
    at: usize,
    /// As it came.
    tuple: Tuple,
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
