//! Workers: each takes the next unit of some table, reads it, and hands it over.

use super::cut::{self, Task};
use super::fault::{self, Fault};
use super::merge::Reread;
use super::plan::UnitRecord;
use super::read::{self, Rows, View};
use super::shared::{PERMIT_BYTES, READY_PERMITS, Shared, UnitId};
use crate::batch::Batch;
use crate::postgres::Reader;
use crate::problem::Problem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// How often a unit is tried before the copy gives up, and how long it waits in between, doubled each time.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A unit as it was read.
pub(super) struct Unit {
    pub id: UnitId,
    pub record: UnitRecord,
    pub batches: Vec<Batch>,
    /// Its bytes of what may wait to be merged, given back with it.
    pub _budget: OwnedSemaphorePermit,
    /// Its reader's turn, `None` for a piece of a table without a key.
    pub turn: Option<OwnedSemaphorePermit>,
    /// Rows that were taken out of it, and couldn't be read again yet.
    pub rereads: Vec<Reread>,
}

pub(super) enum Event {
    Unit(Box<Unit>),
    /// The table lies in another file than its ranges of the heap are of; what follows is of its next generation.
    Rewritten(usize),
    Failed(Box<Problem>),
}

/// What ends a worker early.
pub(super) enum End {
    Fault(Fault),
    /// Nobody merges any more.
    Gone,
    /// The unit is none any more.
    Void,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads units until everything is merged.
pub(super) async fn run(shared: Arc<Shared>, events: mpsc::UnboundedSender<Event>) {
    let mut worker = Worker {
        shared,
        events,
        reader: None,
    };
    let mut is_done = worker.shared.is_done.subscribe();
    loop {
        is_done.borrow_and_update();
        match worker.read_all().await {
            Ok(()) => {}
            Err(End::Gone | End::Void) => return,
            Err(End::Fault(fault)) => {
                let problem = match fault {
                    Fault::Definite(problem) => problem,
                    Fault::Transient(error) => Box::new(fault::stopped().with_cause(format!("{error:#}"))),
                };
                let _ = worker.events.send(Event::Failed(problem));
                return;
            }
        }
        // A table that is truncated starts over, so only the merger knows when it is over.
        tokio::select! {
            changed = is_done.changed() => if changed.is_err() || *is_done.borrow() { return },
            () = worker.events.closed() => return,
        }
    }
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    reader: Option<Reader>,
}

impl Worker {
    /// Reads units until no table has one left.
    async fn read_all(&mut self) -> Result<(), End> {
        loop {
            let shared = Arc::clone(&self.shared);
            let mut order: Vec<usize> = (0..shared.tables.len()).collect();
            // The tables with fewest workers first: all of them move, and the largest one doesn't come last.
            order.sort_by_key(|table| shared.tables[*table].active.load(Ordering::Relaxed));
            let mut found = false;
            for table in order {
                let active = &shared.tables[table].active;
                active.fetch_add(1, Ordering::Relaxed);
                let read = self.read_next(table).await;
                active.fetch_sub(1, Ordering::Relaxed);
                if read? {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(());
            }
        }
    }

    /// Reads the next unit of a table, if there is one.
    async fn read_next(&mut self, table: usize) -> Result<bool, End> {
        let shared = Arc::clone(&self.shared);
        let copy = &shared.tables[table].copy;
        let mut task: Option<Task> = None;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let fault = match self.attempt(table, &mut task).await {
                Ok(found) => return Ok(found),
                Err(End::Fault(Fault::Transient(error))) => error,
                Err(End::Void) => return Ok(true),
                // Columns of other types may be why, which are looked at behind the cut.
                Err(End::Fault(Fault::Definite(problem))) if problem.code == fault::REFUSED => {
                    self.reader = None;
                    let altered = self.look_at(table).await.err();
                    return Err(altered.unwrap_or(Fault::Definite(problem)).into());
                }
                Err(end) => return Err(end),
            };
            if attempt == ATTEMPTS {
                return Err(Fault::from(fault::unreachable(copy, &fault)).into());
            }
            tracing::warn!(
                table = copy.relation.full_name(),
                attempt,
                "a unit is read again: {fault:#}"
            );
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(false)
    }

    /// Fails where the table has other columns than it had.
    async fn look_at(&self, table: usize) -> Result<(), Fault> {
        let mut reader = read::connect(&self.shared.connect).await?;
        read::begin(&self.shared.tables[table], &mut reader).await.map(|_| ())
    }

    async fn attempt(&mut self, table: usize, task: &mut Option<Task>) -> Result<bool, End> {
        let shared = Arc::clone(&self.shared);
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => read::connect(&shared.connect).await?,
        };
        if task.is_none() {
            shared.pace.go_on().await;
            *task = cut::next_unit(&shared, table, &mut reader).await?;
        }
        if let Some(task) = task {
            let copy = &shared.tables[table].copy;
            match (copy.key.is_empty(), copy.file) {
                (true, Some(_)) => self.read_parts(task, &mut reader).await?,
                (true, None) => self.read_whole(task, &mut reader).await?,
                (false, _) => self.read_range(task, &mut reader).await?,
            }
        }
        self.reader = Some(reader);
        Ok(task.is_some())
    }

