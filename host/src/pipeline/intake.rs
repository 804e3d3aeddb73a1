//! The intake: one thread that takes batches off the queue, merges copied units into them, finds their routes, and
//! hands them to the lanes.

mod letters;
mod versions;

use super::columns::{KnownColumns, route_key};
use super::hold::{CHECKPOINT_IDLE, Hold, Released};
use super::job::Job;
use super::lane::{LaneChain, LaneVersion};
use super::lanes::Lanes;
use super::notices::Notices;
use super::outflow::{Outflow, Outlet};
use super::probation::{ProbationEnd, ProbationLimits, ProbationTold, Warden};
use super::queue::{Popped, Queue};
use super::recent::Recent;
use super::routes::{LiveRelations, Routes};
use super::stats::LaneStats;
use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::{ChainVersion, CopiedRange, CopiedUnit, Frontier, Mark, RowsAhead, StateStore, Turn};
use crate::config;
use crate::dead_letter::{self, DeadLetters, RouteId};
use crate::failpoint;
use crate::plugin::{Chain, GuestMetrics};
use crate::problem::Problem;
use crate::snapshot::{Ahead, CountedUnit, Merger, Mergers, TableEpoch, TableProgress};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the intake looks for copied units that are ready while the stream is silent.
const UNIT_POLL: Duration = Duration::from_millis(2);
/// How often it looks whether dead letters that it has to wait for are durable.
const HOLD_POLL: Duration = Duration::from_millis(1);
/// How long it sleeps at most when there is nothing to look for.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// What the intake is told.
pub enum Input {
    Batch(Batch),
    Swap(Box<Swap>),
    /// A copy that is to begin here, or at the next commit's end.
    Copy(Box<Merger>),
    /// A version's probation has ended in the first lane.
    Probation {
        route: usize,
        id: u64,
        end: ProbationEnd,
    },
    /// No more will come: what is there goes on, then everything ends.
    Finish,
}

/// A new version of a route's chain, ready to run.
pub struct Swap {
    pub route: usize,
    /// One for each lane.
    pub chains: Vec<Chain>,
    /// With what it gives way to, where it is to be on probation.
    pub version: ChainVersion,
    /// Told the position from which on the chain counts; or why it doesn't: its plugins don't take what the running
    /// ones keep.
    pub done: tokio::sync::oneshot::Sender<Result<Lsn, Box<Problem>>>,
}

/// A route as the pipeline runs it.
pub struct RouteParts {
    pub config: Arc<config::Route>,
    /// One for each lane.
    pub lanes: Vec<LaneChain>,
    /// For the lanes but the first, where the newest version is on probation in that one.
    pub waiting: Option<Waiting>,
    /// Indexes of its sinks.
    pub sinks: Vec<usize>,
    /// The name under which what its plugins keep is stored.
    pub state_name: String,
}

/// A version that is on probation in the first lane, for the others.
pub struct Waiting {
    pub version: LaneVersion,
    pub chains: Vec<Chain>,
}

/// Called with what a sink is about to get.
pub type Tap = Box<dyn Fn(&Batch, &[Row]) + Send>;

/// Why the pipeline ended.
#[derive(Debug)]
pub enum LaneEnd {
    /// It was told to finish, and everything has been handed to the sinks.
    Finished,
    /// A sink takes nothing any more; its driver says why.
    SinkGone,
    Problem(Box<Problem>),
}

/// What a pipeline is made of.
pub struct Parts {
    pub queue: Arc<Queue<Input>>,
    /// How many batches go through the plugins at the same time; at least 1.
    pub lanes: usize,
    pub routes: Vec<RouteParts>,
    pub outlets: Vec<Outlet>,
    pub known: Box<dyn KnownColumns>,
    pub live: Arc<LiveRelations>,
    pub merger: Merger,
    /// Tables whose copied rows go to these sinks alone, by their OIDs.
    pub only: FxHashMap<u32, Vec<usize>>,
    pub frontier: Arc<Frontier<Mark>>,
    pub store: StateStore,
    pub letters: DeadLetters,
    pub stats: Arc<LaneStats>,
    /// Given what the plugins count.
    pub metrics: Arc<GuestMetrics>,
    pub tap: Tap,
    /// Told how far the copies have come.
    pub copied: Box<dyn Fn(Vec<TableProgress>) + Send>,
    /// Where the stream starts.
    pub position: Lsn,
    /// Where the server's WAL ended at the start: what committed before may have been delivered by an earlier run.
    pub resent_until: Lsn,
    pub probation: ProbationLimits,
    pub probation_told: ProbationTold,
    /// Given some of the batches, for rehearsals.
    pub recent: Arc<Recent>,
}

