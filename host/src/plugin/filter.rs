//! A filter's reply, checked and applied.

use super::cursor::{BadReply, Cursor, Reply, Scalar, open};
use super::encode::{Encoder, mark};
use super::error::{RowErrorKind, guest_text};
use super::membership::{Fate, Verdict, fate};
use super::refused::Refused;
use crate::batch::{Batch, Cell, OldImage, Op, Relation, Row, Tuple};
use crate::config::FilterMode;

/// Why a reply is not applied.
#[derive(Debug)]
pub(crate) enum Unapplied {
    Bad(BadReply),
    /// It does what it must not, at this guest row.
    Breach {
        image: u32,
        what: String,
    },
    /// Beyond what it may make of a batch's rows, at this guest row.
    TooManyRows {
        image: u32,
    },
    /// It asks for the pipeline to stop, at this guest row.
    Stop {
        image: u32,
        reason: String,
    },
    Failed {
        retryable: bool,
        message: String,
    },
}

impl From<BadReply> for Unapplied {
    fn from(bad: BadReply) -> Self {
        Self::Bad(bad)
    }
}

impl From<BadReply> for Box<Unapplied> {
    #[cold]
    fn from(bad: BadReply) -> Self {
        Self::new(Unapplied::Bad(bad))
    }
}

/// Opens a reply that must be done.
pub(crate) fn done(reply: &[u8]) -> Result<(Cursor<'_>, usize), Unapplied> {
    match open(reply)? {
        Reply::Done(cursor, left) => Ok((cursor, left)),
        Reply::Retryable(message) => Err(Unapplied::Failed {
            retryable: true,
            message: guest_text(message.as_bytes()),
        }),
        Reply::Fatal(message) => Err(Unapplied::Failed {
            retryable: false,
            message: guest_text(message.as_bytes()),
        }),
    }
}

/// A code that a plugin gave: a number or a word.
pub(crate) fn code(cursor: &mut Cursor<'_>) -> Result<String, BadReply> {
    let start = *cursor;
    match cursor.scalar()? {
        Scalar::Int(code) => Ok(code.to_string()),
        Scalar::Str(code) => Ok(guest_text(code.as_bytes())),
        _ => start.bad("a code is a number or a string"),
    }
}

/// A reason that a plugin gave, which may be nil.
pub(crate) fn reason(cursor: &mut Cursor<'_>) -> Result<String, BadReply> {
    if cursor.nil() {
        return Ok(String::new());
    }
    Ok(guest_text(cursor.str()?.as_bytes()))
}

/// Verdicts over the guest rows of a call.
enum Verdicts<'a> {
    All(bool),
    Bitmap(&'a [u8]),
}

impl Verdicts<'_> {
    #[inline]
    fn of(&self, image: u32) -> Verdict {
        let matches = match self {
            Self::All(matches) => *matches,
            Self::Bitmap(bits) => bits[image as usize / 8] >> (image % 8) & 1 == 1,
        };
        if matches { Verdict::Match } else { Verdict::NoMatch }
    }
}

type Rejects = Vec<(u32, RowErrorKind)>;

fn verdicts(reply: &[u8], images: u32) -> Result<(Verdicts<'_>, Rejects), Unapplied> {
    let (mut cursor, left) = done(reply)?;
    if left == 0 || left > 2 {
        return Ok(cursor.bad("a filter's reply is [0, verdict, rejects]")?);
    }
    let start = cursor;
    let verdicts = match cursor.scalar()? {
        Scalar::Bool(all) => Verdicts::All(all),
        Scalar::Bin(bits) if bits.len() == (images as usize).div_ceil(8) => Verdicts::Bitmap(bits),
        Scalar::Bin(_) => return Ok(start.bad("a bitmap of the wrong length")?),
        _ => return Ok(start.bad("a verdict is a boolean or a bitmap")?),
    };
    let rejects = match left == 2 && !cursor.nil() {
        true => rejects(&mut cursor, images)?,
        false => Vec::new(),
    };
    cursor.finish()?;
    Ok((verdicts, rejects))
}

/// The rejected guest rows, ascending, each once.
fn rejects(cursor: &mut Cursor<'_>, images: u32) -> Result<Rejects, Unapplied> {
    let count = cursor.array()?;
    if count > images as usize {
        return Ok(cursor.bad("more rejects than rows")?);
    }
    let mut rejects = Vec::with_capacity(count);
    for _ in 0..count {
        if cursor.array()? != 3 || images == 0 {
            return Ok(cursor.bad("a reject is [row, code, reason]")?);
        }
        let image = cursor.index(images as usize - 1)? as u32;
        let kind = RowErrorKind::Rejected {
            code: code(cursor)?,
            reason: reason(cursor)?,
        };
        rejects.push((image, kind));
    }
    rejects.sort_by_key(|(image, _)| *image);
    rejects.dedup_by_key(|(image, _)| *image);
    Ok(rejects)
}