    /// Begins to read a unit.
    async fn open<'w>(&'w self, task: &Task, reader: &'w mut Reader) -> Result<(View, Rows<'w, 'w>), End> {
        let shared = &self.shared;
        let table = &shared.tables[task.id.table];
        let copy = super::sql::copy_range(&table.copy, &task.key, &task.range);
        shared.floors().begin(task.id);
        let (view, rows) = Rows::open_whole(table, shared.name_unit(task.id), reader, &copy).await?;
        shared.floors().took(&task.id, &view.snapshot);
        if !table.is_same_file(task.id.generation, view.file) {
            self.rewritten(task).await?;
            return Err(End::Void);
        }
        Ok((view, rows))
    }

    /// Lets the table start over, unless it does already. No unit of the next generation is cut before the merger knows
    /// of it, or it would throw that away.
    async fn rewritten(&self, task: &Task) -> Result<(), End> {
        let table = &self.shared.tables[task.id.table];
        let _cut = table.cut.lock().await;
        self.shared.floors().end(&task.id);
        let (old, new) = (task.id.generation, task.id.generation + 1);
        let order = Ordering::SeqCst;
        if table.generation.compare_exchange(old, new, order, order).is_err() {
            return Ok(());
        }
        // Those that found nothing left begin anew.
        self.shared.is_done.send_replace(false);
        let told = self.events.send(Event::Rewritten(task.id.table));
        told.map_err(|_| End::Gone)
    }

    /// Reads a unit of a table with a key.
    async fn read_range(&self, task: &Task, reader: &mut Reader) -> Result<(), End> {
        let turn = Arc::clone(&self.shared.turns).acquire_owned().await;
        let turn = turn.map_err(|_| End::Gone)?;
        let paid = self.shared.unit_rows as u64;
        self.shared.pace.pay(paid).await;
        let (view, mut rows) = self.open(task, reader).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await? {
            batches.push(batch);
        }
        self.learn(task, paid, &batches).await;
        self.send(task, task.id.number, task.is_last, &view, batches, Some(turn))
            .await
    }

    /// What was read tells how large the next units are to be, and settles what had been paid for.
    pub(super) async fn learn(&self, task: &Task, paid: u64, batches: &[Batch]) {
        let count: usize = batches.iter().map(|batch| batch.rows.len()).sum();
        self.shared.pace.settle(paid, count as u64);
        let bytes: usize = batches.iter().map(Batch::size_bytes).sum();
        let mut cut = self.shared.tables[task.id.table].cut.lock().await;
        cut.saw(task, self.shared.unit_rows, count as u64, bytes as u64);
    }

    /// Reads a table without a key, whose heap has no ranges. It is one unit, but what it holds is handed over in pieces, each with a number of
    /// its own: no change of the table is delivered before the last of them, so their order and places don't matter.
    async fn read_whole(&self, task: &Task, reader: &mut Reader) -> Result<(), End> {
        let (view, mut rows) = self.open(task, reader).await?;
        let mut number = task.id.number;
        let read = async {
            while let Some(batch) = rows.next().await? {
                self.shared.pace.pay(batch.rows.len() as u64).await;
                self.send(task, number, false, &view, vec![batch], None).await?;
                number += 1;
            }
            Ok(())
        };
        match read.await {
            // What was handed over may be out, and without a key it can't be told from what would be read again.
            Err(End::Fault(Fault::Transient(error))) if number > task.id.number => {
                let copy = &self.shared.tables[task.id.table].copy;
                Err(Fault::from(fault::unreachable(copy, &error)).into())
            }
            Err(end) => Err(end),
            Ok(()) => self.send(task, number, true, &view, Vec::new(), None).await,
        }
    }

    pub(super) async fn send(
        &self,
        task: &Task,
        number: u32,
        is_last: bool,
        view: &View,
        batches: Vec<Batch>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), End> {
        let id = UnitId { number, ..task.id };
        let bytes: usize = batches.iter().map(Batch::size_bytes).sum();
        let permits = bytes.div_ceil(PERMIT_BYTES).min(READY_PERMITS) as u32;
        let budget = Arc::clone(&self.shared.budget).acquire_many_owned(permits).await;
        let unit = Unit {
            id,
            record: UnitRecord {
                unit: self.shared.name_unit(id),
                place: task.place,
                range: task.range.clone(),
                snapshot: view.snapshot.clone(),
                finish: view.finish,
                rows: batches.iter().map(|batch| batch.rows.len() as u64).sum(),
                bytes: batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
                last_of_table: is_last,
            },
            batches,
            _budget: budget.map_err(|_| End::Gone)?,
            turn,
            rereads: Vec::new(),
        };
        self.events.send(Event::Unit(Box::new(unit))).map_err(|_| End::Gone)
    }
}
