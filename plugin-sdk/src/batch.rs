//! Walking through a batch: finds where each value begins, decodes none.

use crate::row::{Image, Op, Transaction};
use rowmill_abi::{Malformed, Reader, ext};

/// Bytes of a row before its values, where relation, op, image and their number are small: nearly always.
const SHORT_HEAD_LEN: usize = 5;

/// What comes before the values of a row.
pub(crate) struct Head {
    /// `None` for truncates and messages.
    pub relation: Option<u32>,
    pub op: Op,
    pub image: Image,
    pub gaps: bool,
    pub absent: bool,
}

/// The rows of a batch, one after the other.
pub(crate) struct Rows<'a> {
    pub bytes: &'a [u8],
    pub count: u32,
    reader: Reader<'a>,
    /// Stands before the transaction that follows `transaction`.
    transactions: Reader<'a>,
    transactions_left: usize,
    pub transaction: Transaction,
    /// The first row behind `transaction`.
    transaction_end: u64,
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
            reader,
            transactions,
            transactions_left,
            transaction: Transaction::default(),
            transaction_end: 0,
            next_transaction: 0,
        })
    }

    /// Where the row begins that is read next.
    pub fn position(&self) -> usize {
        self.reader.position()
    }

    /// The row with that index, which must be the one that follows. `offsets` gets where its values begin.
    #[inline]
    pub fn read(&mut self, index: u32, offsets: &mut Vec<u32>) -> Result<Head, Malformed> {
        while u64::from(index) >= self.transaction_end && self.transactions_left > 0 {
            self.read_transaction()?;
        }
        let at = self.reader.position();
        let (relation, op, image, count) = match self.bytes.get(at..at + SHORT_HEAD_LEN) {
            Some(
                [
                    0x94,
                    relation @ 0..=0x7f,
                    op @ 0..=0x7f,
                    image @ 0..=0x7f,
                    count @ 0x90..=0x9f,
                ],
            ) => {
                self.reader = Reader::starting_at(self.bytes, at + SHORT_HEAD_LEN);
                let count = usize::from(count & 0x0f);
                (u32::from(*relation), u64::from(*op), u64::from(*image), count)
            }
            _ => {
                self.reader.array()?;
                if self.reader.take_nil() {
                    return self.pass_over();
                }
                (
                    self.reader.u32()?,
                    self.reader.uint()?,
                    self.reader.uint()?,
                    self.reader.array()?,
                )
            }
        };
        let bad = |expected| Malformed { at, expected };
        let op = Op::from_wire(op).ok_or(bad("a row's op"))?;
        let image = Image::from_wire(image).ok_or(bad("a row's image"))?;
        let (mut gaps, mut absent) = (false, false);
        offsets.clear();
        for _ in 0..count {
            offsets.push(self.reader.position() as u32);
            if let Some(kind) = self.reader.skip_plain()? {
                gaps = true;
                absent |= kind == ext::ABSENT;
            }
        }
        Ok(Head {
            relation: Some(relation),
            op,
            image,
            gaps,
            absent,
        })
    }

    /// The rest of a truncate or message.
    fn pass_over(&mut self) -> Result<Head, Malformed> {
        for _ in 0..3 {
            self.reader.skip()?;
        }
        Ok(Head {
            relation: None,
            op: Op::Update,
            image: Image::New,
            gaps: false,
            absent: false,
        })
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
