//! Rows as a guest gets them: one per image, only the columns that it reads.
//!
//! Everything is written into buffers that are kept from call to call; a steady state allocates nothing.

use super::error::RowErrorKind;
use super::plan::{Entry, InUse, Plan};
use super::short_values::short_values;
use super::values::{Class, Presence, encode};
use super::wire::{Out, Wire};
use super::write;
use crate::batch::{Batch, OldImage, Op, Origin, Part, Row, Tuple};
use rowmill_abi::{image, op, part, truncate};

/// No column is.
const NONE_MISSING: usize = usize::MAX;

#[cold]
fn bad_value(plan: &InUse, column: usize, reason: &'static str) -> Box<RowErrorKind> {
    let column = plan.input.columns[column].name.clone();
    Box::new(RowErrorKind::Value { column, reason })
}

const fn wire_op(of: Op) -> u8 {
    match of {
        Op::Insert => op::INSERT,
        Op::Update | Op::Upsert => op::UPDATE,
        Op::Delete => op::DELETE,
        Op::Truncate => op::TRUNCATE,
        Op::Read => op::READ,
        Op::Message => op::MESSAGE,
    }
}

/// Encoded rows of one call; a single row may be larger.
pub(crate) const CALL_BYTES_MAX: usize = 256 * 1024;

/// Rows that are encoded one by one before the next attempt at many.
const SINGLE_MAX: usize = 8;

/// What was done with a row of the call.
pub(crate) mod mark {
    /// Its old image was shipped.
    pub const OLD: u8 = 1;
    /// Its new image was shipped.
    pub const NEW: u8 = 2;
    /// The old image lacks a column that the plugin reads.
    pub const OLD_PARTIAL: u8 = 4;
    /// Its relation is dropped.
    pub const DROP: u8 = 8;
    pub const SHIPPED: u8 = OLD | NEW;
}

/// Which images a plugin gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// A transform: all.
    All,
    /// A filter for membership: those that can be judged.
    Judged,
    /// A filter of events: the newest.
    Newest,
}

/// A transaction as far as the call holds it.
#[derive(Clone, Copy, Debug)]
struct CallTransaction {
    index: u32,
    first_image: u32,
    /// Whether an earlier call had rows of it.
    continued: bool,
}

/// What random bytes are made from: the same change gives the same bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seed {
    pub position: u64,
    pub ordinal: u64,
}

/// Which operations without a row the plugin asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub truncates: bool,
    pub messages: bool,
}

/// Rows of a call one behind the other, of one table, which have a new image alone: it was shipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The first of them.
    pub start: usize,
    /// Behind the last of them.
    pub end: usize,
    /// Whether they were inserted or copied.
    pub inserted: bool,
    relation: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// The rows' bytes, without the array's header.
    pub body: Wire,
    /// What comes before them.
    pub head: Vec<u8>,
    /// One [`mark`] per row of the call.
    pub marks: Vec<u8>,
    /// Rows of the call that were found to be alike, in order.
    pub runs: Vec<Run>,
    /// Guest rows of the call.
    pub images: u32,
    /// One per guest row, where the plugin asks for random bytes.
    pub seeds: Vec<Seed>,
    /// Rows of the call that can't be encoded: index among the stage's rows, and why.
    pub refused: Vec<(usize, RowErrorKind)>,
    /// Whether those go on as they are.
    pub pass_refused: bool,
    pub wants: Wants,
    /// The transaction of the row in front of the rows that are given to [`Self::fill`], where there was one.
    pub before: Option<u32>,
    want_seeds: bool,
    transactions: Vec<CallTransaction>,
}

impl Encoder {
    /// `want_seeds` where the plugin asks for random bytes.
    pub fn new(want_seeds: bool) -> Self {
        Self {
            want_seeds,
            ..Self::default()
        }
    }