/// What is known of a route here; its plugins are in the lanes.
struct RouteState {
    key: String,
    /// As the dead letters know it.
    id: RouteId,
    has_plugins: bool,
    /// From where the newest version counts.
    newest_from: Lsn,
    /// Whether its plugins keep state, so that one lane has to see all of its rows.
    stateful: bool,
    /// Versions on probation in the first lane, by their numbers, for the others.
    waiting: BTreeMap<u64, Waiting>,
    /// The version whose probation hasn't ended.
    on_probation: Option<u64>,
    /// What commits before it stays in the first lane: the transaction in which a version broke ends with that version,
    /// which the other lanes don't have.
    first_lane_until: Lsn,
    wants_messages: bool,
}

pub struct Intake {
    queue: Arc<Queue<Input>>,
    routes: Routes,
    states: Vec<RouteState>,
    /// `None` where they couldn't be started.
    lanes: Option<Lanes>,
    copies: Mergers,
    store: StateStore,
    letters: DeadLetters,
    stats: Arc<LaneStats>,
    copied: Box<dyn Fn(Vec<TableProgress>) + Send>,
    swaps: VecDeque<Box<Swap>>,
    joining: VecDeque<Box<Merger>>,
    /// A position that isn't stored before rows have been read again, see [`Mergers::owes`]; 0 where there is none.
    owed: Lsn,
    position: Lsn,
    resent_until: Lsn,
    between_transactions: bool,
    recent: Arc<Recent>,
    /// The number of the last swap.
    swapped: u64,
    looked_at: Instant,
    hold: Hold,
    frontier: Arc<Frontier<Mark>>,
}

impl Intake {
    /// # Errors
    /// Threads that can't be started.
    pub fn new(mut parts: Parts) -> Result<Self, LaneEnd> {
        let configs = parts.routes.iter().map(|route| Arc::clone(&route.config)).collect();
        let keys = parts.routes.iter().map(|route| route_key(&route.config));
        let names = dead_letter::route_names(keys);
        let ids: Vec<RouteId> = names.iter().map(|name| parts.letters.route(name)).collect();
        let states = parts
            .routes
            .iter_mut()
            .zip(&ids)
            .map(|(route, id)| RouteState::new(route, *id));
        let states: Vec<RouteState> = states.collect();
        let outflow = Outflow {
            queue: Arc::clone(&parts.queue),
            sinks: parts.routes.iter().map(|route| route.sinks.clone()).collect(),
            routes: ids,
            letters: parts.letters.clone(),
            outlets: parts.outlets,
            only: parts.only,
            frontier: Arc::clone(&parts.frontier),
            stats: Arc::clone(&parts.stats),
            tap: parts.tap,
            notices: Notices::default(),
            sequence: 0,
        };
        let warden = Warden {
            limits: parts.probation,
            store: parts.store.clone(),
            told: parts.probation_told,
            queue: Arc::clone(&parts.queue),
            keys: parts.routes.iter().map(|route| route_key(&route.config)).collect(),
            state_names: parts.routes.iter().map(|route| route.state_name.clone()).collect(),
        };
        let mut chains: Vec<Vec<LaneChain>> = (0..parts.lanes.max(1)).map(|_| Vec::new()).collect();
        let hold = Hold::new(parts.routes.iter().map(|route| route.state_name.clone()).collect());
        for route in parts.routes {
            let mut of_route = route.lanes.into_iter();
            chains
                .iter_mut()
                .for_each(|lane| lane.push(of_route.next().unwrap_or_default()));
        }
        let routes = Routes::new(configs, parts.known, parts.live, parts.resent_until);
        let mut routes = routes.map_err(LaneEnd::Problem)?;
        for (route, state) in states.iter().enumerate() {
            routes.send_messages(route, state.wants_messages);
        }
        Ok(Self {
            queue: parts.queue,
            routes,
            states,
            lanes: Some(Lanes::new(chains, &parts.metrics, &Arc::new(warden), outflow)?),
            copies: Mergers::new(parts.merger),
            store: parts.store,
            letters: parts.letters,
            stats: parts.stats,
            copied: parts.copied,
            swaps: VecDeque::new(),
            joining: VecDeque::new(),
            owed: Lsn(0),
            position: parts.position,
            resent_until: parts.resent_until,
            between_transactions: true,
            recent: parts.recent,
            swapped: 0,
            looked_at: Instant::now(),
            hold,
            frontier: parts.frontier,
        })
    }

