//! Cuts rows into runs: neighbours that one statement can apply.

use super::apply::Work;
use super::encode::hex_bytes;
use super::long::LONG_BYTES;
use super::target::Target;
use crate::batch::{Batch, Cell, Op, Origin, Row, Tuple, Value};
use crate::config::WriteMode;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

/// Rows of one COPY: what is applied again where one of them is there already.
const COPY_ROWS_MAX: usize = 50_000;
/// Rows of one statement: enough to make its own cost nothing, few enough that the next one is made ready while the
/// server works.
const STATEMENT_ROWS_MAX: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A row that must not be there yet.
    Add,
    /// A row that should not be there yet, and is to be there with these values if it is.
    Insert,
    /// A row that is to be there with these values.
    Upsert,
    /// The columns that a change brings, of a row that should be there.
    Update,
    /// The same where the row must be there: nothing that comes later would bring the values that are missing here.
    Complete,
    /// An update that changes the key.
    Shift,
    /// The same where a row with the new key may be there, or none with the old one.
    Move,
    Delete,
    /// Takes away rows whose ALWAYS identity is another than the one that comes: an upsert behind it brings them.
    Replaced,
    /// Counts rows whose ALWAYS identity is another than the one that comes, which no update gives them.
    Differing,
    /// A row that tells of a change.
    Append,
    /// Without a key: one row that equals the old image.
    UpdateEqual,
    DeleteEqual,
    Truncate,
}

impl Kind {
    /// Rows of a run.
    fn rows_max(self, by_copy: bool) -> usize {
        match self {
            Self::Insert | Self::Add | Self::Append if by_copy => COPY_ROWS_MAX,
            Self::Insert | Self::Add | Self::Append => STATEMENT_ROWS_MAX,
            Self::Upsert | Self::Update | Self::Complete | Self::Delete | Self::Truncate => STATEMENT_ROWS_MAX,
            Self::Replaced | Self::Differing => STATEMENT_ROWS_MAX,
            Self::Shift | Self::Move | Self::UpdateEqual | Self::DeleteEqual => 1,
        }
    }

    /// Whether the rows are new ones, which COPY brings faster.
    pub(super) fn is_insert(self) -> bool {
        matches!(self, Self::Insert | Self::Add | Self::Append)
    }
}

/// Which of a target's columns have a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Columns(Vec<u64>);

impl Columns {
    fn clear(&mut self, columns: usize) {
        self.0.clear();
        self.0.resize(columns.div_ceil(64), 0);
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// With room for so many.
    pub(super) fn set(&mut self, at: usize, columns: usize) {
        self.grow_to(columns);
        self.insert(at);
    }

    fn grow_to(&mut self, columns: usize) {
        self.0.resize(columns.div_ceil(64), 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) kind: Kind,
    /// Index into the batch's relations.
    pub(super) relation: u32,
    pub(super) columns: Columns,
    /// Those of them whose value came in binary form: it goes to the target in it, in a run of its own.
    pub(super) binary: Columns,
    /// Whether it is one row, too long for parameters.
    pub(super) long: bool,
    /// Which of the delivery's rows.
    pub(super) rows: Range<usize>,
}

impl Run {
    /// The same rows for another statement.
    pub(super) fn as_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }
}

/// A change that can't be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("an update or delete came without the values of the key")]
    NoKey,
    #[error(
        "a row came into the publication's filter by an update that left a TOASTed column alone, whose value isn't sent"
    )]
    Unchanged,
    #[error("a value of 512 MiB or more identifies the row, which only a shorter one can")]
    Binary,
}

/// Cuts runs; kept between deliveries for its memory.
#[derive(Debug)]
pub(super) struct Cutter {
    mode: WriteMode,
    /// Hashes of the keys of the run. An equal hash of another key only cuts a run short.
    keys: FxHashSet<u64>,
    columns: Columns,
    binary: Columns,
}

impl Cutter {
    pub(super) fn new(mode: WriteMode) -> Self {
        Self {
            mode,
            keys: FxHashSet::default(),
            columns: Columns::default(),
            binary: Columns::default(),
        }
    }

