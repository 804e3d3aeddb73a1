//! Walking through a batch: finds where each value begins, decodes none.

use crate::row::{Image, Op, Transaction};
use rowmill_abi::{Malformed, Reader, ext, image, op, plain_end};

/// Bytes of a row before its values, where relation, op, image and their number are small: nearly always.
const SHORT_HEAD_LEN: usize = 5;
/// Values of a row with such a head.
pub(crate) const SHORT_VALUES_MAX: usize = 15;

/// What comes before the values of a row.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    /// `None` for truncates and messages.
    pub relation: Option<u32>,
    /// As it comes, checked.
    pub op: u8,
    pub image: u8,
    /// Values that it has.
    pub count: usize,
    pub gaps: bool,
    pub absent: bool,
}

/// The rows of a batch, one after the other.
pub(crate) struct Rows<'a> {
    pub bytes: &'a [u8],
    pub count: u32,
    /// Where the first row begins.
    pub start: usize,
    /// Stands before the transaction that follows `transaction`.
    transactions: Reader<'a>,
    transactions_left: usize,
    pub transaction: Transaction,
    /// The first row behind `transaction`.
    pub transaction_end: u64,
    next_transaction: u32,
}

impl<'a> Rows<'a> {
    /// Opens what comes into `rowmill_batch`.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        reader.array()?;
        // The sequence and the flags, which are 0 in this version.
        reader.skip()?;
        reader.skip()?;
        let mut transactions = reader;
        reader.skip()?;
        let transactions_left = transactions.array()?;
        let count = reader.array()? as u32;
        Ok(Self {
            bytes,
            count,
            start: reader.position(),
            transactions,
            transactions_left,
            transaction: Transaction::default(),
            transaction_end: 0,
            next_transaction: 0,
        })
    }

    /// What [`ShortHead`] and [`short_values`] leave: many columns, long or missing values, and what is no row. `offsets` gets where the
    /// values begin. Returns where the next row begins.
    #[cold]
    #[inline(never)]
    pub fn any_row(&self, at: usize, offsets: &mut Vec<u32>) -> Result<(Head, usize), Malformed> {
        let mut reader = Reader::starting_at(self.bytes, at);
        reader.array()?;
        if reader.take_nil() {
            return pass_over(reader);
        }
        let relation = reader.u32()?;
        let (op, image) = (Op::from_wire(reader.uint()?), Image::from_wire(reader.uint()?));
        let bad = |expected| Malformed { at, expected };
        let op = op.ok_or(bad("a row's op"))?.to_wire();
        let image = image.ok_or(bad("a row's image"))?.to_wire();
        let count = reader.array()?;
        offsets.clear();
        let (mut gaps, mut absent) = (false, false);
        for _ in 0..count {
            offsets.push(reader.position() as u32);
            if let Some(kind) = reader.skip_plain()? {
                gaps = true;
                absent |= kind == ext::ABSENT;
            }
        }
        let head = Head {
            relation: Some(relation),
            op,
            image,
            count,
            gaps,
            absent,
        };
        Ok((head, reader.position()))
    }

    /// Goes on to the transaction that has the row.
    #[cold]
    #[inline(never)]
    pub fn enter_transaction(&mut self, index: u32) -> Result<(), Malformed> {
        while u64::from(index) >= self.transaction_end && self.transactions_left > 0 {
            self.read_transaction()?;
        }
        Ok(())
    }

    fn read_transaction(&mut self) -> Result<(), Malformed> {
        let reader = &mut self.transactions;
        let fields = reader.array()?;
        self.transaction = Transaction {
            index: self.next_transaction,
            xid: reader.u32()?,
            commit_lsn: reader.uint()?,
            commit_us: reader.int()?,
        };
        let (first_row, rows) = (reader.uint()?, reader.uint()?);
        for _ in 5..fields {
            reader.skip()?;
        }
        self.transaction_end = first_row.saturating_add(rows);
        self.transactions_left -= 1;
        self.next_transaction += 1;
        Ok(())
    }
}

/// The first bytes of a row with a short head, as a number: rows of one table and operation have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortHead(u64);

impl ShortHead {
    /// No row's.
    pub const NONE: Self = Self(0);

    /// `None` at the end of the bytes, too.
    #[inline(always)]
    pub fn at(bytes: &[u8], at: usize) -> Option<Self> {
        const MASK: u64 = (1 << (8 * SHORT_HEAD_LEN)) - 1;
        let word = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        Some(Self(word & MASK))
    }

    #[cold]
    #[inline(never)]
    pub fn parse(self) -> Option<Head> {
        let [
            0x94,
            relation @ 0..=0x7f,
            op @ (op::INSERT | op::UPDATE | op::DELETE | op::READ),
            image @ (image::NEW | image::OLD | image::OLD_KEY),
            count @ 0x90..=0x9f,
            ..,
        ] = self.0.to_le_bytes()
        else {
            return None;
        };
        Some(Head {
            relation: Some(u32::from(relation)),
            op,
            image,
            count: usize::from(count & 0x0f),
            gaps: false,
            absent: false,
        })
    }
}

/// Finds where the values of a row with a short head begin. Returns where the next row begins; `None` where it can't be
/// told that quickly.
#[inline(always)]
pub(crate) fn short_values(bytes: &[u8], at: usize, offsets: &mut [u32]) -> Option<usize> {
    let mut at = at + SHORT_HEAD_LEN;
    for place in offsets {
        *place = at as u32;
        at = plain_end(bytes, at)?;
    }
    // Once for all of them: nothing beyond the bytes was read.
    (at <= bytes.len()).then_some(at)
}

/// The rest of a truncate or message.
fn pass_over(mut reader: Reader<'_>) -> Result<(Head, usize), Malformed> {
    for _ in 0..3 {
        reader.skip()?;
    }
    let head = Head {
        relation: None,
        op: op::UPDATE,
        image: image::NEW,
        count: 0,
        gaps: false,
        absent: false,
    };
    Ok((head, reader.position()))
}
