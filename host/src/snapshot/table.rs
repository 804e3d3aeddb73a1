//! A table while it is being copied, as the merger sees it.

use super::fault;
use super::key::{self, NoKey};
use super::merge::{Change, KeyedMerge, Verdict};
use super::patience::{For, Patience};
use super::plan::{self, TableCopy, TableProgress};
use super::visibility::Snapshot;
use super::waiting::{Waiting, WaitingRoom};
use super::worker::Unit;
use crate::batch::{Batch, Left, Lsn, Relation, Row, Value};
use crate::problem::Problem;
use rustc_hash::FxHashMap;

/// What happens to the changes that the stream brings.
#[derive(Debug)]
pub(super) enum Changes {
    /// They go out, and are remembered.
    Keyed(KeyedMerge),
    /// They wait until the rows are out.
    Wait(Waiting),
    /// The rows are out as of this snapshot.
    Out(Snapshot),
}

/// What becomes of a streamed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
    /// The sinks that the table is copied for get this of it; the others, which have had the table all along, all of it.
    WholeForOthers(Left),
}

#[derive(Debug)]
pub(super) struct Table {
    pub copy: TableCopy,
    pub changes: Changes,
    pub generation: u32,
    /// Units of this generation that have gone out.
    pub merged: u32,
    /// How many there are, once that is known.
    pub units: Option<u32>,
    /// The last F of anything that has gone out, and of a unit.
    pub last_finish: Lsn,
    pub units_finish: Lsn,
    /// Numbers of units that only hold rows read again are counted from the top.
    pub repairs: u32,
    pub progress: TableProgress,
    /// Rows of columns that it doesn't have any more may come; nothing is read before they have.
    pub held: bool,
    /// Another copy of it has begun.
    pub given_up: bool,
    /// How those wait whose rows can't be read again for now.
    pub patience: Patience,
    slots: FxHashMap<u32, Option<Box<[u16]>>>,
    key: Vec<u8>,
    old_key: Vec<u8>,
}

