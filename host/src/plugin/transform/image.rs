//! One image: carried on, patched, replaced, or made into several rows.

use super::route::NO_ROUTE;
use super::{Applied, Apply, Image, Target, breach};
use crate::batch::{Batch, Cell, OldImage, Op, Row, Tuple, Value};
use crate::plugin::cursor::Cursor;
use crate::plugin::filter::Unapplied;
use crate::plugin::plan::{InUse, Output};
use crate::plugin::values::{Class, Decoded, append_f64, decode, is_hex_of};
use rowmill_abi::{FAN_OUT_MAX, op};

/// What `Cursor::short_text` gives at most.
const SHORT_TEXT_MAX: usize = 32;
/// More than a float of 64 bits is as text.
const FLOAT_TEXT_MAX: usize = 32;

impl Apply<'_, '_> {
    /// An image that the plugin lets pass.
    #[inline]
    pub(super) fn carry(&mut self, plan: &InUse, image: Image) -> Applied<Tuple> {
        let output = &plan.outputs[0];
        if output.added == 0 && !output.writes_key && !image.partial {
            return Ok(image.tuple);
        }
        self.written.clear();
        let made = self.copy(plan, image);
        self.settle(output, made, image)?;
        Ok(made)
    }

    /// The tuple to change for an image: a copy where it gets the cells that the first output adds, or where it has to stay.
    #[inline]
    fn copy(&mut self, plan: &InUse, image: Image) -> Tuple {
        if plan.outputs[0].added == 0 {
            return self.batch.writable(image.tuple, plan.input.slots);
        }
        let copy = self.batch.copy_tuple(image.tuple, plan.input.slots);
        let unwritten = if image.key_only { Cell::ABSENT } else { Cell::NULL };
        for _ in 0..plan.outputs[0].added {
            self.batch.cells.push(unwritten);
        }
        copy
    }

    #[inline]
    pub(super) fn patch(&mut self, plan: &InUse, image: Image) -> Applied<Tuple> {
        let output = &plan.outputs[0];
        let len = self.cursor.array()?;
        if len % 2 != 0 {
            return Ok(self.cursor.bad("a patch is [column, value, ...]")?);
        }
        // One that repeats columns costs more than its bytes, as each cell that goes is noted.
        if len / 2 > output.columns.len() {
            return Ok(self.cursor.bad("a patch of more columns than there are")?);
        }
        let made = self.copy(plan, image);
        let settle = image.partial || output.writes_key;
        self.written.clear();
        for _ in 0..len / 2 {
            // There is one: there are no more pairs than columns.
            let at = self.cursor.index(output.columns.len() - 1)?;
            let column = output.columns[at];
            if !column.writable {
                return undeclared(output, at, image);
            }
            let value = self.value(output, at, image)?;
            let was = *cell(self.batch, made, column.slot);
            // A column that the image hasn't stays absent: it must not come back by being written.
            let has_it = match column.added {
                true => column.key || !image.key_only,
                false => was != Cell::ABSENT,
            };
            if has_it {
                self.batch.change(made, column.slot, value);
            }
            if settle {
                self.written.push(at);
            }
        }
        if settle {
            self.settle(output, made, image)?;
        }
        Ok(made)
    }

    /// Reads a value for a column.
    #[inline]
    pub(super) fn value(&mut self, output: &Output, at: usize, image: Image) -> Applied<Cell> {
        if output.columns[at].class == Class::Text
            && let Some(cell) = short_text(&mut self.cursor, &mut self.batch.arena)
        {
            return Ok(cell);
        }
        self.any_value(output, at, image)
    }