    /// Encodes `rows[from..]` up to the bound of a call, never between two images of a change. Returns where it stopped.
    pub fn fill(
        &mut self,
        batch: &Batch,
        rows: &[Row],
        from: usize,
        entries: &[Entry],
        plans: &[Plan],
        images: Images,
    ) -> usize {
        let before = from.checked_sub(1).map(|last| rows[last].transaction).or(self.before);
        self.body.clear();
        self.marks.clear();
        self.runs.clear();
        self.seeds.clear();
        self.transactions.clear();
        self.refused.clear();
        self.images = 0;
        let mut at = from;
        while let Some(row) = rows.get(at) {
            let (start, images_before) = (self.body.len(), self.images);
            let rowless = matches!(row.op, Op::Truncate | Op::Message);
            let plan = (!rowless).then(|| &plans[entries[row.relation as usize].plan as usize]);
            if let Some(Plan::Use(plan)) = plan {
                let alike = self.alike(plan, batch, &rows[at..]);
                if alike > 0 {
                    self.enter(row.transaction, images_before, before);
                    at += alike;
                    continue;
                }
            }
            let encoded = match plan {
                None => self.rowless(batch, row, entries, plans),
                Some(Plan::PassBy) => Ok(0),
                Some(Plan::Drop) => Ok(mark::DROP),
                Some(Plan::Use(plan)) => self.change(plan, batch, row, images),
            };
            let marks = match encoded {
                Ok(marks) => marks,
                Err(kind) => {
                    self.take_back(start, images_before);
                    self.refused.push((at, *kind));
                    if self.pass_refused { 0 } else { mark::DROP }
                }
            };
            if self.body.len() > CALL_BYTES_MAX && images_before > 0 {
                self.take_back(start, images_before);
                return at;
            }
            self.marks.push(marks);
            if self.images > images_before {
                self.enter(row.transaction, images_before, before);
            }
            at += 1;
        }
        rows.len()
    }