    /// The run that begins at `rows.start`; `by_copy` where long runs of new rows may go by COPY.
    pub(super) fn next(
        &mut self,
        work: Work<'_>,
        rows: Range<usize>,
        targets: &FxHashMap<u32, Arc<Target>>,
        by_copy: bool,
    ) -> Result<Option<Run>, (usize, Unusable)> {
        self.keys.clear();
        let mut run: Option<Run> = None;
        // Two new rows of the same key are no matter of COPY's: it takes both, or none.
        let is_apart = |kind: Kind| by_copy && kind.is_insert();
        let mut rows_max = 1;
        let may_be_long = work.batch.bytes.len().max(work.batch.arena.len()) >= LONG_BYTES / 2;
        for at in rows {
            let row = &work.rows[at];
            if row.op == Op::Message {
                // Nothing to apply, and nothing that cuts: it is skipped when the run is encoded.
                if let Some(run) = &mut run {
                    run.rows.end = at + 1;
                }
                continue;
            }
            let (kind, key) = self.classify(work, row, targets).map_err(|unusable| (at, unusable))?;
            let long = may_be_long && value_bytes(work, row, targets) >= LONG_BYTES;
            let Some(run) = &mut run else {
                if !is_apart(kind) {
                    self.keys.insert(key);
                }
                run = Some(Run {
                    kind,
                    relation: row.relation,
                    columns: self.columns.clone(),
                    binary: self.binary.clone(),
                    long,
                    rows: at..at + 1,
                });
                rows_max = match self.is_watched(work, row, targets) || !self.binary.is_empty() || long {
                    true => 1,
                    false => kind.rows_max(by_copy),
                };
                if rows_max == 1 {
                    break;
                }
                continue;
            };
            if run.kind == Kind::Truncate {
                // What routes got of one truncate each: tables that refer to each other are emptied together.
                let first = &work.rows[run.rows.start];
                if kind != run.kind || (first.transaction, first.ordinal) != (row.transaction, row.ordinal) {
                    break;
                }
                run.rows.end = at + 1;
                continue;
            }
            let same = run.kind == kind
                && run.relation == row.relation
                && run.columns == self.columns
                && self.binary.is_empty()
                && !long;
            if !same || run.rows.len() >= rows_max || !is_apart(kind) && !self.keys.insert(key) {
                break;
            }
            run.rows.end = at + 1;
        }
        Ok(run)
    }

    /// Whether a trigger of the target's own acts on the row: those that fire after a change see the table as it was
    /// behind that change only where it has a statement for itself.
    fn is_watched(&self, work: Work<'_>, row: &Row, targets: &FxHashMap<u32, Arc<Target>>) -> bool {
        self.mode == WriteMode::Mirror
            && row.op != Op::Truncate
            && matches!(work.batch.transaction(row).origin, Origin::Stream | Origin::Replay(_))
            && targets[&work.batch.relation(row).index].triggers
    }

    /// What to do with a row, and its key's hash. Leaves the columns that have a value in `self.columns`, and those in
    /// binary form in `self.binary`.
    fn classify(
        &mut self,
        work: Work<'_>,
        row: &Row,
        targets: &FxHashMap<u32, Arc<Target>>,
    ) -> Result<(Kind, u64), Unusable> {
        let batch = work.batch;
        self.columns.clear(0);
        self.binary.clear(0);
        if row.op == Op::Truncate {
            return Ok((Kind::Truncate, 0));
        }
        let target = &targets[&batch.relation(row).index];
        if self.mode == WriteMode::Append {
            return self.append(batch, row, target);
        }
        let Some(new) = row.new.filter(|_| row.op != Op::Delete) else {
            let old = row.old.ok_or(Unusable::NoKey)?;
            return if target.keyed {
                Ok((Kind::Delete, key_hash(batch, target, old, None)?))
            } else {
                Ok((Kind::DeleteEqual, all_text(batch, target, old)?))
            };
        };
        self.columns.clear(target.columns.len());
        let (mut whole, mut unchanged) = (true, false);
        for (at, column) in target.columns.iter().enumerate() {
            match batch.value(new, column.slot) {
                Value::Unchanged => (whole, unchanged) = (false, true),
                Value::Absent => whole = false,
                Value::Null | Value::Text(_) => self.columns.insert(at),
                Value::Binary(_) => {
                    self.columns.insert(at);
                    self.binary.set(at, target.columns.len());
                }
            }
        }
        let inserts = matches!(row.op, Op::Insert | Op::Read);
        if inserts && unchanged {
            // An update into a publication's row filter is sent as an insert, without what the update left alone.
            return match target.keyed {
                true => Ok((Kind::Complete, key_hash(batch, target, new, None)?)),
                false => Err(Unusable::Unchanged),
            };
        }
        if !target.keyed {
            return match row.old {
                Some(old) if !inserts => Ok((Kind::UpdateEqual, all_text(batch, target, old)?)),
                None if !inserts && row.op != Op::Upsert => Err(Unusable::NoKey),
                // Rows may be equal: nothing is looked for, and no two are the same one.
                _ => Ok((Kind::Add, row.ordinal ^ u64::from(row.transaction) << 48)),
            };
        }
        let exact = self.is_exact(work, row);
        if inserts {
            let kind = if exact || target.due { Kind::Add } else { Kind::Insert };
            return Ok((kind, key_hash(batch, target, new, None)?));
        }
        if let Some(old) = row.old
            && key_differs(batch, target, old, new)
        {
            // Of one that comes in by this change nothing is there under the old key.
            let is_there = exact && row.op != Op::Upsert;
            return Ok((if is_there { Kind::Shift } else { Kind::Move }, 0));
        }
        let kind = match (whole, row.op) {
            (true, Op::Upsert) => Kind::Upsert,
            (true, _) if !exact => Kind::Upsert,
            (false, Op::Upsert) => Kind::Complete,
            _ => Kind::Update,
        };
        Ok((kind, key_hash(batch, target, new, row.old)?))
    }
}