impl Table {
    pub(super) fn new(copy: TableCopy, room: &WaitingRoom) -> Self {
        let progress = TableProgress {
            oid: copy.relation.oid,
            table: copy.relation.full_name(),
            rows: copy.tally.rows,
            bytes: copy.tally.bytes,
            units: copy.tally.units,
            rows_estimated: copy.rows_estimated,
            restarts: 0,
            done: false,
        };
        let nothing_left = plan::gaps(&copy.copied).is_empty();
        let mut changes = changes_of(&copy, room);
        if let Changes::Keyed(merge) = &mut changes {
            for ahead in &copy.ahead {
                merge.restore(&ahead.snapshot, ahead.finish, &ahead.keys, ahead.repair);
            }
        }
        Self {
            changes,
            generation: 0,
            merged: 0,
            units: nothing_left.then_some(0),
            last_finish: Lsn(0),
            units_finish: Lsn(0),
            repairs: 0,
            progress,
            held: copy.altered,
            given_up: false,
            patience: Patience::default(),
            slots: FxHashMap::default(),
            key: Vec::new(),
            old_key: Vec::new(),
            copy,
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.copy.epoch + self.generation
    }

    /// The table was truncated.
    pub(super) fn restart(&mut self, room: &WaitingRoom) {
        match &mut self.changes {
            Changes::Keyed(merge) => merge.truncated(),
            _ => {
                self.changes = changes_of(&self.copy, room);
                self.last_finish = Lsn(0);
            }
        }
        (self.repairs, self.units_finish) = (0, Lsn(0));
        self.read_anew();
    }

    /// All of its units are read once more, beside what is known of its changes.
    pub(super) fn read_anew(&mut self) {
        self.generation += 1;
        (self.merged, self.units) = (0, None);
        self.progress.restarts += 1;
        (self.progress.units, self.progress.done) = (0, false);
    }

    /// Another copy of it has begun: nothing of this one goes out any more.
    pub(super) fn give_up(&mut self) {
        self.generation += 1;
        self.changes = Changes::Keyed(KeyedMerge::default());
        (self.given_up, self.held) = (true, false);
    }

    /// Judges a streamed row, changes it where only one half of it goes out, and says what becomes of it.
    pub(super) fn stream(&mut self, batch: &Batch, row: &mut Row) -> Result<Kept, Box<Problem>> {
        let xid = batch.transaction(row).xid;
        let left = match &mut self.changes {
            Changes::Out(snapshot) if snapshot.sees(xid) => Some(Left::Nothing),
            Changes::Out(_) => None,
            Changes::Wait(waiting) => {
                let pushed = waiting.push(batch, row);
                pushed.map_err(|no_room| fault::too_much_waits(&self.copy, &no_room))?;
                Some(Left::Nothing)
            }
            Changes::Keyed(_) => self.stream_keyed(batch, row, xid)?,
        };
        Ok(match left {
            None => Kept::Yes,
            Some(left) if self.copy.late && matches!(self.changes, Changes::Keyed(_)) => Kept::WholeForOthers(left),
            Some(left) => match left.of(row) {
                None => Kept::No,
                Some(half) => {
                    *row = half;
                    Kept::Yes
                }
            },
        })
    }

    /// What is left of a row, where that isn't all of it.
    fn stream_keyed(&mut self, batch: &Batch, row: &Row, xid: u32) -> Result<Option<Left>, Box<Problem>> {
        let Self {
            copy,
            changes,
            slots,
            key,
            old_key,
            held,
            ..
        } = self;
        let Changes::Keyed(merge) = changes else {
            return Ok(None);
        };
        let relation = batch.relation(row);
        let slots = slots
            .entry(relation.index)
            .or_insert_with(|| key::slots(relation, &copy.key));
        let Some(slots) = slots.as_deref() else {
            // It has another key by now. Whoever changed it then is seen by every snapshot that sees the new one.
            return if *held { Ok(None) } else { Err(fault::changed(copy)) };
        };
        // By an update into a unit that is out already, or by one into the set that a plugin or the publication lets through.
        let may_be_missing = copy.file.is_some() || copy.filtered || copy.filter.is_some();
        let change = match change_of(batch, row, relation, slots, may_be_missing, [key, old_key]) {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(None),
            // As above: the old row has what the key was.
            Err(NoKey) if *held => return Ok(None),
            Err(NoKey) => return Err(fault::no_key(copy)),
        };
        Ok(match merge.change(xid, change) {
            Verdict::Deliver => None,
            Verdict::Drop => Some(Left::Nothing),
            Verdict::OldOnly => Some(Left::Old),
            Verdict::NewOnly if is_complete(batch, row, relation) => Some(Left::New),
            // It is read again at the next boundary.
            Verdict::NewOnly => Some(Left::Nothing),
        })
    }

    /// Whether all its rows are out.
    pub(super) fn is_out(&self) -> bool {
        self.units == Some(self.merged)
    }

    /// The stream stands at `position`, and nothing is left to be read again. What an earlier run has passed by comes
    /// again up to `begun`.
    pub(super) fn passed(&mut self, position: Lsn, begun: Lsn) {
        let all_there = self.is_out() && position >= self.units_finish.max(begun);
        if let (true, Changes::Keyed(merge)) = (all_there, &mut self.changes) {
            merge.rows_are_there();
        }
    }

    /// Whether a row is read again that comes without all of its values, so that it needn't be at the target.
    pub(super) fn fills_in(&self) -> bool {
        matches!(&self.changes, Changes::Keyed(merge) if !merge.are_rows_there())
    }

    /// Whether nothing that the stream will bring behind `position` is left to be judged. What an earlier run has read
    /// shows nothing behind `begun`.
    pub(super) fn is_over(&self, position: Lsn, begun: Lsn) -> bool {
        let is_settled = match &self.changes {
            Changes::Keyed(merge) => merge.is_settled(),
            Changes::Wait(_) => false,
            Changes::Out(_) => true,
        };
        self.is_out() && is_settled && position >= self.last_finish.max(begun)
    }

    /// Whether a start that finds what is counted by now would find all that has gone out, and nothing that shows
    /// changes which are still to come; `position` is where the stream stands.
    pub(super) fn is_even(&self, position: Lsn) -> bool {
        match &self.changes {
            Changes::Keyed(merge) => merge.is_settled() && position >= self.last_finish,
            Changes::Wait(_) => self.merged == 0,
            Changes::Out(_) => false,
        }
    }

    /// Whether a unit lacks rows that can't be read again before it is its table's turn.
    pub(super) fn waits_for_turn(&self, unit: &Unit) -> bool {
        !unit.rereads.is_empty() && self.patience.of(For::Units).waits().is_some()
    }

    /// Whether the target lacks values of what the stream has brought until rows are read again.
    pub(super) fn owes(&self) -> bool {
        matches!(&self.changes, Changes::Keyed(merge) if merge.owes())
    }
}

fn changes_of(copy: &TableCopy, room: &WaitingRoom) -> Changes {
    match copy.key.is_empty() {
        true => Changes::Wait(Waiting::new(room, copy.relation.oid)),
        false => Changes::Keyed(KeyedMerge::default()),
    }
}

/// What a row does to the keys of its table, which are written to `buffers`.
fn change_of<'k>(
    batch: &Batch,
    row: &Row,
    relation: &Relation,
    slots: &[u16],
    may_be_missing: bool,
    buffers: [&'k mut Vec<u8>; 2],
) -> Result<Option<Change<'k>>, NoKey> {
    let [key, old_key] = buffers;
    Ok(Some(match (row.old, row.new) {
        (Some(old), Some(new)) => {
            key::write(batch, old, None, slots, old_key)?;
            key::write(batch, new, Some(old), slots, key)?;
            match key == old_key {
                true if may_be_missing && !is_complete(batch, row, relation) => Change::Part(key),
                true => Change::One(key),
                false => Change::Moved {
                    old: old_key,
                    new: key,
                    complete: is_complete(batch, row, relation),
                },
            }
        }
        (Some(only), None) | (None, Some(only)) => {
            key::write(batch, only, None, slots, key)?;
            match may_be_missing && row.new.is_some() && !is_complete(batch, row, relation) {
                true => Change::Part(key),
                false => Change::One(key),
            }
        }
        (None, None) => return Ok(None),
    }))
}

fn is_complete(batch: &Batch, row: &Row, relation: &Relation) -> bool {
    let unchanged = |tuple| batch.values(tuple, relation).any(|value| value == Value::Unchanged);
    !row.new.is_some_and(unchanged)
}
