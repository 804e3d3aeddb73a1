//! A transform's reply, checked and applied.
//!
//! Applying only appends to the batch: tuples are copied before they are written, and rows go to a list of their own.
//! So a reply whose last byte is wrong has changed nothing that anybody sees.

use super::cursor::Cursor;
use super::encode::{Encoder, mark};
use super::error::RowErrorKind;
use super::filter::{Unapplied, code, done, reason};
use super::plan::{Entry, InUse, Output, Plan};
use super::values::{Class, Decoded, decode};
use crate::batch::{Batch, Cell, OldImage, Op, Row, Tuple, Value};
use rowmill_abi::{FAN_OUT_MAX, action, default, op};

type Applied<T> = Result<T, Unapplied>;

/// Buffers that are kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Output columns that the image at hand was given.
    written: Vec<usize>,
}

/// The two images of a change, and which output they go to.
struct Change<'a> {
    plan: &'a InUse,
    row: Row,
    output: usize,
    old_output: Option<usize>,
    dropped: bool,
    /// Whether rows took its place.
    fanned_out: bool,
}

struct Apply<'a, 'r> {
    cursor: Cursor<'r>,
    /// Actions that are still to be read, the one at hand not among them.
    left: usize,
    /// The guest row that the action at hand is for, and how many elements it has left.
    next: Option<(u32, usize)>,
    images: u32,
    drops: bool,
    batch: &'a mut Batch,
    entries: &'a mut [Entry],
    out: &'a mut Vec<Row>,
    written: &'a mut Vec<usize>,
}

/// Applies a transform's reply to the rows of a call: what becomes of them goes to `out`. Tells whether a row was fanned
/// out.
#[expect(clippy::too_many_arguments, reason = "the parts of a stage, borrowed one by one")]
pub(crate) fn apply(
    reply: &[u8],
    encoder: &Encoder,
    rows: &[Row],
    plans: &[Plan],
    entries: &mut [Entry],
    scratch: &mut Scratch,
    batch: &mut Batch,
    out: &mut Vec<Row>,
) -> Applied<bool> {
    let (mut cursor, left) = done(reply)?;
    if left != 2 {
        return Ok(cursor.bad("a transform's reply is [0, default, actions]")?);
    }
    let drops = cursor.index(usize::from(default::DROP))? == usize::from(default::DROP);
    let left = cursor.array()?;
    let images = encoder.images;
    let written = &mut scratch.written;
    let mut apply = Apply {
        cursor,
        left,
        next: None,
        images,
        drops,
        batch,
        entries,
        out,
        written,
    };
    apply.advance(0)?;
    let mut image = 0;
    let mut any_fan_out = false;
    for (row, marks) in rows.iter().zip(&encoder.marks) {
        if marks & mark::SHIPPED == 0 {
            if marks & mark::DROP == 0 {
                apply.out.push(*row);
            }
            continue;
        }
        let Plan::Use(plan) = &plans[apply.entries[row.relation as usize].plan as usize] else {
            continue;
        };
        any_fan_out |= apply.change(plan, row, *marks, &mut image)?;
    }
    apply.cursor.finish()?;
    Ok(any_fan_out)
}

impl Apply<'_, '_> {
    /// Reads which guest row the next action is for. They ascend, at most one for each.
    #[inline]
    fn advance(&mut self, least: u32) -> Applied<()> {
        self.next = None;
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let len = self.cursor.array()?;
        if len < 2 || self.images == 0 {
            return Ok(self
                .cursor
                .bad("an action is [row, action, ...] of a row of the call")?);
        }
        let image = self.cursor.index(self.images as usize - 1)? as u32;
        if image < least {
            return Ok(self.cursor.bad("actions don't ascend by row")?);
        }
        self.next = Some((image, len - 1));
        Ok(())
    }