    /// Works until it is told to finish, or can't go on.
    pub fn run(mut self) -> LaneEnd {
        let end = self.work().unwrap_or_else(|end| end);
        match self.lanes.take() {
            Some(lanes) => lanes.finish(end),
            None => end,
        }
    }

    fn work(&mut self) -> Result<LaneEnd, LaneEnd> {
        self.empty_targets()?;
        loop {
            let wait = match () {
                () if !self.copies.is_done() => UNIT_POLL,
                () if self.hold.is_held() => CHECKPOINT_IDLE,
                () => IDLE_POLL,
            };
            match self.queue.pop(wait) {
                Popped::Item(Input::Batch(batch)) => self.streamed(batch)?,
                Popped::Item(Input::Swap(swap)) => self.swaps.push_back(swap),
                Popped::Item(Input::Copy(copy)) => self.joining.push_back(copy),
                Popped::Item(Input::Probation { route, id, end }) => self.probation_ended(route, id, &end)?,
                Popped::Item(Input::Finish) | Popped::Closed => {
                    self.checkpoint()?;
                    return Ok(LaneEnd::Finished);
                }
                // While tables are copied, the silence is one between two units.
                Popped::TimedOut if self.copies.is_done() || self.hold.is_due(&self.stats.states) => {
                    self.checkpoint()?
                }
                Popped::TimedOut => {}
            }
            self.look_at_clock()?;
            if self.between_transactions {
                self.at_boundary()?;
            }
        }
    }

    /// Tables that are copied again begin from nothing at the targets. The marks say that it needn't be done again.
    fn empty_targets(&mut self) -> Result<(), LaneEnd> {
        let emptying = self.copies.to_empty(self.position);
        self.empty(emptying)
    }

    fn empty(&mut self, emptying: Vec<(TableEpoch, Batch)>) -> Result<(), LaneEnd> {
        for (table, batch) in emptying {
            self.pass_on(batch)?;
            self.mark(vec![Mark::Emptied {
                table_oid: table.oid,
                epoch: table.epoch,
            }])?;
        }
        Ok(())
    }

    /// A copy begins here. All other tables stream on.
    fn join(&mut self, copy: Merger) -> Result<(), LaneEnd> {
        let emptying = self.copies.join(copy, self.position);
        self.stats.copying.store(true, Ordering::Release);
        (self.copied)(self.copies.progress());
        self.empty(emptying)?;
        failpoint::pass(failpoint::AFTER_COPY_JOINED);
        Ok(())
    }

    /// A batch of the replication stream.
    fn streamed(&mut self, mut batch: Batch) -> Result<(), LaneEnd> {
        self.between_transactions = batch.ends_at_commit();
        self.position = self.position.max(batch.end);
        self.stats.received(&batch, self.position);
        self.copies.stream(&mut batch).map_err(LaneEnd::Problem)?;
        self.restart_copies()?;
        if self.copies.owes() {
            self.owed = self.owed.max(std::mem::take(&mut batch.end));
        }
        self.pass_on(batch)
    }

