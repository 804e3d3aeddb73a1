//! A transform's reply, checked and applied.
//!
//! Applying only appends to the batch: tuples are copied before they are written, and rows go to a list of their own.
//! So a reply whose last byte is wrong has changed nothing that anybody sees.

mod image;

use crate::batch::{Batch, OldImage, Op, Row, Tuple};
use crate::plugin::cursor::Cursor;
use crate::plugin::encode::{Encoder, mark};
use crate::plugin::error::RowErrorKind;
use crate::plugin::filter::{Unapplied, code, done, reason};
use crate::plugin::plan::{Entry, InUse, Plan};
use rowmill_abi::{action, default};

type Applied<T> = Result<T, Unapplied>;

/// Buffers that are kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Output columns that the image at hand was given.
    written: Vec<usize>,
}

/// An image as it was shipped.
#[derive(Clone, Copy)]
struct Image {
    /// The guest row.
    index: u32,
    tuple: Tuple,
    old: bool,
    /// An old image that holds the key alone.
    key_only: bool,
    /// An old image that lacks a column which the plugin reads.
    partial: bool,
    /// Whether a column may be unchanged TOAST in it.
    unchanged: bool,
}

impl Image {
    fn new(row: &Row, index: u32, tuple: Tuple, old: bool, marks: u8) -> Self {
        Self {
            index,
            tuple,
            old,
            key_only: old && row.old_image == OldImage::Key,
            partial: old && marks & mark::OLD_PARTIAL != 0,
            unchanged: !old && matches!(row.op, Op::Update | Op::Upsert),
        }
    }
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
            let shipped = Image::new(row, *image, old, true, marks);
            change.row.old = Some(self.image(&mut change, shipped)?);
            change.old_output = Some(change.output);
            *image += 1;
        }
        if let (Some(new), true) = (row.new, marks & mark::NEW != 0) {
            change.output = 0;
            let shipped = Image::new(row, *image, new, false, marks);
            change.row.new = Some(self.image(&mut change, shipped)?);
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
    #[inline]
    fn image(&mut self, change: &mut Change<'_>, image: Image) -> Applied<Tuple> {
        let Some((_, len)) = self.next.filter(|(row, _)| *row == image.index) else {
            change.dropped |= self.drops;
            return self.carry(change.plan, image);
        };
        let made = self.act(change, image, len)?;
        self.advance(image.index + 1)?;
        Ok(made)
    }

    /// Does what the action at hand says, of which `len` elements are left.
    fn act(&mut self, change: &mut Change<'_>, image: Image, len: usize) -> Applied<Tuple> {
        let plan = change.plan;
        let kind = self.cursor.index(usize::from(action::STOP))? as u8;
        let wanted = match kind {
            action::PASS | action::DROP => 1,
            action::REPLACE | action::REJECT | action::ROUTE => 3,
            _ => 2,
        };
        if len != wanted {
            return Ok(self.cursor.bad("an action with the wrong number of elements")?);
        }
        let made = match kind {
            action::PASS => self.carry(plan, image)?,
            action::DROP => {
                change.dropped = true;
                image.tuple
            }
            action::PATCH => self.patch(plan, image)?,
            action::REPLACE => {
                change.output = self.cursor.index(plan.outputs.len() - 1)?;
                self.replace(&plan.outputs[change.output], image)?
            }
            action::FAN_OUT => {
                if image.old {
                    return breach(image.index, "an old image can't be fanned out");
                }
                self.fan_out(plan, &change.row, image)?;
                change.fanned_out = true;
                image.tuple
            }
            action::ROUTE => return breach(image.index, "sending a row to another target is not supported yet"),
            action::REJECT => {
                let kind = RowErrorKind::Rejected {
                    code: code(&mut self.cursor)?,
                    reason: reason(&mut self.cursor)?,
                };
                return Err(Unapplied::Row {
                    image: image.index,
                    kind,
                });
            }
            _ => {
                let kind = RowErrorKind::Stop {
                    reason: reason(&mut self.cursor)?,
                };
                return Err(Unapplied::Row {
                    image: image.index,
                    kind,
                });
            }
        };
        Ok(made)
    }
}

fn breach<T>(image: u32, what: impl Into<String>) -> Applied<T> {
    Err(Unapplied::Breach {
        image,
        what: what.into(),
    })
}