    fn change(&mut self, plan: &InUse, row: &Row, marks: u8, image: &mut u32) -> Applied<bool> {
        let before = self.out.len();
        let mut change = Change {
            plan,
            row: *row,
            output: 0,
            old_output: None,
            dropped: false,
            fanned_out: false,
        };
        if let (Some(old), true) = (row.old, marks & mark::OLD != 0) {
            change.row.old = Some(self.image(&mut change, old, true, marks, *image)?);
            change.old_output = Some(change.output);
            *image += 1;
        }
        if let (Some(new), true) = (row.new, marks & mark::NEW != 0) {
            change.output = 0;
            change.row.new = Some(self.image(&mut change, new, false, marks, *image)?);
            *image += 1;
        }
        if change.dropped {
            self.out.truncate(before);
            return Ok(false);
        }
        if change.fanned_out {
            return Ok(true);
        }
        if change.row.new.is_some() && change.old_output.is_some_and(|old| old != change.output) {
            let what = "the two images of a change go to different outputs".to_owned();
            return Err(Unapplied::Breach {
                image: *image - 1,
                what,
            });
        }
        change.row.relation = self.relation(plan, change.output, row.relation);
        self.out.push(change.row);
        Ok(false)
    }

    /// The index of an output relation in the batch.
    #[inline]
    fn relation(&mut self, plan: &InUse, output: usize, input: u32) -> u32 {
        let target = &plan.outputs[output];
        if target.same {
            return input;
        }
        let entry = &mut self.entries[input as usize];
        if output == 0 && entry.output != Entry::UNKNOWN.output {
            return entry.output;
        }
        let index = self.batch.relation_index(&target.relation);
        if output == 0 {
            entry.output = index;
        }
        index
    }