    /// Encodes what most rows are, as many as there are at the beginning of `rows`: new images alone, of one table, one
    /// transaction and one operation, with a value in each column. Returns how many; what comes behind them has to be
    /// looked at more closely.
    fn alike(&mut self, plan: &InUse, batch: &Batch, rows: &[Row]) -> usize {
        let Some(first) = rows.first().filter(|_| !self.want_seeds) else {
            return 0;
        };
        let (head, head_len) = plan.head.of(wire_op(first.op), image::NEW);
        let (relation, transaction, op) = (first.relation, first.transaction, first.op);
        // One branch for all of it.
        let same = |row: &Row| {
            let others = (row.relation ^ relation) | (row.transaction ^ transaction) | (row.op as u32 ^ op as u32);
            (others == 0) & row.old.is_none()
        };
        let new_of = |row: &Row| row.new.filter(|_| same(row));
        let out = &mut self.body;
        let mut count = 0;
        'rows: loop {
            if plan.may_be_short {
                count += short_values(plan, batch, &rows[count..], new_of, (&head, head_len), out);
            }
            // Some in the other way, and not all behind one with a long value.
            for _ in 0..SINGLE_MAX {
                let Some(new) = rows.get(count).and_then(new_of) else {
                    break 'rows;
                };
                let start = out.len();
                out.first_of(head_len, &head);
                for read in &plan.read {
                    if read.class == Class::Text
                        && let Some((len, text)) = batch.short_text(new, read.slot)
                    {
                        write::short_str(out, len, text);
                        continue;
                    }
                    let value = batch.value(new, read.slot);
                    if encode(read.class, read.type_oid, value, out) != Ok(Presence::There) {
                        out.truncate(start);
                        break 'rows;
                    }
                }
                if out.len() > CALL_BYTES_MAX {
                    out.truncate(start);
                    break 'rows;
                }
                count += 1;
            }
        }
        if count > 0 {
            self.run(count, first);
        }
        self.images += count as u32;
        self.marks.resize(self.marks.len() + count, mark::NEW);
        count
    }

    /// So many rows like this one are alike; they are added to those before them where they are so together.
    fn run(&mut self, count: usize, first: &Row) {
        let start = self.marks.len();
        let run = Run {
            start,
            end: start + count,
            inserted: matches!(first.op, Op::Insert | Op::Read),
            relation: first.relation,
        };
        match self.runs.last_mut() {
            Some(last) if (last.end, last.inserted, last.relation) == (start, run.inserted, run.relation) => {
                last.end = run.end;
            }
            _ => self.runs.push(run),
        }
    }

    /// The call has rows of this transaction, the first of which is the guest row `first_image`, unless it has some
    /// already. `before` is the transaction of the row in front of the call.
    fn enter(&mut self, transaction: u32, first_image: u32, before: Option<u32>) {
        let last = self.transactions.last();
        if last.is_some_and(|last| last.index == transaction) {
            return;
        }
        self.transactions.push(CallTransaction {
            index: transaction,
            first_image,
            continued: last.is_none() && before == Some(transaction),
        });
    }

    /// As if the row at hand had never been encoded.
    #[cold]
    fn take_back(&mut self, start: usize, images_before: u32) {
        self.body.truncate(start);
        self.images = images_before;
        self.seeds.truncate(images_before as usize);
    }

    /// A truncate or a message, where the plugin asks for such: `[nil, 3, flags, [relation, ...]]` with those relations
    /// that it uses, `[nil, 5, transactional, [prefix, content]]`.
    #[cold]
    fn rowless(
        &mut self,
        batch: &Batch,
        row: &Row,
        entries: &[Entry],
        plans: &[Plan],
    ) -> Result<u8, Box<RowErrorKind>> {
        let out = &mut self.body;
        match row.op {
            Op::Truncate if self.wants.truncates => {
                let Some(truncate) = batch.truncates.get(row.extra as usize) else {
                    return Ok(0);
                };
                let is_used = |at: &&u32| {
                    let plan = entries.get(**at as usize).map(|entry| entry.plan as usize);
                    matches!(plan.and_then(|plan| plans.get(plan)), Some(Plan::Use(_)))
                };
                let used = truncate.relations.iter().filter(is_used);
                let count = used.clone().count();
                if count == 0 {
                    return Ok(0);
                }
                write::array(out, 4);
                write::nil(out);
                out.push(op::TRUNCATE);
                out.push(
                    if truncate.cascade { truncate::CASCADE } else { 0 }
                        | if truncate.restart_identity {
                            truncate::RESTART_IDENTITY
                        } else {
                            0
                        },
                );
                write::array(out, count);
                for at in used {
                    write::uint(out, u64::from(batch.relations[*at as usize].index));
                }
            }
            Op::Message if self.wants.messages => {
                let Some(message) = batch.messages.get(row.extra as usize) else {
                    return Ok(0);
                };
                write::array(out, 4);
                write::nil(out);
                out.push(op::MESSAGE);
                write::bool(out, message.transactional);
                write::array(out, 2);
                write::str(out, message.prefix.as_bytes());
                write::bin_header(out, message.content.len());
                out.extend_from_slice(&message.content);
            }
            _ => return Ok(0),
        }
        self.shipped(batch, row);
        Ok(mark::NEW)
    }

    #[inline]
    fn change(&mut self, plan: &InUse, batch: &Batch, row: &Row, images: Images) -> Result<u8, Box<RowErrorKind>> {
        match (row.old, row.new) {
            (None, Some(new)) => self.new_image(plan, batch, row, new, images),
            _ => self.both_images(plan, batch, row, images),
        }
    }

    #[inline]
    fn new_image(
        &mut self,
        plan: &InUse,
        batch: &Batch,
        row: &Row,
        new: Tuple,
        images: Images,
    ) -> Result<u8, Box<RowErrorKind>> {
        let missing = self.image(plan, batch, row, new, image::NEW)?;
        if missing != NONE_MISSING && images != Images::All {
            let column = plan.input.columns[missing].name.clone();
            return Err(Box::new(RowErrorKind::Unchanged { column }));
        }
        self.shipped(batch, row);
        Ok(mark::NEW)
    }

    fn both_images(&mut self, plan: &InUse, batch: &Batch, row: &Row, images: Images) -> Result<u8, Box<RowErrorKind>> {
        let mut marks = 0;
        let wants_old = images != Images::Newest || row.new.is_none();
        if let Some(old) = row.old.filter(|_| wants_old) {
            let image = match row.old_image {
                OldImage::Full => image::OLD,
                OldImage::Key => image::OLD_KEY,
            };
            let start = self.body.len();
            let is_partial = self.image(plan, batch, row, old, image)? != NONE_MISSING;
            if images == Images::All {
                marks |= mark::OLD | if is_partial { mark::OLD_PARTIAL } else { 0 };
                self.shipped(batch, row);
            } else if is_partial {
                self.body.truncate(start);
            } else {
                marks |= mark::OLD;
                self.shipped(batch, row);
            }
        }
        if let Some(new) = row.new {
            marks |= self.new_image(plan, batch, row, new, images)?;
        }
        Ok(marks)
    }

    #[inline]
    fn shipped(&mut self, batch: &Batch, row: &Row) {
        self.images += 1;
        if self.want_seeds {
            let transaction = batch.transaction(row);
            let unit = match transaction.origin {
                Origin::Copy(unit) => Some(unit),
                // The same bytes as it had, or would have had.
                Origin::Replay(replay) => replay.copy,
                Origin::Stream => None,
            };
            let position = unit.map_or(transaction.commit_lsn.0, |unit| {
                (u64::from(unit.table_oid) << 32 | u64::from(unit.unit)) ^ (u64::from(unit.epoch) << 56)
            });
            self.seeds.push(Seed {
                position,
                ordinal: row.ordinal << 16 | u64::from(row.fan_out),
            });
        }
    }

    /// Appends one image. Returns the first column without a value, or [`NONE_MISSING`].
    #[inline]
    fn image(
        &mut self,
        plan: &InUse,
        batch: &Batch,
        row: &Row,
        tuple: Tuple,
        image: u8,
    ) -> Result<usize, Box<RowErrorKind>> {
        let out = &mut self.body;
        let (head, head_len) = plan.head.of(wire_op(row.op), image);
        out.first_of(head_len, &head);
        let mut missing = NONE_MISSING;
        for read in &plan.read {
            if read.class == Class::Text
                && let Some((len, text)) = batch.short_text(tuple, read.slot)
            {
                write::short_str(out, len, text);
                continue;
            }
            let presence = encode(read.class, read.type_oid, batch.value(tuple, read.slot), out)
                .map_err(|reason| bad_value(plan, read.column, reason))?;
            if presence != Presence::There && missing == NONE_MISSING {
                missing = read.column;
            }
        }
        Ok(missing)
    }

    /// Writes what comes before the rows. `next` is the transaction of the row behind the call, if there is one.
    pub fn finish(&mut self, batch: &Batch, sequence: u64, next: Option<u32>) {
        self.head.clear();
        let out = &mut self.head;
        write::array(out, 4);
        write::uint(out, sequence);
        write::uint(out, 0);
        write::array(out, self.transactions.len());
        for (at, call) in self.transactions.iter().enumerate() {
            let transaction = &batch.transactions[call.index as usize];
            let end = self
                .transactions
                .get(at + 1)
                .map_or(self.images, |following| following.first_image);
            let begins = !call.continued && matches!(transaction.part, Part::Whole | Part::First);
            let ends = next != Some(call.index) && matches!(transaction.part, Part::Whole | Part::Last);
            write::array(out, 6);
            write::uint(out, u64::from(transaction.xid));
            write::uint(out, transaction.commit_lsn.0);
            write::int(out, transaction.commit_us);
            write::uint(out, u64::from(call.first_image));
            write::uint(out, u64::from(end - call.first_image));
            out.push(match (begins, ends) {
                (true, true) => part::WHOLE,
                (true, false) => part::FIRST,
                (false, false) => part::MIDDLE,
                (false, true) => part::LAST,
            });
        }
        write::array(out, self.images as usize);
    }

    /// Commit times of the call's transactions, in order.
    pub fn commit_times<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = i64> + 'a {
        self.transactions
            .iter()
            .map(|call| batch.transactions[call.index as usize].commit_us)
    }

    /// The row of the call, counted from its beginning, that a guest row belongs to.
    pub fn row_of_image(&self, image: u32) -> Option<usize> {
        let mut seen = 0;
        self.marks.iter().position(|marks| {
            seen += (marks & mark::SHIPPED).count_ones();
            seen > image
        })
    }
}
