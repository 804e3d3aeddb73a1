//! A transform's reply, checked and applied.
//!
//! Rows go to a list of their own, and tuples are copied before they are written, or what they were is noted in the batch:
//! the caller takes it back where the reply is wrong. So one whose last byte is wrong has changed nothing that anybody sees.

mod alike;
pub(crate) mod image;
mod route;
mod truncate;

use crate::batch::{Batch, OldImage, Op, Row, Tuple};
use crate::config::ROWS_DEFAULT;
use crate::plugin::cursor::Cursor;
use crate::plugin::encode::{Encoder, mark};
use crate::plugin::error::RowErrorKind;
use crate::plugin::filter::{Unapplied, code, done, reason};
use crate::plugin::plan::{Entry, InUse, Output, Plan};
use crate::plugin::refused::Refused;
use crate::plugin::shapes::Shapes;
use route::{NO_ROUTE, Routes};
use rowmill_abi::{action, default};

type Applied<T> = Result<T, Box<Unapplied>>;

/// Buffers that are kept from call to call.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Output columns that the image at hand was given.
    written: Vec<usize>,
    routes: Routes,
    /// How many rows a plugin may still make of others in the batch at hand.
    pub rows_left: u64,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            written: Vec::new(),
            routes: Routes::default(),
            rows_left: ROWS_DEFAULT,
        }
    }
}

impl Scratch {
    /// What follows is of another batch, of which the plugin may make so many rows.
    pub fn begin(&mut self, rows_max: u64) {
        self.routes.begin();
        self.rows_left = rows_max;
    }
}

/// Where an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    output: usize,
    /// Index of the route, or [`NO_ROUTE`].
    route: u32,
}