/// Applies a filter's reply to the rows of a call: what is left of them goes to `out`.
pub(crate) fn apply(
    reply: &[u8],
    encoder: &Encoder,
    rows: &[Row],
    mode: FilterMode,
    batch: &mut Batch,
    out: &mut Vec<Row>,
    refused: &mut Refused,
) -> Result<(), Box<Unapplied>> {
    let (verdicts, rejects) = verdicts(reply, encoder.images)?;
    let any_reject = !rejects.is_empty();
    let mut rejects = rejects.into_iter().peekable();
    let mut runs = encoder.runs.iter().filter(|run| run.inserted).peekable();
    let mut image = 0;
    let mut next = 0;
    while let (Some(row), Some(marks)) = (rows.get(next), encoder.marks.get(next)) {
        let at = next;
        next += 1;
        if !any_reject && let Some(run) = runs.next_if(|run| run.start == at) {
            // Nothing else of them is to be asked.
            keep(&verdicts, image, &rows[at..run.end], out);
            image += (run.end - at) as u32;
            next = run.end;
            continue;
        }
        // No image of it was shipped: passed by, or a delete that can't be judged.
        if marks & mark::SHIPPED == 0 {
            if marks & mark::DROP == 0 {
                out.push(*row);
            }
            continue;
        }
        let mut judged = |shipped: u8| {
            if marks & shipped == 0 {
                return Verdict::Unjudged;
            }
            image += 1;
            verdicts.of(image - 1)
        };
        let (old, new) = (judged(mark::OLD), judged(mark::NEW));
        if any_reject && rejects.peek().is_some_and(|(rejected, _)| *rejected < image) {
            while let Some((_, kind)) = rejects.next_if(|(rejected, _)| *rejected < image) {
                if refused.list.last().is_none_or(|(last, _)| *last != refused.base + at) {
                    refused.add(at, kind, row, out);
                }
            }
            continue;
        }
        match fate(mode, row.op, old, new) {
            Fate::Pass => out.push(*row),
            Fate::Drop => {}
            fate => match settle(fate, row, batch) {
                Some(row) => out.push(row),
                None => refused.add(at, RowErrorKind::NoKey, row, out),
            },
        }
    }
    Ok(())
}

/// Bits of a byte, and rows that are looked at together.
const EIGHT: usize = 8;

/// Keeps those of the rows that match. The first of them is the guest row `image`, and each has one.
fn keep(verdicts: &Verdicts<'_>, image: u32, rows: &[Row], out: &mut Vec<Row>) {
    let bits = match verdicts {
        Verdicts::All(false) => return,
        Verdicts::All(true) => return out.extend_from_slice(rows),
        Verdicts::Bitmap(bits) => bits,
    };
    out.reserve(rows.len());
    // Up to where a byte begins, then a byte's rows at a time.
    let image = image as usize;
    let (before, rows) = rows.split_at((image.next_multiple_of(EIGHT) - image).min(rows.len()));
    keep_few(bits, image, before, out);
    let image = image + before.len();
    let (eights, behind) = rows.as_chunks::<EIGHT>();
    let whole = bits.get(image / EIGHT..).unwrap_or_default();
    for (rows, eight) in eights.iter().zip(whole) {
        // All are taken, then those that match are written over the others, while they are at hand: no branch hangs on
        // what is another from row to row.
        let start = out.len();
        out.extend_from_slice(rows);
        let mut kept = 0;
        if let Some(made) = out.last_chunk_mut::<EIGHT>() {
            for (at, row) in rows.iter().enumerate() {
                // It is at most that anyway: said here so that no place has to be checked.
                made[kept % EIGHT] = *row;
                kept += usize::from(eight >> at & 1);
            }
        }
        out.truncate(start + kept);
    }
    keep_few(bits, image + eights.len() * EIGHT, behind, out);
}

/// The same for less rows than a byte tells of, the first of which is the guest row `image`.
fn keep_few(bits: &[u8], image: usize, rows: &[Row], out: &mut Vec<Row>) {
    let matches = |at: usize| bits.get(at / EIGHT).is_some_and(|eight| eight >> (at % EIGHT) & 1 == 1);
    let kept = (image..).zip(rows).filter(|(at, _)| matches(*at));
    out.extend(kept.map(|(_, row)| *row));
}

/// The change that a fate makes of a row; `None` where it is to be deleted by a key that it hasn't.
fn settle(fate: Fate, row: &Row, batch: &mut Batch) -> Option<Row> {
    let mut row = *row;
    match fate {
        Fate::Insert => {
            // With a value missing it is no whole row, so the sink has to know that it may be there.
            let slots = batch.relation(&row).slots;
            let whole = row.new.is_none_or(|new| !has_unchanged(batch, new, slots));
            row.op = if whole { Op::Insert } else { Op::Upsert };
            row.old = None;
        }
        Fate::Upsert => row.op = Op::Upsert,
        Fate::Delete | Fate::DeleteByKey => {
            if row.old.is_none() {
                let relation = std::sync::Arc::clone(batch.relation(&row));
                row.old = Some(key_image(batch, row.new?, &relation)?);
                row.old_image = OldImage::Key;
            }
            row.op = Op::Delete;
            row.new = None;
        }
        Fate::Pass | Fate::Drop => {}
    }
    Some(row)
}

fn has_unchanged(batch: &Batch, tuple: Tuple, slots: u16) -> bool {
    let start = tuple.0 as usize;
    batch.cells[start..start + usize::from(slots)].contains(&Cell::UNCHANGED)
}

/// An old image of the key alone, made of a new one.
fn key_image(batch: &mut Batch, new: Tuple, relation: &Relation) -> Option<Tuple> {
    relation.key_columns().next()?;
    let key = batch.push_tuple(std::iter::repeat_n(Cell::ABSENT, usize::from(relation.slots)));
    for column in relation.key_columns() {
        let slot = usize::from(column.slot);
        let cell = batch.cells[new.0 as usize + slot];
        batch.cells[key.0 as usize + slot] = cell;
    }
    Some(key)
}
