//! The lane: one thread that takes batches off the queue, sends them through routes and plugins, and hands them to
//! the sinks.

use super::columns::KnownColumns;
use super::queue::{Popped, Queue};
use super::routes::{LiveRelations, Routes};
use super::stats::LaneStats;
use crate::batch::{Batch, CopyUnit, Delivery, Lsn, Op, Row};
use crate::checkpoint::{ChainVersion, Frontier, Mark, StateStore};
use crate::config;
use crate::plugin::{Chain, Processed};
use crate::problem::Problem;
use crate::sink::driver::SinkHandle;
use crate::snapshot::{Merger, TableProgress};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the lane looks for copied units that are ready while the stream is silent.
const UNIT_POLL: Duration = Duration::from_millis(2);
/// How long it sleeps at most when there is nothing to look for.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// What the lane is told.
pub enum Input {
    Batch(Batch),
    Swap(Box<Swap>),
    /// No more will come: what is there goes on, then the lane ends.
    Finish,
}

/// A new version of a route's chain, ready to run.
pub struct Swap {
    pub route: usize,
    pub chain: Chain,
    pub version: ChainVersion,
    /// Told the position from which on the chain counts.
    pub done: tokio::sync::oneshot::Sender<Lsn>,
}

/// A route as the lane runs it.
pub struct LaneRoute {
    pub config: Arc<config::Route>,
    /// `None` where the route has no plugins.
    pub chain: Option<Chain>,
    /// Versions recorded by an earlier run, each with the position from which on it counts.
    pub later: VecDeque<(Lsn, Chain)>,
    /// Indexes of its sinks.
    pub sinks: Vec<usize>,
}

/// Called with what a sink is about to get.
pub type Tap = Box<dyn Fn(&Batch, &[Row]) + Send>;

/// Where deliveries for one sink go.
pub struct Outlet {
    pub handle: SinkHandle,
    /// Whether it was given a part of a transaction that hasn't ended.
    inside: bool,
}

impl Outlet {
    pub fn new(handle: SinkHandle) -> Self {
        Self { handle, inside: false }
    }
}

/// Why the lane ended.
#[derive(Debug)]
pub enum LaneEnd {
    /// It was told to finish, and everything has been handed to the sinks.
    Finished,
    /// A sink takes nothing any more; its driver says why.
    SinkGone,
    Problem(Box<Problem>),
}

pub struct Lane {
    pub(super) queue: Arc<Queue<Input>>,
    routes: Routes,
    lanes: Vec<LaneRoute>,
    outlets: Vec<Outlet>,
    merger: Merger,
    frontier: Arc<Frontier<Mark>>,
    store: StateStore,
    stats: Arc<LaneStats>,
    /// Called with what each sink is about to get, while somebody watches.
    tap: Tap,
    copied: Box<dyn Fn(Vec<TableProgress>) + Send>,
    swaps: VecDeque<Box<Swap>>,
    /// Tables all of whose units are out, and whose copies the stream hasn't passed yet.
    copied_tables: Vec<CopyUnit>,
    sequence: u64,
    position: Lsn,
    resent_until: Lsn,
    between_transactions: bool,
}

/// What a lane is made of.
pub struct LaneParts {
    pub queue: Arc<Queue<Input>>,
    pub routes: Vec<LaneRoute>,
    pub outlets: Vec<Outlet>,
    pub known: Box<dyn KnownColumns>,
    pub live: Arc<LiveRelations>,
    pub merger: Merger,
    pub frontier: Arc<Frontier<Mark>>,
    pub store: StateStore,
    pub stats: Arc<LaneStats>,
    pub tap: Tap,
    /// Told how far the copies have come.
    pub copied: Box<dyn Fn(Vec<TableProgress>) + Send>,
    /// Where the stream starts.
    pub position: Lsn,
    /// Where the server's WAL ended at the start: what committed before may have been delivered by an earlier run.
    pub resent_until: Lsn,
}

impl Lane {
    pub fn new(parts: LaneParts) -> Self {
        let configs = parts.routes.iter().map(|route| Arc::clone(&route.config)).collect();
        Self {
            queue: parts.queue,
            routes: Routes::new(configs, parts.known, parts.live),
            lanes: parts.routes,
            outlets: parts.outlets,
            merger: parts.merger,
            frontier: parts.frontier,
            store: parts.store,
            stats: parts.stats,
            tap: parts.tap,
            copied: parts.copied,
            swaps: VecDeque::new(),
            copied_tables: Vec::new(),
            sequence: 0,
            position: parts.position,
            resent_until: parts.resent_until,
            between_transactions: true,
        }
    }