impl Target {
    const FIRST: Self = Self {
        output: 0,
        route: NO_ROUTE,
    };
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
    /// As it came.
    row: &'a Row,
    target: Target,
    old_target: Option<Target>,
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
    /// Where the action at hand begins.
    begins: usize,
    images: u32,
    drops: bool,
    batch: &'a mut Batch,
    entries: &'a mut [Entry],
    out: &'a mut Vec<Row>,
    written: &'a mut Vec<usize>,
    routes: &'a mut Routes,
    rows_left: &'a mut u64,
    shapes: &'a Shapes,
    refused: &'a mut Refused,
    /// Why the plugin doesn't take the change at hand.
    rejected: Option<RowErrorKind>,
    /// Where in `out` the rows of the change at hand begin; a stage before may have made several rows of it.
    change_start: usize,
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
    shapes: &Shapes,
    batch: &mut Batch,
    out: &mut Vec<Row>,
    refused: &mut Refused,
) -> Applied<bool> {
    let (mut cursor, left) = done(reply)?;
    if left != 2 {
        return Ok(cursor.bad("a transform's reply is [0, default, actions]")?);
    }
    let drops = cursor.index(usize::from(default::DROP))? == usize::from(default::DROP);
    let left = cursor.array()?;
    let images = encoder.images;
    let Scratch {
        written,
        routes,
        rows_left,
    } = scratch;
    let change_start = out.len();
    let mut apply = Apply {
        cursor,
        left,
        next: None,
        begins: 0,
        images,
        drops,
        batch,
        entries,
        out,
        written,
        routes,
        rows_left,
        shapes,
        refused,
        rejected: None,
        change_start,
    };
    apply.advance(0)?;
    let mut image = 0;
    let mut any_fan_out = false;
    let mut at = 0;
    let mut runs = encoder.runs.iter().peekable();
    while let (Some(row), Some(marks)) = (rows.get(at), encoder.marks.get(at)) {
        if marks & mark::SHIPPED == 0 {
            if marks & mark::DROP == 0 {
                apply.out.push(*row);
            }
        } else if matches!(row.op, Op::Truncate | Op::Message) {
            apply.rowless(row, plans, at, &mut image)?;
        } else if let Plan::Use(plan) = &plans[apply.entries[row.relation as usize].plan as usize] {
            while runs.next_if(|run| run.end <= at).is_some() {}
            let run = runs.peek().filter(|run| run.start <= at).map(|run| run.end - at);
            let alike = apply.alike(plan, &rows[at..], &encoder.marks[at..], image, run)?;
            if alike > 0 {
                image += alike as u32;
                at += alike;
                continue;
            }
            any_fan_out |= apply.change(plan, row, at, *marks, &mut image)?;
        }
        at += 1;
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
        self.begins = self.cursor.position();
        if let Some((len, image)) = self.cursor.short_action() {
            if image < least || image >= self.images {
                return Ok(self
                    .cursor
                    .bad("actions don't ascend by row, or one is of no row of the call")?);
            }
            self.next = Some((image, len - 1));
            return Ok(());
        }
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

    fn change(&mut self, plan: &InUse, row: &Row, at: usize, marks: u8, image: &mut u32) -> Applied<bool> {
        let (before, changes) = (self.out.len(), self.batch.changes());
        let mut change = Change {
            plan,
            row,
            target: Target::FIRST,
            old_target: None,
            dropped: false,
            fanned_out: false,
        };
        let (mut made_old, mut made_new) = (row.old, row.new);
        if let (Some(old), true) = (row.old, marks & mark::OLD != 0) {
            let shipped = Image::new(row, *image, old, true, marks);
            made_old = Some(self.image(&mut change, shipped)?);
            change.old_target = Some(change.target);
            *image += 1;
        }
        if let (Some(new), true) = (row.new, marks & mark::NEW != 0) {
            change.target = Target::FIRST;
            let shipped = Image::new(row, *image, new, false, marks);
            made_new = Some(self.image(&mut change, shipped)?);
            *image += 1;
        }
        if self.rejected.is_some() {
            self.out.truncate(before);
            // It may go on as it came.
            self.batch.take_back(changes);
            self.reject(row, at);
            return Ok(false);
        }
        if change.dropped {
            self.out.truncate(before);
            return Ok(false);
        }
        if change.fanned_out {
            return Ok(true);
        }
        if row.new.is_some() && change.old_target.is_some_and(|old| old != change.target) {
            let what = "the two images of a change go to different tables".to_owned();
            return breach(*image - 1, what);
        }
        let relation = self.relation(plan, change.target, row.relation);
        // Field by field: a row that is changed and then copied as a whole waits for what was just written.
        self.out.push(Row {
            relation,
            transaction: row.transaction,
            ordinal: row.ordinal,
            new: made_new,
            old: made_old,
            extra: row.extra,
            fan_out: row.fan_out,
            op: row.op,
            old_image: row.old_image,
        });
        Ok(false)
    }

    /// The index of an output relation in the batch.
    #[inline]
    fn relation(&mut self, plan: &InUse, target: Target, input: u32) -> u32 {
        if target.route != NO_ROUTE {
            return self.routes.relation(target.route, self.batch);
        }
        let output = target.output;
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
        let kind = self.kind(len)?;
        let made = match kind {
            action::PASS => self.carry(plan, image)?,
            action::DROP => {
                change.dropped = true;
                image.tuple
            }
            action::PATCH => self.patch(plan, image)?,
            action::REPLACE => {
                change.target.output = self.cursor.index(plan.outputs.len() - 1)?;
                self.replace(&plan.outputs[change.target.output], image)?
            }
            action::FAN_OUT => {
                if image.old {
                    return breach(image.index, "an old image can't be fanned out");
                }
                self.fan_out(plan, change.row, image)?;
                change.fanned_out = true;
                image.tuple
            }
            action::ROUTE => {
                let name = self.cursor.str()?;
                change.target.route = self.route(&plan.outputs[0], name, image.index)?;
                if self.cursor.nil() {
                    self.carry(plan, image)?
                } else {
                    self.patch(plan, image)?
                }
            }
            _ => {
                let rejected = self.refusal(kind, image.index)?;
                self.rejected.get_or_insert(rejected);
                image.tuple
            }
        };
        Ok(made)
    }

    /// What an action does, of which `len` elements are left.
    fn kind(&mut self, len: usize) -> Applied<u8> {
        let kind = self.cursor.index(usize::from(action::STOP))? as u8;
        let wanted = match kind {
            action::PASS | action::DROP => 1,
            action::REPLACE | action::REJECT | action::ROUTE => 3,
            _ => 2,
        };
        if len != wanted {
            return Ok(self.cursor.bad("an action with the wrong number of elements")?);
        }
        Ok(kind)
    }

    fn route(&mut self, output: &Output, name: &str, image: u32) -> Applied<u32> {
        match self.routes.find(&output.relation, name, self.shapes) {
            Ok(route) => Ok(route),
            Err(what) => breach(image, format!("it sends a row to a table of which {what}")),
        }
    }

    #[cold]
    fn reject(&mut self, row: &Row, at: usize) {
        if let Some(kind) = self.rejected.take() {
            self.refused.add(at, kind, row, self.out);
        }
    }

    /// A reject; a stop ends all.
    #[cold]
    fn refusal(&mut self, kind: u8, image: u32) -> Applied<RowErrorKind> {
        if kind == action::REJECT {
            return Ok(RowErrorKind::Rejected {
                code: code(&mut self.cursor)?,
                reason: reason(&mut self.cursor)?,
            });
        }
        let reason = reason(&mut self.cursor)?;
        Err(Box::new(Unapplied::Stop { image, reason }))
    }

    /// What becomes of a truncate or a message.
    #[cold]
    fn rowless(&mut self, row: &Row, plans: &[Plan], at: usize, image: &mut u32) -> Applied<()> {
        let index = *image;
        *image += 1;
        let Some((_, len)) = self.next.filter(|(of, _)| *of == index) else {
            if !self.drops {
                self.out.push(*row);
            }
            return Ok(());
        };
        match self.kind(len)? {
            action::PASS => self.out.push(*row),
            action::DROP => {}
            kind @ (action::REJECT | action::STOP) => {
                let kind = self.refusal(kind, index)?;
                self.refused.add(at, kind, row, self.out);
            }
            kind @ (action::ROUTE | action::FAN_OUT) if row.op == Op::Truncate => {
                let places = self.places(kind, index)?;
                self.send_truncate(row, plans, &places, index)?;
            }
            _ => {
                let what = match row.op {
                    Op::Message => {
                        "it makes rows of a message, or patches it, which can be passed, dropped or rejected alone: \
                         outputs belong to tables, and a message has none"
                    }
                    _ => {
                        "it makes rows of a truncate, or patches it, which can be passed, dropped, rejected or sent \
                         elsewhere: outputs belong to tables"
                    }
                };
                return breach(index, what);
            }
        }
        self.advance(index + 1)
    }
}

#[cold]
fn breach<T>(image: u32, what: impl Into<String>) -> Applied<T> {
    Err(Box::new(Unapplied::Breach {
        image,
        what: what.into(),
    }))
}