    /// Between two transactions: copied units that are ready go out, and new chains take over.
    fn at_boundary(&mut self) -> Result<(), LaneEnd> {
        while let Some(swap) = self.swaps.pop_front() {
            self.swap(*swap)?;
        }
        while let Some(copy) = self.joining.pop_front() {
            self.join(*copy)?;
        }
        self.replay()?;
        if self.copies.is_done() {
            return Ok(());
        }
        if self.waits_for_version() {
            return Ok(());
        }
        let units = self.copies.at_boundary(self.position).map_err(LaneEnd::Problem)?;
        self.restart_copies()?;
        let ahead = self.copies.ahead();
        if !ahead.is_empty() {
            let stored = self
                .store
                .add_ahead(&ahead.into_iter().map(rows_ahead).collect::<Vec<_>>());
            stored.map_err(|problem| LaneEnd::Problem(Box::new(problem)))?;
        }
        (self.copied)(self.copies.progress());
        self.stats.copying.store(!self.copies.is_done(), Ordering::Release);
        for batch in units.into_iter().flat_map(|unit| unit.batches) {
            self.stats
                .rows_copied
                .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
            self.pass_on(batch)?;
        }
        if self.owed > Lsn(0) && !self.copies.owes() {
            let end = std::mem::take(&mut self.owed);
            self.pass_on(Batch {
                end,
                ..Batch::default()
            })?;
        }
        self.count_copied()
    }

    /// The ledger forgets the tables whose copy has started over, before anything of the new one goes out.
    fn restart_copies(&mut self) -> Result<(), LaneEnd> {
        for table in self.copies.restarted() {
            let stored = self.store.restart_copy(table.oid, table.epoch);
            stored.map_err(|problem| LaneEnd::Problem(Box::new(problem)))?;
        }
        Ok(())
    }

    /// Whether the stream has still to come to where a recorded version begins. Copied rows are read now, and nothing of
    /// them is replayed; but rows that go out again, as their unit doesn't count yet, may have been through that version,
    /// and must not be overwritten by an older one. So they go out behind it, as before.
    fn waits_for_version(&self) -> bool {
        let begins_later = |state: &RouteState| state.has_plugins && state.newest_from > self.position;
        self.states.iter().any(begins_later)
    }

    /// What the stream has passed of the copies is entered in the ledger, behind all that was sent before. A start
    /// before that copies it again, rather than to meet changes that its rows are ahead of.
    fn count_copied(&mut self) -> Result<(), LaneEnd> {
        let units = self.copies.counted().into_iter().map(unit_done);
        let mut marks: Vec<Mark> = units.collect();
        marks.extend(self.copies.over().into_iter().map(|table| Mark::TableDone {
            table_oid: table.oid,
            epoch: table.epoch,
        }));
        self.copies.let_go();
        self.mark(marks)
    }

    /// Marks without a batch, to be stored behind what was sent before.
    fn mark(&mut self, marks: Vec<Mark>) -> Result<(), LaneEnd> {
        let marks = self.hold.mark(marks);
        if marks.is_empty() {
            return Ok(());
        }
        self.lanes()?.mark(marks)
    }

    /// Whether what the plugins keep may be stored now: between two transactions, and with all copied rows counted that
    /// they have met.
    fn may_checkpoint(&self) -> bool {
        self.between_transactions && self.owed == Lsn(0) && self.copies.is_even()
    }

    /// Lets go of what is held where the stream is silent or ends.
    fn checkpoint(&mut self) -> Result<(), LaneEnd> {
        if !self.hold.is_held() || !self.may_checkpoint() {
            return Ok(());
        }
        let released = self.hold.checkpoint();
        let rows = vec![Vec::new(); self.states.len()];
        self.send(Batch::default(), rows, released)
    }