    /// Works until it is told to finish, or can't go on.
    pub fn run(mut self) -> LaneEnd {
        self.work().unwrap_or_else(|end| end)
    }

    fn work(&mut self) -> Result<LaneEnd, LaneEnd> {
        loop {
            let wait = if self.merger.is_done() { IDLE_POLL } else { UNIT_POLL };
            match self.queue.pop(wait) {
                Popped::Item(Input::Batch(batch)) => self.streamed(batch)?,
                Popped::Item(Input::Swap(swap)) => self.swaps.push_back(swap),
                Popped::Item(Input::Finish) | Popped::Closed => return Ok(LaneEnd::Finished),
                Popped::TimedOut => {}
            }
            if self.between_transactions {
                self.at_boundary()?;
            }
        }
    }

    /// A batch of the replication stream.
    fn streamed(&mut self, mut batch: Batch) -> Result<(), LaneEnd> {
        self.between_transactions = batch.ends_at_commit();
        self.position = self.position.max(batch.end);
        let stats = &self.stats;
        stats
            .rows_received
            .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
        stats.transactions.fetch_add(
            batch.transactions.iter().filter(|t| t.is_complete()).count() as u64,
            Ordering::Relaxed,
        );
        stats.batches.fetch_add(1, Ordering::Relaxed);
        stats.position.store(self.position.0, Ordering::Relaxed);
        if let Some(last) = batch.transactions.last() {
            stats.commit_us.store(last.commit_us as u64, Ordering::Relaxed);
        }
        self.merger.stream(&mut batch).map_err(problem)?;
        self.pass_on(batch, Vec::new())
    }

    /// Between two transactions: copied units that are ready go out, and new chains take over.
    fn at_boundary(&mut self) -> Result<(), LaneEnd> {
        while let Some(swap) = self.swaps.pop_front() {
            self.swap(*swap)?;
        }
        if self.merger.is_done() {
            return Ok(());
        }
        let units = self.merger.at_boundary(self.position).map_err(problem)?;
        (self.copied)(self.merger.progress());
        self.stats.copying.store(!self.merger.is_done(), Ordering::Release);
        for unit in units {
            let mut marks = Vec::new();
            if unit.record.is_some() {
                marks.push(Mark::UnitDone(unit.unit));
            }
            if unit.table_done {
                self.copied_tables.push(unit.unit);
            }
            if unit.batches.is_empty() {
                // Nothing was left of it. That it is done has to be stored all the same, behind what was sent before.
                self.sequence += 1;
                self.frontier.sent(self.sequence, [], Lsn(0), marks);
                continue;
            }
            let last = unit.batches.len() - 1;
            for (at, batch) in unit.batches.into_iter().enumerate() {
                self.stats
                    .rows_copied
                    .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
                let marks = if at == last {
                    std::mem::take(&mut marks)
                } else {
                    Vec::new()
                };
                self.pass_on(batch, marks)?;
            }
        }
        self.finish_tables();
        Ok(())
    }

    /// A table counts as copied once the stream has passed all that its units show. A start before that copies it
    /// again, rather than to meet changes that its rows are ahead of.
    fn finish_tables(&mut self) {
        let (merger, mut marks) = (&self.merger, Vec::new());
        self.copied_tables.retain(|unit| {
            let under_way = merger.is_copying(unit.table_oid);
            if !under_way {
                let (table_oid, epoch) = (unit.table_oid, unit.epoch);
                marks.push(Mark::TableDone { table_oid, epoch });
            }
            under_way
        });
        if !marks.is_empty() {
            self.sequence += 1;
            self.frontier.sent(self.sequence, [], Lsn(0), marks);
        }
    }

    /// Makes the new chain durable before its first output, then lets it take over: at once, or where what an earlier
    /// run may have delivered ends. Whatever is sent again meets the version that it met before.
    fn swap(&mut self, swap: Swap) -> Result<(), LaneEnd> {
        let lane = &mut self.lanes[swap.route];
        let key = super::columns::route_key(&lane.config);
        let recorded = lane.later.back().map_or(Lsn(0), |(from, _)| *from);
        let from = self.position.max(self.resent_until).max(recorded);
        let recorded = self.store.put_chain_version(&key, from, &swap.version);
        recorded.map_err(|p| problem(Box::new(p)))?;
        lane.later.retain(|(other, _)| *other != from);
        if from <= self.position {
            lane.chain = Some(swap.chain);
            lane.later.clear();
        } else {
            lane.later.push_back((from, swap.chain));
        }
        // Whoever asked may have gone; the swap counts all the same.
        let _ = swap.done.send(from);
        Ok(())
    }

