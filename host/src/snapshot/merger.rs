//! Merges units into the stream. Owned by the thread that passes the stream on.

use super::fault;
use super::merge::{Key, KeyedMerge, Reread};
use super::outgoing;
use super::plan::{Ahead, TableProgress, UnitRecord};
use super::read::View;
use super::reread::{Again, Request};
use super::shared::{Shared, UnitId};
use super::table::{Changes, Table};
use super::worker::{Event, Unit};
use crate::batch::{Batch, CopyUnit, Lsn, Op};
use crate::problem::Problem;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Bytes of units merged at one boundary, so that the stream isn't held up for long.
const MERGE_BYTES: usize = 16 << 20;

/// Bytes of keys kept for units that were merged before their F. Beyond, units wait for it however long it takes.
const COVER_BYTES: usize = 64 << 20;

/// A unit that goes out now.
#[derive(Debug)]
pub struct MergedUnit {
    /// To be delivered in this order at the position that was given. Rows are copied ones (origin `Copy`), but behind
    /// a table without a key come the changes that waited for it: streamed ones, with their own commit's place.
    pub batches: Vec<Batch>,
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
            .map(|table| Table::new(table.copy.clone()))
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
        };
        merger.say_if_done();
        merger
    }

    /// The tables whose targets are to be emptied, each once. That has to go out before the first batch of the stream and
    /// before any unit: every snapshot sees what was delivered before, and the units bring it again.
    pub fn to_empty(&mut self, position: Lsn) -> Vec<(TableEpoch, Batch)> {
        let emptied = self.tables.iter_mut().filter_map(|table| {
            if !std::mem::take(&mut table.copy.empties) {
                return None;
            }
            let (oid, epoch) = (table.copy.relation.oid, table.epoch());
            let batch = outgoing::emptying(&table.copy.relation, CopyUnit::emptying(epoch, oid), position);
            Some((TableEpoch { oid, epoch }, batch))
        });
        emptied.collect()
    }

    /// Looks at a streamed batch before anything else does: remembers the keys it changes, takes out what copied rows
    /// hold already, and what waits for its table. Every batch has to come by, once and in order, from the first on.
    pub fn stream(&mut self, batch: &mut Batch) -> Result<(), Box<Problem>> {
        if self.by_oid.is_empty() {
            return Ok(());
        }
        let tables: Vec<Option<usize>> = batch
            .relations
            .iter()
            .map(|relation| self.by_oid.get(&relation.oid).copied())
            .collect();
        if tables.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut batch.rows);
        let mut outcome = Ok(());
        rows.retain_mut(|row| {
            if outcome.is_err() {
                return true;
            }
            let kept = match row.op {
                Op::Message => Ok(true),
                Op::Truncate => {
                    self.truncated(batch, row.extra);
                    Ok(true)
                }
                _ => match tables.get(row.relation as usize).copied().flatten() {
                    Some(table) => self.tables[table].stream(batch, row),
                    None => Ok(true),
                },
            };
            kept.unwrap_or_else(|problem| {
                outcome = Err(problem);
                true
            })
        });
        batch.rows = rows;
        outcome
    }

    fn truncated(&mut self, batch: &Batch, truncate: u32) {
        let Some(truncate) = batch.truncates.get(truncate as usize) else {
            return;
        };
        for relation in &truncate.relations {
            let Some(relation) = batch.relations.get(*relation as usize) else {
                continue;
            };
            if let Some(at) = self.by_oid.get(&relation.oid) {
                self.tables[*at].restart();
                self.shared.restart(*at);
                self.uncounted.retain(|unit| unit.record.unit.table_oid != relation.oid);
                self.restarted.push(TableEpoch {
                    oid: relation.oid,
                    epoch: self.tables[*at].epoch(),
                });
                tracing::info!(
                    table = relation.full_name(),
                    "truncated while it was copied: its copy starts over"
                );
            }
        }
    }

    /// The stream stands at `position`, at a commit's end or outside of transactions, and everything before has been
    /// delivered: what is ready goes out here. To be called often when the stream is idle, too.
    ///
    /// Copied rows have the operation `Read`. Where the target may have another version of the row that a filter
    /// would have to take back, it is `Update` without an old image. Blocks while keys are read again.
    pub fn at_boundary(&mut self, position: Lsn) -> Result<Vec<MergedUnit>, Box<Problem>> {
        if self.by_oid.is_empty() {
            return Ok(Vec::new());
        }
        self.position = position;
        self.receive()?;
        self.let_go(position);
        self.advance(position);
        let mut out = Vec::new();
        let mut bytes = 0;
        let mut at = 0;
        while at < self.ready.len() && bytes < MERGE_BYTES {
            let (since, unit) = &self.ready[at];
            if self.is_stale(unit.id) {
                self.shared.floors().end(&unit.id);
                self.ready.remove(at);
            } else if position < unit.record.finish && !self.may_go_early(unit, since.elapsed()) {
                at += 1;
            } else if let Some((_, unit)) = self.ready.remove(at) {
                let merged = self.merge(unit, position)?;
                bytes += merged.batches.iter().map(Batch::size_bytes).sum::<usize>();
                out.push(merged);
            }
        }
        for at in 0..self.tables.len() {
            // Before, rows may come that don't know their key as what would be read knows it.
            if !self.tables[at].held {
                out.extend(self.repair(at, position)?);
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

    /// Tables that have been truncated: nothing that was counted of them counts any more.
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

    pub fn progress(&self) -> Vec<TableProgress> {
        self.tables.iter().map(|table| table.progress.clone()).collect()
    }

    fn receive(&mut self) -> Result<(), Box<Problem>> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Unit(unit)) => self.ready.push_back((Instant::now(), *unit)),
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

    fn may_go_early(&self, unit: &Unit, waited: Duration) -> bool {
        let table = &self.tables[unit.id.table];
        match &table.changes {
            Changes::Keyed(_) if table.copy.late => false,
            Changes::Keyed(merge) => waited >= self.shared.patience && merge.size_bytes() < COVER_BYTES,
            Changes::Wait(_) | Changes::Out(_) => true,
        }
    }

    fn merge(&mut self, unit: Unit, position: Lsn) -> Result<MergedUnit, Box<Problem>> {
        let Unit {
            id,
            record,
            mut batches,
            _budget,
            turn,
        } = unit;
        let view = View {
            snapshot: record.snapshot.clone(),
            finish: record.finish,
        };
        let table = &mut self.tables[id.table];
        let mut rereads = Vec::new();
        if let Changes::Keyed(merge) = &mut table.changes {
            rereads = outgoing::leave_out_stale(merge, &table.copy, &view.snapshot, &mut batches)?;
        }
        if position < view.finish && !table.copy.key.is_empty() {
            outgoing::as_updates(&mut batches);
        }
        self.out(id.table, &view, &mut batches, position, false)?;
        self.note_keyless(id.table, &view);
        let mut next_ordinal = batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .map(|row| row.ordinal + 1)
            .max();
        let mut finish = view.finish;
        if !rereads.is_empty() {
            // The unit that a start would read again in its place goes to fewer sinks.
            let repair = self.tables[id.table].copy.late;
            let (read_until, again) = self.read_again(id, rereads, position, next_ordinal.get_or_insert(0), repair)?;
            finish = finish.max(read_until);
            batches.extend(again);
        }
        let table = &mut self.tables[id.table];
        table.merged += 1;
        if record.last_of_table {
            table.units = Some(id.number + 1);
        }
        let is_out = table.is_out();
        let mut batches = outgoing::as_transaction(batches, record.unit, position);
        if let (true, Changes::Wait(waiting)) = (is_out, &mut table.changes) {
            batches.extend(waiting.release(&view.snapshot));
            table.changes = Changes::Out(view.snapshot);
            self.shared
                .floors()
                .end_all(|open| (open.table, open.generation) == (id.table, id.generation));
        }
        self.shared.floors().end(&id);
        table.progress.units += 1;
        table.progress.done = is_out;
        if !table.copy.key.is_empty() {
            self.uncounted.push(CountedUnit {
                record: UnitRecord {
                    finish,
                    ..record.clone()
                },
                // Beside a stream that lags the copy goes on, though a crash costs more then.
                turn: turn.filter(|_| position >= finish),
            });
        }
        Ok(MergedUnit {
            batches,
            unit: record.unit,
            record: Some(record),
        })
    }

    /// Rows read under `view` go out.
    fn out(
        &mut self,
        at: usize,
        view: &View,
        batches: &mut [Batch],
        position: Lsn,
        repair: bool,
    ) -> Result<(), Box<Problem>> {
        let table = &mut self.tables[at];
        table.last_finish = table.last_finish.max(view.finish);
        for batch in batches.iter() {
            table.progress.rows += batch.rows.len() as u64;
            table.progress.bytes += batch.bytes.len() as u64;
        }
        if let (true, Changes::Keyed(merge)) = (position < view.finish, &mut table.changes) {
            let mut keys: Vec<Key> = Vec::new();
            for batch in batches.iter() {
                outgoing::for_each_key(batch, &table.copy, |_, key| keys.push(key.into()))?;
            }
            if !keys.is_empty() {
                self.ahead.push(Ahead {
                    table_oid: table.copy.relation.oid,
                    snapshot: view.snapshot.clone(),
                    finish: view.finish,
                    keys: keys.clone(),
                    repair,
                });
            }
            merge.merged(position, &view.snapshot, view.finish, keys.into_iter());
        }
        Ok(())
    }

    /// The first rows of a table without a key go out. A start has to know: none of them could be told from those that it
    /// would bring, so it empties the targets.
    fn note_keyless(&mut self, at: usize, view: &View) {
        let table = &self.tables[at];
        if matches!(table.changes, Changes::Wait(_)) && table.merged == 0 {
            self.ahead.push(Ahead {
                table_oid: table.copy.relation.oid,
                snapshot: view.snapshot.clone(),
                finish: Lsn(u64::MAX),
                keys: Vec::new(),
                repair: false,
            });
        }
    }

    /// Has keys read again, and returns their F and their rows as part of `unit`.
    fn read_again(
        &mut self,
        unit: UnitId,
        keys: Vec<Reread>,
        position: Lsn,
        next_ordinal: &mut u64,
        repair: bool,
    ) -> Result<(Lsn, Vec<Batch>), Box<Problem>> {
        let wanted: FxHashSet<Key> = keys.iter().map(|reread| reread.key.clone()).collect();
        let (reply, answer) = oneshot::channel();
        let sent = self.rereader.send(Request { unit, keys, reply });
        sent.map_err(|_| fault::stopped())?;
        let Again { view, mut batches } = answer.blocking_recv().map_err(|_| fault::stopped())??;
        for batch in &mut batches {
            // Equal keys that are written differently are different ones, see copy_keys.
            outgoing::retain_by_key(batch, &self.tables[unit.table].copy, |key| wanted.contains(key))?;
            for row in &mut batch.rows {
                row.ordinal = *next_ordinal;
                *next_ordinal += 1;
            }
        }
        // The target may hold what the stream brought of them.
        outgoing::as_updates(&mut batches);
        self.out(unit.table, &view, &mut batches, position, repair)?;
        Ok((view.finish, batches))
    }

    /// Reads again what the stream brought without all of its values.
    fn repair(&mut self, at: usize, position: Lsn) -> Result<Option<MergedUnit>, Box<Problem>> {
        let table = &mut self.tables[at];
        let Changes::Keyed(merge) = &mut table.changes else {
            return Ok(None);
        };
        let keys = merge.take_incomplete();
        if keys.is_empty() {
            return Ok(None);
        }
        let id = UnitId {
            table: at,
            generation: table.generation,
            number: CopyUnit::EMPTYING - 1 - table.repairs,
        };
        table.repairs += 1;
        let (_, batches) = self.read_again(id, keys, position, &mut 0, true)?;
        let unit = self.shared.name_unit(id);
        let batches = outgoing::as_transaction(batches, unit, position);
        Ok((!batches.is_empty()).then_some(MergedUnit {
            batches,
            unit,
            record: None,
        }))
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
