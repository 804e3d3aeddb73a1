//! Merges units into the stream. Owned by the thread that passes the stream on.

mod out;
mod streamed;
mod turns;

use super::fault;
use super::merge::KeyedMerge;
use super::outgoing;
use super::patience::{Budget, For};
use super::plan::{Ahead, TableProgress, UnitRecord};
use super::reread::Request;
use super::shared::{Shared, UnitId};
use super::table::{Changes, Table};
use super::waiting::Waited;
use super::worker::{Event, Unit};
use crate::batch::{Batch, CopyUnit, Lsn};
use crate::problem::Problem;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Bytes of units merged at one boundary, so that the stream isn't held up for long.
const MERGE_BYTES: usize = 16 << 20;

/// Bytes of keys kept for units that were merged before their F. Beyond, units wait for it however long it takes.
const COVER_BYTES: usize = 64 << 20;

/// A unit that goes out now.
#[derive(Debug)]
pub struct MergedUnit {
    /// To be delivered in this order at the position that was given. Rows are copied ones (origin `Copy`).
    pub batches: Vec<Batch>,
    /// Behind them, where they complete a table without a key, the changes that waited for it: streamed ones, with their
    /// own commit's place.
    pub waited: Option<Waited>,
    pub unit: CopyUnit,
    /// `None` for rows that were read again beside the units.
    pub record: Option<UnitRecord>,
}

/// A unit that counts once all that went out before is durable.
#[derive(Debug)]
pub struct CountedUnit {
    pub record: UnitRecord,
    /// To be dropped when the ledger has it: its reader may begin another unit then.
    pub turn: Option<OwnedSemaphorePermit>,
}

/// A table whose copy is over, or has started over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEpoch {
    pub oid: u32,
    pub epoch: u32,
}

/// Merges the units of a copy into the stream; made by [`super::start`]. Not for use within async code: it blocks.
pub struct Merger {
    tables: Vec<Table>,
    /// Those under copy.
    by_oid: FxHashMap<u32, usize>,
    ready: VecDeque<(Instant, Unit)>,
    /// Units that have gone out, until the stream has passed what they show.
    uncounted: Vec<CountedUnit>,
    over: Vec<TableEpoch>,
    restarted: Vec<TableEpoch>,
    ahead: Vec<Ahead>,
    position: Lsn,
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    rereader: mpsc::UnboundedSender<Request>,
    budget: Budget,
}

impl Merger {
    pub(super) fn new(
        shared: Arc<Shared>,
        events: mpsc::UnboundedReceiver<Event>,
        rereader: mpsc::UnboundedSender<Request>,
    ) -> Self {
        let tables: Vec<Table> = shared
            .tables
            .iter()
            .map(|table| Table::new(table.copy.clone(), &shared.room))
            .collect();
        let by_oid = tables
            .iter()
            .enumerate()
            .map(|(at, table)| (table.copy.relation.oid, at))
            .collect();
        let merger = Self {
            tables,
            by_oid,
            ready: VecDeque::new(),
            uncounted: Vec::new(),
            over: Vec::new(),
            restarted: Vec::new(),
            ahead: Vec::new(),
            position: Lsn(0),
            shared,
            events,
            rereader,
            budget: Budget::default(),
        };
        merger.say_if_done();
        merger
    }

    /// The stream stands where the copy begins: from here on every batch comes by, and the tables are read.
    pub(super) fn begin(&self) {
        self.shared.is_begun.send_replace(true);
    }

    /// When it may wait for others, the same as for another copy.
    pub(super) fn share_budget(&mut self, of: &Self) {
        self.budget = of.budget.clone();
    }

    /// See [`Budget::spent`].
    pub(super) fn spent(&self) -> Option<Instant> {
        self.budget.spent()
    }

    /// The OIDs of its tables.
    pub(super) fn oids(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().map(|table| table.copy.relation.oid)
    }

    /// The OIDs of those that have no key.
    pub fn keyless(&self) -> impl Iterator<Item = u32> {
        let keyless = self.tables.iter().filter(|table| table.copy.key.is_empty());
        keyless.map(|table| table.copy.relation.oid)
    }

    /// Has the targets of a table emptied before anything else is sent of it. Says whether they wouldn't have been.
    pub fn empty_first(&mut self, oid: u32) -> bool {
        let table = self.tables.iter_mut().find(|table| table.copy.relation.oid == oid);
        table.is_some_and(|table| !std::mem::replace(&mut table.copy.empties, true))
    }