    /// Through routes and plugins, to the sinks.
    fn pass_on(&mut self, mut batch: Batch, marks: Vec<Mark>) -> Result<(), LaneEnd> {
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); self.lanes.len()];
        self.routes.assign(&mut batch, &mut rows).map_err(problem)?;
        for (lane, rows) in self.lanes.iter_mut().zip(&mut rows) {
            transform(lane, &mut batch, rows)?;
            if !self.merger.is_done() {
                let copied = |row: &Row, batch: &Batch| self.merger.is_copying(batch.relation(row).oid);
                // Its row may not be there yet: the copy brings it, with the values that this change lacks.
                for row in rows.iter_mut().filter(|row| row.op == Op::Upsert) {
                    if copied(row, &batch) {
                        row.op = Op::Update;
                    }
                }
            }
        }
        self.deliver(batch, rows, marks)
    }

    fn deliver(&mut self, batch: Batch, mut rows: Vec<Vec<Row>>, marks: Vec<Mark>) -> Result<(), LaneEnd> {
        self.sequence += 1;
        let sequence = self.sequence;
        let inside = !batch.ends_at_commit();
        let batch = Arc::new(batch);
        let mut deliveries = Vec::with_capacity(self.outlets.len());
        for (sink, outlet) in self.outlets.iter_mut().enumerate() {
            let rows = rows_for(sink, &self.lanes, &mut rows);
            // The end of a transaction is told to whoever has seen its beginning, with or without rows.
            if rows.is_empty() && !outlet.inside {
                continue;
            }
            outlet.inside = inside;
            self.stats
                .rows_delivered
                .fetch_add(rows.len() as u64, Ordering::Relaxed);
            (self.tap)(&batch, &rows);
            deliveries.push((
                sink,
                Delivery {
                    sequence,
                    batch: Arc::clone(&batch),
                    rows,
                },
            ));
        }
        self.frontier
            .sent(sequence, deliveries.iter().map(|(sink, _)| *sink), batch.end, marks);
        for (sink, delivery) in deliveries {
            self.outlets[sink]
                .handle
                .send(delivery)
                .map_err(|_| LaneEnd::SinkGone)?;
        }
        Ok(())
    }
}

/// However the lane ends, by a panic too: nobody waits for it any more.
impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.close();
        for outlet in &self.outlets {
            outlet.handle.close();
        }
    }
}

/// Sends the rows of one route through its chain. Where an earlier run recorded that a later version counts from some
/// position on, the rows are divided there: no transaction meets two versions.
fn transform(lane: &mut LaneRoute, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), LaneEnd> {
    if let Some((from, _)) = lane.later.front() {
        let from = *from;
        let Some(first) = batch
            .transactions
            .iter()
            .position(|transaction| transaction.commit_lsn >= from)
        else {
            return run_chain(lane.chain.as_mut(), batch, rows);
        };
        let split = rows
            .iter()
            .position(|row| row.transaction as usize >= first)
            .unwrap_or(rows.len());
        let mut later = rows.split_off(split);
        run_chain(lane.chain.as_mut(), batch, rows)?;
        lane.chain = lane.later.pop_front().map(|(_, chain)| chain);
        transform(lane, batch, &mut later)?;
        rows.append(&mut later);
        return Ok(());
    }
    run_chain(lane.chain.as_mut(), batch, rows)
}

fn run_chain(chain: Option<&mut Chain>, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), LaneEnd> {
    match chain {
        Some(chain) if !rows.is_empty() => {
            let mut processed = Processed::default();
            let done = chain.process(batch, rows, &mut processed);
            done.map_err(|error| problem(Box::new(error.problem())))?;
            match processed.aside.first() {
                Some(aside) => Err(problem(Box::new(aside.problem()))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// What a sink gets: the rows of its routes, in the order of the changes.
fn rows_for(sink: usize, lanes: &[LaneRoute], rows: &mut [Vec<Row>]) -> Vec<Row> {
    let own: Vec<usize> = (0..lanes.len())
        .filter(|route| lanes[*route].sinks.contains(&sink))
        .collect();
    let [route] = own[..] else {
        let mut merged: Vec<Row> = own.iter().flat_map(|route| rows[*route].iter().copied()).collect();
        merged.sort_by_key(|row| (row.transaction, row.ordinal));
        return merged;
    };
    let last_reader = lanes[route].sinks.iter().max() == Some(&sink);
    if last_reader {
        std::mem::take(&mut rows[route])
    } else {
        rows[route].clone()
    }
}

fn problem(problem: Box<Problem>) -> LaneEnd {
    LaneEnd::Problem(problem)
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