    #[inline(never)]
    pub(super) fn any_value(&mut self, output: &Output, at: usize, image: Image) -> Applied<Cell> {
        if output.columns[at].class == Class::Float8
            && let Some(cell) = short_float(&mut self.cursor, &mut self.batch.arena)
        {
            return Ok(cell);
        }
        let scalar = self.cursor.scalar()?;
        let before = self.batch.arena.len();
        let what = match decode(output.columns[at].class, scalar, &mut self.batch.arena) {
            Ok(Decoded::Text(start)) => {
                let end = self.batch.arena.len();
                if end - start <= Cell::MAX_LEN && end <= u32::MAX as usize {
                    return Ok(Cell::arena(start, end - start));
                }
                "too large"
            }
            Ok(Decoded::Null) => return Ok(Cell::NULL),
            Ok(Decoded::Unchanged) if image.unchanged => return Ok(Cell::UNCHANGED),
            Ok(Decoded::Absent) if image.old => return Ok(Cell::ABSENT),
            Ok(Decoded::Unchanged | Decoded::Absent) => "none, where one is needed",
            Err(what) => what,
        };
        self.batch.arena.truncate(before);
        bad_value(output, at, image, what)
    }

    /// What must hold of an image that may have been written.
    ///
    /// A column that the plugin writes, in an image that lacks something which it reads, is stripped unless it was
    /// written: the plugin could not have judged it. A column of the key can't be stripped, so it must be written.
    fn settle(&mut self, output: &Output, made: Tuple, image: Image) -> Applied<()> {
        for (at, column) in output.columns.iter().enumerate() {
            if !(column.writable || column.added) {
                continue;
            }
            let is_written = self.written.contains(&at);
            let was = *cell(self.batch, made, column.slot);
            if column.key && (was == Cell::ABSENT || !is_written && (image.partial || column.added)) {
                return no_key(output, at, image);
            }
            if image.partial && !is_written {
                self.batch.change(made, column.slot, Cell::ABSENT);
            }
        }
        Ok(())
    }

    pub(super) fn replace(&mut self, output: &Output, image: Image) -> Applied<Tuple> {
        if self.cursor.array()? != output.columns.len() {
            return Ok(self.cursor.bad("not as many values as the output has columns")?);
        }
        let absent = std::iter::repeat_n(Cell::ABSENT, usize::from(output.relation.slots));
        let made = self.batch.push_tuple(absent);
        for (at, column) in output.columns.iter().enumerate() {
            let written = self.batch.arena.len();
            let value = self.value(output, at, image)?;
            if image.key_only && !column.key {
                continue;
            }
            *cell(self.batch, made, column.slot) = value;
            if !column.writable {
                self.keep(output, at, made, image)?;
                // It is there already.
                self.batch.arena.truncate(written);
            }
            if image.key_only && *cell(self.batch, made, column.slot) == Cell::ABSENT {
                return no_key(output, at, image);
            }
        }
        Ok(made)
    }

    /// A column that isn't in `writes` must be as it was; then its old cell stands.
    fn keep(&mut self, output: &Output, at: usize, made: Tuple, image: Image) -> Applied<()> {
        let column = output.columns[at];
        let (was, original) = match column.added {
            true => (Value::Null, Cell::NULL),
            false => (
                self.batch.value(image.tuple, column.slot),
                self.batch.cells[image.tuple.0 as usize + usize::from(column.slot)],
            ),
        };
        let is_same = match (was, self.batch.value(made, column.slot)) {
            // A long bytea stands there as it was received.
            (Value::Binary(bytes), Value::Text(text)) => is_hex_of(text, bytes),
            (was, is) => was == is,
        };
        if !is_same {
            return undeclared(output, at, image);
        }
        *cell(self.batch, made, column.slot) = original;
        Ok(())
    }