    /// Another copy of the table begins here: nothing of this one goes out any more, and nothing of it counts.
    pub(super) fn give_up(&mut self, oid: u32) {
        let of_oid = |table: &Table| table.copy.relation.oid == oid;
        let Some(at) = self.tables.iter().position(of_oid) else {
            return;
        };
        self.tables[at].give_up();
        self.shared.give_up(at);
        self.uncounted.retain(|unit| unit.record.unit.table_oid != oid);
        self.over.retain(|table| table.oid != oid);
        self.restarted.retain(|table| table.oid != oid);
        self.ahead.retain(|ahead| ahead.table_oid != oid);
        if self.by_oid.remove(&oid).is_some() {
            self.say_if_done();
        }
    }

    /// The tables whose targets are to be emptied, each once. That has to go out before the first batch of the stream and
    /// before any unit: every snapshot sees what was delivered before, and the units bring it again.
    pub fn to_empty(&mut self, position: Lsn) -> Vec<(TableEpoch, Batch)> {
        let emptied = self.tables.iter_mut().filter_map(|table| {
            if !std::mem::take(&mut table.copy.empties) {
                return None;
            }
            let (oid, epoch) = (table.copy.relation.oid, table.epoch());
            let batch = Batch {
                keyless: table.copy.key.is_empty(),
                ..outgoing::emptying(&table.copy.relation, CopyUnit::emptying(epoch, oid), position)
            };
            Some((TableEpoch { oid, epoch }, batch))
        });
        emptied.collect()
    }

    /// The stream stands at `position`, at a commit's end or outside of transactions, and everything before has been
    /// delivered: what is ready goes out here. To be called often when the stream is idle, too.
    ///
    /// Copied rows have the operation `Read`. Where the target may have another version of the row that a filter
    /// would have to take back, it is `Update` without an old image. Blocks while keys are read again, but for a moment only
    /// where others hold a lock on their table, and for a fifth of the time at most: they, and units that lack them, go out at a
    /// later boundary then.
    pub fn at_boundary(&mut self, position: Lsn) -> Result<Vec<MergedUnit>, Box<Problem>> {
        if self.by_oid.is_empty() {
            return Ok(Vec::new());
        }
        self.position = position;
        self.receive()?;
        self.let_go(position);
        self.advance(position);
        let mut out = Vec::new();
        let mut at = 0;
        while at < self.ready.len() && size_bytes(&out) < MERGE_BYTES {
            let (since, unit) = &self.ready[at];
            if self.is_stale(unit.id) {
                self.shared.floors().end(&unit.id);
                self.ready.remove(at);
            } else if self.tables[unit.id.table].waits_for_turn(unit) || self.waits_for_stream(unit, *since) {
                at += 1;
            } else {
                self.merge_ready(at, false, &mut out)?;
            }
        }
        // Nothing can be read before, and who waited for it would hold up the stream of all tables.
        if let Some(begun) = self.shared.begun.get().copied() {
            for at in 0..self.tables.len() {
                // Before, rows may come that don't know their key as what would be read knows it.
                if !self.tables[at].held && self.tables[at].patience.of(For::Stream).waits().is_none() {
                    out.extend(self.repair(at, position)?);
                }
            }
            self.take_turns(&mut out)?;
            for table in self.tables.iter_mut().filter(|table| !table.owes()) {
                table.passed(position, begun);
            }
        }
        self.end_tables(position);
        Ok(out)
    }

    /// Whether the target lacks values of what the stream has brought so far, until [`Self::at_boundary`] has read them
    /// again: a start at a position behind it would never learn of them.
    pub fn owes(&self) -> bool {
        self.tables.iter().any(Table::owes)
    }

    /// Units whose copy the stream has passed by now: once all that went out so far is durable, a start at this position
    /// or behind it needn't read them again. Each is returned once.
    pub fn counted(&mut self) -> Vec<CountedUnit> {
        let position = self.position;
        self.uncounted
            .extract_if(.., |unit| unit.record.finish <= position)
            .collect()
    }

    /// Tables whose copy is over in the same sense.
    pub fn over(&mut self) -> Vec<TableEpoch> {
        std::mem::take(&mut self.over)
    }