    /// To the lanes, with the routes of its rows.
    fn pass_on(&mut self, mut batch: Batch) -> Result<(), LaneEnd> {
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); self.states.len()];
        self.routes.assign(&mut batch, &mut rows).map_err(LaneEnd::Problem)?;
        let of_plugins = || self.states.iter().map(|state| state.has_plugins);
        self.recent.keep(&batch, &rows, of_plugins);
        let stateful = self.has_state(&rows);
        let may = self.may_checkpoint() && batch.ends_at_commit();
        let waiting = self.frontier.marked();
        let released = self.hold.pass(&batch, stateful, may, waiting, &self.stats.states);
        self.send(batch, rows, released)
    }

    /// Whether rows of routes with state are among them.
    fn has_state(&self, rows: &[Vec<Row>]) -> bool {
        let with_state = |(state, rows): (&RouteState, &Vec<Row>)| state.stateful && !rows.is_empty();
        self.states.iter().zip(rows).any(with_state)
    }

    fn send(&mut self, batch: Batch, rows: Vec<Vec<Row>>, released: Released) -> Result<(), LaneEnd> {
        let several = self.lanes.as_ref().is_some_and(Lanes::are_several);
        let job = Job {
            waiting: self.waiting(&batch, &rows),
            copying: self.tables_where(&batch, Mergers::is_copying),
            spared: self.tables_where(&batch, Mergers::fills_in),
            batch,
            rows,
            keep_rows: several || !self.letters.is_empty(),
            marks: released.marks,
            position: released.position,
            checkpoint: released.checkpoint,
            replay: None,
        };
        self.process(job)
    }

    fn process(&mut self, job: Job) -> Result<(), LaneEnd> {
        let on_probation = |(state, rows): (&RouteState, &Vec<Row>)| {
            let until = state.first_lane_until;
            let before = |row: &Row| job.batch.transaction(row).commit_lsn < until;
            rows.first()
                .is_some_and(|row| state.on_probation.is_some() || before(row))
        };
        let watched = self.states.iter().zip(&job.rows).any(on_probation);
        let pinned = job.checkpoint.is_some() || watched || self.has_state(&job.rows);
        self.lanes()?.process(job, pinned)
    }

    /// The tables of a batch of which this is so, while any is copied.
    fn tables_where(&self, batch: &Batch, is_so: fn(&Mergers, u32) -> bool) -> Vec<u32> {
        if self.copies.is_done() {
            return Vec::new();
        }
        let tables = batch.relations.iter().map(|relation| relation.oid);
        tables.filter(|oid| is_so(&self.copies, *oid)).collect()
    }

    fn lanes(&mut self) -> Result<&mut Lanes, LaneEnd> {
        self.lanes.as_mut().ok_or(LaneEnd::SinkGone)
    }
}

fn rows_ahead(ahead: Ahead) -> RowsAhead {
    RowsAhead {
        table_oid: ahead.table_oid,
        snapshot: ahead.snapshot.to_string(),
        finish: ahead.finish,
        keys: ahead.keys,
        repair: ahead.repair,
    }
}

fn unit_done(CountedUnit { record, turn }: CountedUnit) -> Mark {
    Mark::UnitDone(Arc::new(CopiedUnit {
        unit: record.unit,
        range: CopiedRange {
            place: record.place,
            after: record.range.after,
            up_to: record.range.up_to,
            units: 1,
            rows: record.rows,
            bytes: record.bytes,
        },
        turn: turn.map(Turn::new).unwrap_or_default(),
    }))
}

impl RouteState {
    fn new(route: &mut RouteParts, id: RouteId) -> Self {
        let waiting: BTreeMap<u64, Waiting> = route.waiting.take().map(|waiting| (0, waiting)).into_iter().collect();
        let of_lane = |lane: &LaneChain| {
            let later = lane.later.iter().any(|later| later.chain.is_stateful());
            later || lane.chain.as_ref().is_some_and(Chain::is_stateful)
        };
        let newest = route.lanes.first().and_then(|lane| lane.later.back());
        Self {
            key: route_key(&route.config),
            newest_from: newest.map_or(Lsn(0), |later| later.version.from),
            stateful: route.lanes.iter().any(of_lane),
            id,
            wants_messages: route
                .lanes
                .iter()
                .flat_map(LaneChain::chains)
                .any(Chain::wants_messages),
            has_plugins: route.lanes.iter().any(|lane| lane.chain.is_some()),
            on_probation: waiting.keys().next_back().copied(),
            first_lane_until: Lsn(0),
            waiting,
        }
    }
}

/// However it ends, by a panic too: nobody waits for it any more.
impl Drop for Intake {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