    pub(super) fn fan_out(&mut self, plan: &InUse, row: &Row, image: Image) -> Applied<()> {
        let count = self.cursor.array()?;
        if count > FAN_OUT_MAX {
            let what = format!("it makes {count} rows of one; {FAN_OUT_MAX} are allowed");
            return breach(image.index, what);
        }
        match self.rows_left.checked_sub(count as u64) {
            Some(left) => *self.rows_left = left,
            None => return Err(Box::new(Unapplied::TooManyRows { image: image.index })),
        }
        for _ in 0..count {
            if self.cursor.array()? != 4 {
                return Ok(self.cursor.bad("a row of a fan-out is [op, output, values, route]")?);
            }
            let kind = self.cursor.index(usize::from(op::READ))? as u8;
            let output = self.cursor.index(plan.outputs.len() - 1)?;
            let op = match kind {
                op::INSERT => Op::Insert,
                // Without an old image nobody knows whether it is there.
                op::UPDATE => Op::Upsert,
                op::DELETE => Op::Delete,
                op::READ => Op::Read,
                _ => return breach(image.index, "a fan-out of an operation that has no row"),
            };
            let unchanged = op == Op::Upsert;
            let tuple = Some(self.replace(&plan.outputs[output], Image { unchanged, ..image })?);
            let route = match self.cursor.nil() {
                true => NO_ROUTE,
                false => {
                    let name = self.cursor.str()?;
                    self.route(&plan.outputs[output], name, image.index)?
                }
            };
            let (new, old) = if op == Op::Delete { (None, tuple) } else { (tuple, None) };
            let relation = self.relation(plan, Target { output, route }, row.relation);
            let old_image = OldImage::Full;
            self.out.push(Row {
                op,
                new,
                old,
                old_image,
                relation,
                ..*row
            });
        }
        self.bounded(row, image)
    }

    /// A stage before may have made several rows of the change already.
    fn bounded(&mut self, row: &Row, image: Image) -> Applied<()> {
        let is_same = |other: &Row| (other.transaction, other.ordinal) == (row.transaction, row.ordinal);
        if self.out.get(self.change_start).is_some_and(|first| !is_same(first)) {
            let from_end = self.out.iter().rev().take_while(|other| is_same(other)).count();
            self.change_start = self.out.len() - from_end;
        }
        if self.out.len().saturating_sub(self.change_start) > ROWS_OF_CHANGE_MAX {
            return breach(image.index, "plugins make more than 65,536 rows of one change");
        }
        Ok(())
    }
}

/// A short text, put into the arena. `None` says nothing, and leaves both as they were.
#[inline(always)]
pub(super) fn short_text(cursor: &mut Cursor<'_>, arena: &mut Vec<u8>) -> Option<Cell> {
    let start = arena.len();
    if start + SHORT_TEXT_MAX > u32::MAX as usize {
        return None;
    }
    let (len, text) = cursor.short_text()?;
    // What is too much is taken back: a copy of a fixed size is two instructions.
    arena.extend_from_slice(text);
    arena.truncate(start + len);
    Some(Cell::arena(start, len))
}

/// A float of 64 bits, put into the arena as text. `None` says nothing, and leaves both as they were.
#[inline]
pub(super) fn short_float(cursor: &mut Cursor<'_>, arena: &mut Vec<u8>) -> Option<Cell> {
    let start = arena.len();
    if start + FLOAT_TEXT_MAX > u32::MAX as usize {
        return None;
    }
    append_f64(cursor.short_f64()?, arena);
    Some(Cell::arena(start, arena.len() - start))
}

/// Rows of a change are told apart by 16 bits.
pub(crate) const ROWS_OF_CHANGE_MAX: usize = 1 << 16;

#[inline]
pub(super) fn cell(batch: &mut Batch, tuple: Tuple, slot: u16) -> &mut Cell {
    &mut batch.cells[tuple.0 as usize + usize::from(slot)]
}

#[cold]
fn bad_value<T>(output: &Output, at: usize, image: Image, what: &str) -> Applied<T> {
    let name = &output.relation.columns[at].name;
    breach(image.index, format!("its value for column {name} is {what}"))
}

fn undeclared<T>(output: &Output, at: usize, image: Image) -> Applied<T> {
    let name = &output.relation.columns[at].name;
    breach(
        image.index,
        format!("it writes column {name}, which isn't in its `writes`"),
    )
}

fn no_key<T>(output: &Output, at: usize, image: Image) -> Applied<T> {
    let name = &output.relation.columns[at].name;
    let what = format!("column {name} is part of the key, but isn't written in every image");
    breach(image.index, what)
}
