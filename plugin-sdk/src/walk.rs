//! Walks through the rows of a batch, each with its table.

use crate::batch::{Head, Rows, ShortHead, Starts, alike};
use crate::projection::Named;
use crate::relation::Relation;
use crate::row::{Row, Transaction};
use crate::rowless::{self, Rowless};
use crate::{Message, Truncate, export};
use rowmill_abi::Malformed;

/// A table that rows may come from.
#[derive(Debug)]
pub struct Known<T> {
    pub(crate) relation: Relation,
    pub(crate) read: Vec<Named>,
    pub(crate) writes: Vec<Named>,
    pub(crate) table: T,
}

/// Why a whole batch can't be answered.
#[derive(Debug)]
pub enum Stop {
    /// It is no batch.
    Malformed(Malformed),
    /// A row of a relation that was never announced.
    UnknownRelation(u32),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Where the values of the rows at hand begin.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    /// Of rows that are alike.
    alike: Starts,
    /// Of any other row.
    many: Vec<u32>,
}

/// What is shown beside rows.
pub(crate) enum Shown<'a> {
    Message(Message<'a>),
    Truncate(Truncate<'a>),
}

/// Has the truncate or message that begins at `start` looked at. Never inlined: it is rare.
#[inline(never)]
pub(crate) fn rowless<T, R>(
    bytes: &[u8],
    start: usize,
    transaction: &Transaction,
    known: &[Known<T>],
    truncated: &mut Vec<u32>,
    look: impl FnOnce(Shown<'_>) -> R,
) -> Result<R, Stop> {
    match rowless::read(bytes, start, truncated)? {
        Rowless::Message {
            is_transactional,
            prefix,
            content,
        } => Ok(look(Shown::Message(Message {
            is_transactional,
            prefix,
            content,
            transaction,
        }))),
        Rowless::Truncate(read) => {
            let relations = truncated
                .iter()
                .map(|relation| find(known, *relation).map(|known| &known.relation));
            let relations: Vec<_> = relations.collect::<Result<_, _>>()?;
            Ok(look(Shown::Truncate(Truncate::new(read, transaction, &relations))))
        }
    }
}

/// What is done with the rows of a batch, one after the other.
///
/// Two functions rather than one that is told which it is: a row that is handed over as one of two cases is written to
/// memory and copied from there.
pub(crate) trait Visit<T> {
    /// An image of a row of this table; `absent`: whether a column that is read is.
    fn row(&mut self, index: u32, row: Row<'_>, of: &Known<T>, absent: bool);
    /// A truncate or a message, which begins at `start`.
    fn rowless(&mut self, index: u32, start: usize, transaction: &Transaction) -> Result<(), Stop>;
}

/// Shows every row of a batch to `visit`, with its index.
///
/// The values of as many rows as are alike are found first, then those rows are shown: two loops that each need few
/// locals. A loop that does both keeps half of what it needs in memory, since what is rare in it is a call, and a call
/// leaves nothing in registers.
// This has one caller in a module.
#[inline(always)]
pub(crate) fn each<T>(
    rows: &mut Rows<'_>,
    known: &[Known<T>],
    offsets: &mut Offsets,
    visit: &mut impl Visit<T>,
) -> Result<(), Stop> {
    let (bytes, mut at) = (rows.bytes, rows.start);
    // What the last short row began with, and what that means: mostly it is the same for the next.
    let mut last = (ShortHead::NONE, None);
    let mut index = 0;
    while index < rows.count {
        export::at_row(index as i32);
        if u64::from(index) >= rows.transaction_end {
            rows.enter_transaction(index)?;
        }
        let word = ShortHead::word(bytes, at);
        if !last.0.begins(word) {
            let short = ShortHead::of(word);
            last = (short, of_short(short, known)?);
        }
        let quick = last.1.and_then(|(head, of): (Head, &Known<T>)| {
            // Of one transaction.
            let most = rows.transaction_end.saturating_sub(index.into());
            let most = most.max(1).min(u64::from(rows.count - index)) as usize;
            let (starts, next) = alike(bytes, at, last.0, head.count, most, &mut offsets.alike);
            (!starts.is_empty()).then_some((head, of, starts, next))
        });
        let start = at;
        let (head, of, starts) = match quick {
            Some((head, of, starts, next)) => {
                at = next;
                (head, Some(of), starts)
            }
            None => {
                let (head, next) = rows.any_row(at, &mut offsets.many)?;
                at = next;
                let of = head.relation.map(|relation| find(known, relation)).transpose()?;
                (head, of, offsets.many.as_slice())
            }
        };
        let transaction = &rows.transaction;
        let Some(of) = of else {
            visit.rowless(index, start, transaction)?;
            index += 1;
            continue;
        };
        let alike = Row {
            bytes,
            offsets: &[],
            relation: &of.relation,
            read: &of.read,
            transaction,
            index,
            op: head.op,
            image: head.image,
            gaps: head.gaps,
        };
        for starts in starts.chunks_exact(head.count.max(1)) {
            export::at_row(index as i32);
            let offsets = starts.get(..head.count).unwrap_or_default();
            visit.row(
                index,
                Row {
                    offsets,
                    index,
                    ..alike
                },
                of,
                head.absent,
            );
            index += 1;
        }
    }
    Ok(())
}

/// What a short head means, and its table; `None` where it is none.
#[cold]
#[inline(never)]
fn of_short<T>(short: ShortHead, known: &[Known<T>]) -> Result<Option<(Head, &Known<T>)>, Stop> {
    let Some(head) = short.parse() else {
        return Ok(None);
    };
    let of = head.relation.map(|relation| find(known, relation)).transpose()?;
    Ok(of.map(|of| (head, of)))
}

#[cold]
#[inline(never)]
fn find<T>(known: &[Known<T>], relation: u32) -> Result<&Known<T>, Stop> {
    let found = known.binary_search_by_key(&relation, |known| known.relation.index);
    let at = found.map_err(|_| Stop::UnknownRelation(relation))?;
    known.get(at).ok_or(Stop::UnknownRelation(relation))
}
