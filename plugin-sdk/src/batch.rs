//! Walking through a batch: finds where each value begins, decodes none.

use crate::row::{Image, Op, Transaction};
use rowmill_abi::{Malformed, Reader, ext, image, op, plain_end};

/// Values of all rows that are found at once: of 17 with 15 columns, as many as a short head tells of.
const STARTS: usize = 256;

/// Where values begin, row by row. None, or room for [`STARTS`]: a module would carry an array of zeros in its file.
#[derive(Debug, Default)]
pub(crate) struct Starts(Vec<u32>);

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

    /// What [`alike`] leaves: many columns, long or missing values, and what is no row. `offsets` gets where the values
    /// begin, and something where there is none. Returns where the next row begins.
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
        if count == 0 {
            offsets.push(0);
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

/// What a row begins with where op, image and the number of its values are small, nearly always: five bytes, and one
/// or two more where the relation has a higher number. Rows of one table and operation have the same.
#[derive(Clone, Copy)]
pub(crate) struct ShortHead {
    word: u64,
    /// Those bytes of a row that count.
    mask: u64,
    len: usize,
}

impl ShortHead {
    /// No row's.
    pub const NONE: Self = Self {
        word: 1,
        mask: 0,
        len: 0,
    };

    /// The bytes at the beginning of a row; zero near the end of all, which is no row's beginning.
    #[inline(always)]
    pub fn word(bytes: &[u8], at: usize) -> u64 {
        let first = bytes.get(at..).and_then(|rest| rest.first_chunk());
        first.map_or(0, |first| u64::from_le_bytes(*first))
    }

    /// Whether a row that begins with `word` has this head.
    #[inline(always)]
    pub fn begins(self, word: u64) -> bool {
        word & self.mask == self.word
    }

    /// The head of a row that begins with `word`, should it have a short one.
    pub fn of(word: u64) -> Self {
        let len = match word.to_le_bytes()[1] {
            0xcc => 6,
            0xcd => 7,
            _ => 5,
        };
        let mask = (1 << (8 * len)) - 1;
        Self {
            word: word & mask,
            mask,
            len,
        }
    }

    #[cold]
    #[inline(never)]
    pub fn parse(self) -> Option<Head> {
        let (relation, rest) = match self.word.to_le_bytes() {
            [0x94, relation @ 0..=0x7f, op, image, count, ..] => (relation.into(), [op, image, count]),
            [0x94, 0xcc, relation, op, image, count, ..] => (relation.into(), [op, image, count]),
            [0x94, 0xcd, high, low, op, image, count, _] => {
                (u16::from_be_bytes([high, low]).into(), [op, image, count])
            }
            _ => return None,
        };
        let [
            op @ (op::INSERT | op::UPDATE | op::DELETE | op::READ),
            image @ (image::NEW | image::OLD | image::OLD_KEY),
            count @ 0x90..=0x9f,
        ] = rest
        else {
            return None;
        };
        Some(Head {
            relation: Some(relation),
            op,
            image,
            count: usize::from(count & 0x0f),
            gaps: false,
            absent: false,
        })
    }
}

/// Finds where the values of rows begin that have this head of `count` values, up to `most` of them, the first of which
/// begins at `at`. Returns those places, one for a row without values, and where the next row begins. No row is found
/// where that can't be told quickly.
#[inline(never)]
pub(crate) fn alike<'s>(
    bytes: &[u8],
    at: usize,
    head: ShortHead,
    count: usize,
    most: usize,
    starts: &'s mut Starts,
) -> (&'s [u32], usize) {
    let Starts(places) = starts;
    if places.is_empty() {
        places.resize(STARTS, 0);
    }
    let mut found = (0, at);
    if count == 1 {
        found = alike_of_text(bytes, at, head, places.get_mut(..most.min(STARTS)).unwrap_or_default());
    }
    if found.0 == 0 {
        let rows = places.chunks_exact_mut(count.max(1)).take(most);
        found = alike_of_any(bytes, at, head, count, rows);
    }
    (places.get(..found.0 * count.max(1)).unwrap_or_default(), found.1)
}

/// Rows of one text of less than 32 bytes, whose marker is always among the first eight of the row.
#[inline(always)]
fn alike_of_text(bytes: &[u8], at: usize, head: ShortHead, places: &mut [u32]) -> (usize, usize) {
    let mut rest = bytes.get(at..).unwrap_or_default();
    let mut found = 0;
    // The head and the marker's kind as one.
    let shift = 8 * head.len;
    let (mask, begins) = (head.mask | 0xe0 << shift, head.word | 0xa0 << shift);
    let mut row = |place: &mut u32| {
        let word = u64::from_le_bytes(*rest.first_chunk()?);
        if word & mask != begins {
            return None;
        }
        let behind = rest.get(head.len + 1 + ((word >> shift) & 0x1f) as usize..)?;
        *place = (bytes.len() - rest.len() + head.len) as u32;
        rest = behind;
        found += 1;
        Some(())
    };
    // Four in each round of the loop: a round begins with a look at the clock.
    let _ = places.as_chunks_mut::<4>().0.iter_mut().try_for_each(|[a, b, c, d]| {
        row(a)?;
        row(b)?;
        row(c)?;
        row(d)
    });
    (found, bytes.len() - rest.len())
}