impl Cutter {
    /// Every column gets what is known of it. No two changes are the same.
    fn append(&mut self, batch: &Batch, row: &Row, target: &Target) -> Result<(Kind, u64), Unusable> {
        self.columns.clear(target.columns.len());
        (0..target.columns.len()).for_each(|at| self.columns.insert(at));
        for (at, column) in target.columns.iter().enumerate() {
            let newest = match (row.new, row.old) {
                (Some(new), old) => key_value(batch, column.slot, new, old),
                (None, Some(old)) => batch.value(old, column.slot),
                (None, None) => Value::Absent,
            };
            if matches!(newest, Value::Binary(_)) {
                self.binary.set(at, target.columns.len());
            }
        }
        Ok((
            Kind::Append,
            row.ordinal ^ u64::from(row.transaction) << 48 ^ u64::from(row.fan_out) << 40,
        ))
    }

    /// Whether the target must have what the source had before the change. Copied rows and what is sent again may meet
    /// newer ones, and so may the changes of a table that is being copied.
    fn is_exact(&self, work: Work<'_>, row: &Row) -> bool {
        let transaction = work.batch.transaction(row);
        self.mode == WriteMode::Mirror
            && transaction.origin == Origin::Stream
            && !transaction.is_aside()
            && (work.copying.is_empty() || !work.copying.contains(&work.batch.relation(row).oid))
    }
}

/// Bytes of the values that a row brings; none of a truncate, whose row names no table.
fn value_bytes(work: Work<'_>, row: &Row, targets: &FxHashMap<u32, Arc<Target>>) -> usize {
    if !row.op.is_of_a_table() {
        return 0;
    }
    let columns = &targets[&work.batch.relation(row).index].columns;
    let images = [row.new, row.old].into_iter().flatten();
    let values = images.flat_map(|image| columns.iter().map(move |column| work.batch.value(image, column.slot)));
    let bytes = |value| match value {
        Value::Text(bytes) | Value::Binary(bytes) => bytes.len(),
        Value::Null | Value::Unchanged | Value::Absent => 0,
    };
    values.map(bytes).sum()
}

/// Whether a value has no text that the target takes: its digits are more than a field holds.
fn has_no_text(value: Value<'_>) -> bool {
    matches!(value, Value::Binary(bytes) if hex_bytes(bytes) > Cell::MAX_LEN)
}

/// 0 where every value can be compared as text.
fn all_text(batch: &Batch, target: &Target, image: Tuple) -> Result<u64, Unusable> {
    let mut values = target.columns.iter().map(|column| batch.value(image, column.slot));
    match values.any(has_no_text) {
        true => Err(Unusable::Binary),
        false => Ok(0),
    }
}

/// A key column's value: from the image, or where that has it unchanged, from the old one.
pub(super) fn key_value(batch: &Batch, slot: u16, image: Tuple, old: Option<Tuple>) -> Value<'_> {
    match (batch.value(image, slot), old) {
        (Value::Unchanged | Value::Absent, Some(old)) => batch.value(old, slot),
        (value, _) => value,
    }
}

pub(super) fn key_hash(batch: &Batch, target: &Target, image: Tuple, old: Option<Tuple>) -> Result<u64, Unusable> {
    let mut hasher = FxHasher::default();
    for column in target.columns.iter().filter(|column| column.key) {
        match key_value(batch, column.slot, image, old) {
            Value::Text(text) => {
                hasher.write(text);
                hasher.write_u8(0xFF);
            }
            Value::Null => hasher.write_u8(0xFE),
            value @ Value::Binary(_) if has_no_text(value) => return Err(Unusable::Binary),
            Value::Binary(bytes) => {
                hasher.write(bytes);
                hasher.write_u8(0xFD);
            }
            Value::Unchanged | Value::Absent => return Err(Unusable::NoKey),
        }
    }
    Ok(hasher.finish())
}

pub(super) fn key_differs(batch: &Batch, target: &Target, old: Tuple, new: Tuple) -> bool {
    target.columns.iter().filter(|column| column.key).any(|column| {
        let now = batch.value(new, column.slot);
        !matches!(now, Value::Unchanged | Value::Absent) && now != batch.value(old, column.slot)
    })
}