    /// What becomes of one image.
    fn image(&mut self, change: &mut Change<'_>, tuple: Tuple, old: bool, marks: u8, image: u32) -> Applied<Tuple> {
        let plan = change.plan;
        let Some((_, len)) = self.next.filter(|(row, _)| *row == image) else {
            change.dropped |= self.drops;
            return self.carry(plan, tuple, old, marks, image);
        };
        let kind = self.cursor.index(usize::from(action::STOP))? as u8;
        let wants = |wanted: usize, cursor: &Cursor<'_>| match len == wanted {
            true => Ok(()),
            false => cursor.bad("an action with the wrong number of elements"),
        };
        let made = match kind {
            action::PASS => {
                wants(1, &self.cursor)?;
                self.carry(plan, tuple, old, marks, image)?
            }
            action::DROP => {
                wants(1, &self.cursor)?;
                change.dropped = true;
                tuple
            }
            action::PATCH => {
                wants(2, &self.cursor)?;
                self.patch(plan, &change.row, tuple, old, marks, image)?
            }
            action::REPLACE => {
                wants(3, &self.cursor)?;
                change.output = self.cursor.index(plan.outputs.len() - 1)?;
                let key_only = old && change.row.old_image == OldImage::Key;
                self.replace(plan, &change.row, change.output, tuple, old, key_only, image)?
            }
            action::FAN_OUT => {
                wants(2, &self.cursor)?;
                if old {
                    return breach(image, "an old image can't be fanned out");
                }
                self.fan_out(plan, &change.row, tuple, image)?;
                change.fanned_out = true;
                tuple
            }
            action::ROUTE => return breach(image, "sending a row to another target is not supported yet"),
            action::REJECT => {
                wants(3, &self.cursor)?;
                let kind = RowErrorKind::Rejected {
                    code: code(&mut self.cursor)?,
                    reason: reason(&mut self.cursor)?,
                };
                return Err(Unapplied::Row { image, kind });
            }
            _ => {
                wants(2, &self.cursor)?;
                let kind = RowErrorKind::Stop {
                    reason: reason(&mut self.cursor)?,
                };
                return Err(Unapplied::Row { image, kind });
            }
        };
        self.advance(image + 1)?;
        Ok(made)
    }

    /// An image that the plugin lets pass.
    #[inline]
    fn carry(&mut self, plan: &InUse, tuple: Tuple, old: bool, marks: u8, image: u32) -> Applied<Tuple> {
        let output = &plan.outputs[0];
        let partial = old && marks & mark::OLD_PARTIAL != 0;
        if output.added == 0 && !output.writes_key && !partial {
            return Ok(tuple);
        }
        self.written.clear();
        let copy = self.copy(plan, output, tuple);
        self.settle(output, copy, partial, image)?;
        Ok(copy)
    }

    /// A copy of an input tuple with the cells that the output adds.
    #[inline]
    fn copy(&mut self, plan: &InUse, output: &Output, tuple: Tuple) -> Tuple {
        let copy = self.batch.copy_tuple(tuple, plan.input.slots);
        for _ in 0..output.added {
            self.batch.cells.push(Cell::NULL);
        }
        copy
    }

    #[inline]
    fn patch(&mut self, plan: &InUse, row: &Row, tuple: Tuple, old: bool, marks: u8, image: u32) -> Applied<Tuple> {
        let output = &plan.outputs[0];
        let len = self.cursor.array()?;
        if len % 2 != 0 {
            return Ok(self.cursor.bad("a patch is [column, value, ...]")?);
        }
        let copy = self.copy(plan, output, tuple);
        self.written.clear();
        for _ in 0..len / 2 {
            let at = self.cursor.index(output.columns.len() - 1)?;
            let column = output.columns[at];
            if !column.writable {
                let name = &output.relation.columns[at].name;
                return breach(image, format!("it writes column {name}, which isn't in its `writes`"));
            }
            let cell = self.value(output, at, column.class, allowed(row, old), image)?;
            let target = copy.0 as usize + usize::from(column.slot);
            // A column that the image hasn't stays absent: it must not come back by being written.
            if column.added || self.batch.cells[target] != Cell::ABSENT {
                self.batch.cells[target] = cell;
            }
            self.written.push(at);
        }
        let partial = old && marks & mark::OLD_PARTIAL != 0;
        if partial || output.writes_key {
            self.settle(output, copy, partial, image)?;
        }
        Ok(copy)
    }

    /// Reads a value for a column.
    #[inline]
    fn value(&mut self, output: &Output, at: usize, class: Class, allowed: Allowed, image: u32) -> Applied<Cell> {
        let scalar = self.cursor.scalar()?;
        let decoded = decode(class, scalar, &mut self.batch.arena);
        let name = || &output.relation.columns[at].name;
        let cell = match decoded {
            Ok(Decoded::Text(start)) => {
                let len = self.batch.arena.len() - start;
                if len > Cell::MAX_LEN || self.batch.arena.len() > u32::MAX as usize {
                    return breach(image, format!("its value for column {} is too large", name()));
                }
                Cell::arena(start, len)
            }
            Ok(Decoded::Null) => Cell::NULL,
            Ok(Decoded::Unchanged) if allowed.unchanged => Cell::UNCHANGED,
            Ok(Decoded::Absent) if allowed.absent => Cell::ABSENT,
            Ok(Decoded::Unchanged | Decoded::Absent) => {
                return breach(
                    image,
                    format!("it gives no value for column {} where one is needed", name()),
                );
            }
            Err(what) => return breach(image, format!("its value for column {} is {what}", name())),
        };
        Ok(cell)
    }

    /// What must hold of an image that may have been written.
    ///
    /// A column that the plugin writes, in an image that lacks something which it reads, is stripped unless it was
    /// written: the plugin could not have judged it. A column of the key can't be stripped, so it must be written.
    fn settle(&mut self, output: &Output, tuple: Tuple, partial: bool, image: u32) -> Applied<()> {
        for (at, column) in output.columns.iter().enumerate() {
            if !(column.writable || column.added) || self.written.contains(&at) {
                continue;
            }
            let cell = tuple.0 as usize + usize::from(column.slot);
            if column.key && (partial || column.added) {
                let name = &output.relation.columns[at].name;
                return breach(
                    image,
                    format!("column {name} is part of the key, but isn't written in every image"),
                );
            }
            if partial {
                self.batch.cells[cell] = Cell::ABSENT;
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one image with all that is known of it")]
    fn replace(
        &mut self,
        plan: &InUse,
        row: &Row,
        output: usize,
        original: Tuple,
        old: bool,
        key_only: bool,
        image: u32,
    ) -> Applied<Tuple> {
        let output = &plan.outputs[output];
        if self.cursor.array()? != output.columns.len() {
            return Ok(self.cursor.bad("not as many values as the output has columns")?);
        }
        let made = self
            .batch
            .push_tuple(std::iter::repeat_n(Cell::ABSENT, usize::from(output.relation.slots)));
        for (at, column) in output.columns.iter().enumerate() {
            let mut cell = self.value(output, at, column.class, allowed(row, old), image)?;
            let target = made.0 as usize + usize::from(column.slot);
            self.batch.cells[target] = cell;
            if !column.writable {
                cell = self.unwritten(output, at, made, original, image)?;
            }
            if key_only && !column.key {
                cell = Cell::ABSENT;
            } else if key_only && cell == Cell::ABSENT {
                let name = &output.relation.columns[at].name;
                return breach(
                    image,
                    format!("column {name} is part of the key, but isn't written in every image"),
                );
            }
            self.batch.cells[target] = cell;
        }
        Ok(made)
    }

    /// A column that isn't in `writes` must be as it was; then its old cell stands.
    fn unwritten(&self, output: &Output, at: usize, made: Tuple, original: Tuple, image: u32) -> Applied<Cell> {
        let column = output.columns[at];
        let given = self.batch.value(made, column.slot);
        let (was, cell) = if column.added {
            (Value::Null, Cell::NULL)
        } else {
            let cell = self.batch.cells[original.0 as usize + usize::from(column.slot)];
            (self.batch.value(original, column.slot), cell)
        };
        if given == was {
            return Ok(cell);
        }
        let name = &output.relation.columns[at].name;
        breach(image, format!("it writes column {name}, which isn't in its `writes`"))
    }

    fn fan_out(&mut self, plan: &InUse, row: &Row, original: Tuple, image: u32) -> Applied<()> {
        let count = self.cursor.array()?;
        if count > FAN_OUT_MAX {
            return breach(
                image,
                format!("it makes {count} rows of one; {FAN_OUT_MAX} are allowed"),
            );
        }
        for _ in 0..count {
            if self.cursor.array()? != 4 {
                return Ok(self.cursor.bad("a row of a fan-out is [op, output, values, route]")?);
            }
            let kind = self.cursor.index(usize::from(op::READ))? as u8;
            let output = self.cursor.index(plan.outputs.len() - 1)?;
            let mut made = Row {
                old: None,
                old_image: OldImage::Full,
                ..*row
            };
            made.op = match kind {
                op::INSERT => Op::Insert,
                // Without an old image nobody knows whether it is there.
                op::UPDATE => Op::Upsert,
                op::DELETE => Op::Delete,
                op::READ => Op::Read,
                _ => return breach(image, "a fan-out of an operation that has no row"),
            };
            let tuple = self.replace(plan, &made, output, original, false, false, image)?;
            (made.new, made.old) = if kind == op::DELETE {
                (None, Some(tuple))
            } else {
                (Some(tuple), None)
            };
            if !self.cursor.nil() {
                return breach(image, "sending a row to another target is not supported yet");
            }
            made.relation = self.relation(plan, output, row.relation);
            self.out.push(made);
        }
        Ok(())
    }
}

/// Which of the values that are none an image may hold.
#[derive(Clone, Copy)]
struct Allowed {
    unchanged: bool,
    absent: bool,
}

#[inline]
fn allowed(row: &Row, old: bool) -> Allowed {
    Allowed {
        unchanged: !old && matches!(row.op, Op::Update | Op::Upsert),
        absent: old,
    }
}

fn breach<T>(image: u32, what: impl Into<String>) -> Applied<T> {
    Err(Unapplied::Breach {
        image,
        what: what.into(),
    })
}
