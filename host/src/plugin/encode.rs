//! Rows as a guest gets them: one per image, only the columns that it reads.
//!
//! Everything is written into buffers that are kept from call to call; a steady state allocates nothing.

use super::error::RowErrorKind;
use super::plan::{Entry, InUse, Plan};
use super::values::{Presence, encode};
use super::write;
use crate::batch::{Batch, OldImage, Op, Origin, Part, Row, Tuple};
use rowmill_abi::{image, op, part};

/// Encoded rows of one call; a single row may be larger.
pub(crate) const CALL_BYTES_MAX: usize = 256 * 1024;

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

/// A row that can't be encoded.
#[derive(Debug)]
pub(crate) struct Unencodable {
    pub row: usize,
    pub kind: RowErrorKind,
}

#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// The rows' bytes, without the array's header.
    pub body: Vec<u8>,
    /// What comes before them.
    pub head: Vec<u8>,
    /// One [`mark`] per row of the call.
    pub marks: Vec<u8>,
    /// Guest rows of the call.
    pub images: u32,
    /// One per guest row, where the plugin asks for random bytes.
    pub seeds: Vec<Seed>,
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
    ) -> Result<usize, Unencodable> {
        let before = from.checked_sub(1).map(|last| rows[last].transaction);
        self.body.clear();
        self.marks.clear();
        self.seeds.clear();
        self.transactions.clear();
        self.images = 0;
        for (at, row) in rows.iter().enumerate().skip(from) {
            let plan = match row.op {
                Op::Truncate | Op::Message => &Plan::PassBy,
                _ => &plans[entries[row.relation as usize].plan as usize],
            };
            let plan = match plan {
                Plan::PassBy => {
                    self.marks.push(0);
                    continue;
                }
                Plan::Drop => {
                    self.marks.push(mark::DROP);
                    continue;
                }
                Plan::Use(plan) => plan,
            };
            let (start, images_before) = (self.body.len(), self.images);
            let marks = self
                .change(plan, batch, row, images)
                .map_err(|kind| Unencodable { row: at, kind })?;
            if self.body.len() > CALL_BYTES_MAX && images_before > 0 {
                self.body.truncate(start);
                self.images = images_before;
                self.seeds.truncate(images_before as usize);
                return Ok(at);
            }
            self.marks.push(marks);
            if self.images > images_before
                && self
                    .transactions
                    .last()
                    .is_none_or(|last| last.index != row.transaction)
            {
                let continued = self.transactions.is_empty() && before == Some(row.transaction);
                self.transactions.push(CallTransaction {
                    index: row.transaction,
                    first_image: images_before,
                    continued,
                });
            }
        }
        Ok(rows.len())
    }

    fn change(&mut self, plan: &InUse, batch: &Batch, row: &Row, images: Images) -> Result<u8, RowErrorKind> {
        let mut marks = 0;
        let wants_old = images != Images::Newest || row.new.is_none();
        if let Some(old) = row.old.filter(|_| wants_old) {
            let image = match row.old_image {
                OldImage::Full => image::OLD,
                OldImage::Key => image::OLD_KEY,
            };
            let start = self.body.len();
            let missing = self.image(plan, batch, row, old, image)?;
            if images == Images::All {
                marks |= mark::OLD | if missing.is_some() { mark::OLD_PARTIAL } else { 0 };
                self.shipped(batch, row);
            } else if missing.is_some() {
                self.body.truncate(start);
            } else {
                marks |= mark::OLD;
                self.shipped(batch, row);
            }
        }
        if let Some(new) = row.new {
            let missing = self.image(plan, batch, row, new, image::NEW)?;
            if let (Some(column), true) = (missing, images != Images::All) {
                let column = plan.input.columns[column].name.clone();
                return Err(RowErrorKind::Unchanged { column });
            }
            marks |= mark::NEW;
            self.shipped(batch, row);
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

    /// Appends one image. Returns the first column without a value.
    #[inline]
    fn image(
        &mut self,
        plan: &InUse,
        batch: &Batch,
        row: &Row,
        tuple: Tuple,
        image: u8,
    ) -> Result<Option<usize>, RowErrorKind> {
        let op = match row.op {
            Op::Insert => op::INSERT,
            Op::Update | Op::Upsert => op::UPDATE,
            Op::Delete => op::DELETE,
            Op::Truncate => op::TRUNCATE,
            Op::Read => op::READ,
            Op::Message => op::MESSAGE,
        };
        let out = &mut self.body;
        out.extend_from_slice(&plan.row_head);
        out.push(op);
        out.push(image);
        out.extend_from_slice(&plan.values_head);
        let mut missing = None;
        for read in &plan.read {
            let presence = encode(read.class, read.type_oid, batch.value(tuple, read.slot), out).map_err(|reason| {
                RowErrorKind::Value {
                    column: plan.input.columns[read.column].name.clone(),
                    reason,
                }
            })?;
            if presence != Presence::There && missing.is_none() {
                missing = Some(read.column);
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