    /// What has to be stored before anything goes out that [`Self::at_boundary`] has returned last.
    pub fn ahead(&mut self) -> Vec<Ahead> {
        std::mem::take(&mut self.ahead)
    }

    /// Tables that have been truncated or rewritten: nothing that was counted of them counts any more.
    pub fn restarted(&mut self) -> Vec<TableEpoch> {
        std::mem::take(&mut self.restarted)
    }

    /// Whether all that has gone out is counted: a start goes on exactly here.
    pub fn is_even(&self) -> bool {
        let under_copy = || self.by_oid.values().map(|at| &self.tables[*at]);
        self.uncounted.is_empty() && self.over.is_empty() && under_copy().all(|table| table.is_even(self.position))
    }

    /// Whether no table is under copy any more.
    pub fn is_done(&self) -> bool {
        self.by_oid.is_empty()
    }

    /// Whether the table is under copy: not all of its rows are out, or changes that they show may still come.
    pub fn is_copying(&self, oid: u32) -> bool {
        self.by_oid.contains_key(&oid)
    }

    /// Whether the copy brings what an incomplete update of the table lacks, and its row where it isn't there.
    pub fn fills_in(&self, oid: u32) -> bool {
        self.by_oid.get(&oid).is_some_and(|at| self.tables[*at].fills_in())
    }

    pub fn progress(&self) -> Vec<TableProgress> {
        let own = self.tables.iter().filter(|table| !table.given_up);
        own.map(|table| table.progress.clone()).collect()
    }

    fn receive(&mut self) -> Result<(), Box<Problem>> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Unit(unit)) => self.ready.push_back((Instant::now(), *unit)),
                Ok(Event::Rewritten(table)) => self.rewritten(table),
                Ok(Event::Failed(problem)) => return Err(problem),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(fault::stopped()),
            }
        }
    }

    /// The stream has passed all rows of columns that an altered table had before.
    fn let_go(&mut self, position: Lsn) {
        let Some(begun) = self.shared.begun.get() else {
            return;
        };
        for (at, table) in self.tables.iter_mut().enumerate() {
            if table.held && position >= *begun {
                table.held = false;
                self.shared.let_go(at);
            }
        }
    }

    fn advance(&mut self, position: Lsn) {
        for (at, table) in self.tables.iter_mut().enumerate() {
            let Changes::Keyed(merge) = &mut table.changes else {
                continue;
            };
            merge.advance(position);
            if merge.wants_pruning() {
                let floors = self.shared.floors();
                merge.prune(|xid| floors.all_see(xid, |unit| unit.table == at));
            }
        }
    }

    fn is_stale(&self, unit: UnitId) -> bool {
        self.tables[unit.table].generation != unit.generation
    }

    fn waits_for_stream(&self, unit: &Unit, since: Instant) -> bool {
        self.position < unit.record.finish && !self.may_go_early(unit, since.elapsed())
    }

    fn may_go_early(&self, unit: &Unit, waited: Duration) -> bool {
        let table = &self.tables[unit.id.table];
        match &table.changes {
            Changes::Keyed(_) if table.copy.late => false,
            Changes::Keyed(merge) => waited >= self.shared.patience && merge.size_bytes() < COVER_BYTES,
            Changes::Wait(_) | Changes::Out(_) => true,
        }
    }

    fn end_tables(&mut self, position: Lsn) {
        let Some(begun) = self.shared.begun.get() else {
            return;
        };
        let (tables, over) = (&mut self.tables, &mut self.over);
        let before = self.by_oid.len();
        self.by_oid.retain(|oid, at| {
            let is_over = tables[*at].is_over(position, *begun);
            if is_over {
                tables[*at].changes = Changes::Keyed(KeyedMerge::default());
                tables[*at].progress.done = true;
                over.push(TableEpoch {
                    oid: *oid,
                    epoch: tables[*at].epoch(),
                });
            }
            !is_over
        });
        if self.by_oid.len() < before {
            self.say_if_done();
        }
    }

    fn say_if_done(&self) {
        if self.by_oid.is_empty() {
            self.shared.is_done.send_replace(true);
        }
    }
}

fn size_bytes(units: &[MergedUnit]) -> usize {
    let batches = units.iter().flat_map(|unit| &unit.batches);
    batches.map(Batch::size_bytes).sum()
}