/// Rows of whatever values, or of none.
#[inline(always)]
fn alike_of_any<'s>(
    bytes: &[u8],
    mut at: usize,
    head: ShortHead,
    count: usize,
    rows: impl Iterator<Item = &'s mut [u32]>,
) -> (usize, usize) {
    let mut found = 0;
    for row in rows {
        if !head.begins(ShortHead::word(bytes, at)) {
            break;
        }
        let Some(end) = short_values(bytes, at + head.len, row.get_mut(..count).unwrap_or_default()) else {
            break;
        };
        at = end;
        found += 1;
    }
    (found, at)
}

/// Finds where the values of a row begin, the first of them at `start`. Returns where the next row begins; `None` where
/// it can't be told that quickly.
#[inline(always)]
fn short_values(bytes: &[u8], start: usize, offsets: &mut [u32]) -> Option<usize> {
    let mut at = start;
    // Two in each round, as above.
    let (pairs, last) = offsets.as_chunks_mut::<2>();
    for [first, second] in pairs {
        *first = at as u32;
        at = plain_end(bytes, at)?;
        *second = at as u32;
        at = plain_end(bytes, at)?;
    }
    if let [last] = last {
        *last = at as u32;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_abi::Writer;

    #[test]
    fn heads_are_short_whatever_number_a_relation_has() {
        for relation in [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let mut row = Writer::new();
            row.array(4);
            row.uint(relation);
            row.uint(op::UPDATE.into());
            row.uint(image::NEW.into());
            row.array(2);
            let values = row.as_slice().len();
            row.str("one");
            row.str("two");
            let bytes = row.as_slice();
            let short = ShortHead::of(ShortHead::word(bytes, 0));
            let Some(head) = short.parse() else {
                assert!(relation > 0xffff, "{relation}");
                continue;
            };
            assert_eq!(
                (head.relation, head.op, head.count),
                (Some(relation as u32), op::UPDATE, 2)
            );
            assert_eq!(short.len, values);
            let mut offsets = [0; 2];
            assert_eq!(short_values(bytes, short.len, &mut offsets), Some(bytes.len()));
            assert_eq!(offsets, [values as u32, values as u32 + 4]);
            assert!(short.begins(ShortHead::word(bytes, 0)));
            let mut other = bytes.to_vec();
            other[values - 1] = 0x93;
            assert!(!short.begins(ShortHead::word(&other, 0)), "another number of values");
        }
    }

    /// The same places and ends as rows have that are read one by one.
    #[test]
    fn rows_that_are_alike_are_found_together() {
        for count in [0, 1, 2, 3, 7] {
            for seed in 0..40usize {
                let mut batch = Writer::new();
                let (mut places, mut rows) = (Vec::new(), 0);
                let total = seed % 23;
                for row in 0..total {
                    batch.array(4);
                    batch.uint(9);
                    batch.uint(op::INSERT.into());
                    batch.uint(image::NEW.into());
                    batch.array(count);
                    for value in 0..count {
                        places.push(batch.len() as u32);
                        match (row * 7 + value * 3 + seed) % 11 {
                            0 => batch.uint(1 << 20),
                            1 => batch.str(&"long".repeat(12)),
                            2 => batch.nil(),
                            3 => batch.f64(1.5),
                            short => batch.str(&"short text"[..short - 1]),
                        }
                    }
                    rows += 1;
                }
                let end = batch.len();
                // Another row behind them, or the end, and what is no value.
                match seed % 3 {
                    0 => batch.raw(&[0x94, 9, op::DELETE, image::NEW, 0x90, 0, 0, 0, 0]),
                    1 => batch.raw(&[0x94, 9, op::INSERT, image::NEW, 0x90 | count as u8, 0xdb, 0xff, 0xff]),
                    _ => {}
                }
                let bytes = batch.as_slice();
                let head = ShortHead::of(ShortHead::word(bytes, 0));
                let (mut at, mut found, mut left) = (0, Vec::new(), rows);
                let mut starts = Starts::default();
                while left > 0 {
                    let (some, next) = alike(bytes, at, head, count, left, &mut starts);
                    if some.is_empty() {
                        break;
                    }
                    left -= some.len() / count.max(1);
                    found.extend_from_slice(if count == 0 { &[] } else { some });
                    at = next;
                }
                // The last ones may be too near the end to be found quickly.
                assert!(left <= 2, "{count} {seed}: {left}");
                assert_eq!(found, places[..places.len() - left * count], "{count} {seed}");
                assert!(left > 0 || at == end);
            }
        }
    }
}
