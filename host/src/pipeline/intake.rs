//! The intake: one thread that takes batches off the queue, merges copied units into them, finds their routes, and
//! hands them to the lanes.

mod copying;
mod letters;
mod parts;
mod versions;

pub use parts::{Input, LaneEnd, Parts, RouteParts, Swap, Tap, Waiting};

use super::columns::route_names;
use super::hold::{CHECKPOINT_IDLE, Hold, Released};
use super::job::Job;
use super::lane::LaneChain;
use super::lanes::Lanes;
use super::notices::Notices;
use super::outflow::{self, Outflow};
use super::probation::Warden;
use super::queue::{Popped, Queue};
use super::recent::Recent;
use super::routes::Routes;
use super::stats::LaneStats;
use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::{Frontier, Mark, StateStore};
use crate::config;
use crate::dead_letter::{DeadLetters, RouteId};
use crate::plugin::Chain;
use crate::snapshot::{Merger, Mergers, TableProgress};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the intake looks for copied units that are ready while the stream is silent.
const UNIT_POLL: Duration = Duration::from_millis(2);
/// How often it looks whether dead letters that it has to wait for are durable.
const HOLD_POLL: Duration = Duration::from_millis(1);
/// How long it sleeps at most when there is nothing to look for.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// What is known of a route here; its plugins are in the lanes.
struct RouteState {
    /// As [`route_names`] has it.
    name: String,
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
    names: Arc<[String]>,
    /// `None` where they couldn't be started.
    lanes: Option<Lanes>,
    copies: Mergers,
    store: StateStore,
    letters: DeadLetters,
    stats: Arc<LaneStats>,
    copied: Box<dyn Fn(Vec<TableProgress>) + Send>,
    swaps: VecDeque<Box<Swap>>,
    joining: VecDeque<Box<Merger>>,
    changed: VecDeque<(usize, Arc<config::Route>)>,
    /// A position that isn't stored before rows have been read again, see [`Mergers::owes`]; 0 where there is none.
    owed: Lsn,
    /// What counts of copies once that is stored.
    kept: Vec<Mark>,
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
        let names = route_names(parts.routes.iter().map(|route| &*route.config));
        let ids: Vec<RouteId> = names.iter().map(|name| parts.letters.route(name)).collect();
        let states = parts
            .routes
            .iter_mut()
            .zip(names.iter().zip(&ids))
            .map(|(route, (name, id))| RouteState::new(route, name, *id));
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
            names: names.clone(),
        };
        let mut chains: Vec<Vec<LaneChain>> = (0..parts.lanes.max(1)).map(|_| Vec::new()).collect();
        let hold = Hold::new(names.clone());
        for route in parts.routes {
            let mut of_route = route.lanes.into_iter();
            chains
                .iter_mut()
                .for_each(|lane| lane.push(of_route.next().unwrap_or_default()));
        }
        let names: Arc<[String]> = names.into();
        let routes = Routes::new(
            configs,
            Arc::clone(&names),
            parts.known,
            parts.live,
            parts.selected,
            parts.resent_until,
        );
        let mut routes = routes.map_err(LaneEnd::Problem)?;
        for (route, state) in states.iter().enumerate() {
            routes.send_messages(route, state.wants_messages);
        }
        Ok(Self {
            queue: parts.queue,
            routes,
            states,
            names,
            lanes: Some(Lanes::new(chains, &parts.metrics, &Arc::new(warden), outflow)?),
            copies: Mergers::new(parts.merger),
            store: parts.store,
            letters: parts.letters,
            stats: parts.stats,
            copied: parts.copied,
            swaps: VecDeque::new(),
            joining: VecDeque::new(),
            changed: VecDeque::new(),
            owed: Lsn(0),
            kept: Vec::new(),
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
                Popped::Item(Input::Routes(routes)) => self.changed.extend(routes),
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
        while let Some((at, route)) = self.changed.pop_front() {
            tracing::info!(route = self.states[at].name, position = %self.position, "the route lets out what the file says now");
            self.routes.change(at, route);
        }
        while let Some(copy) = self.joining.pop_front() {
            self.join(*copy)?;
        }
        self.replay()?;
        self.let_out_copied()
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
    /// they have met. Those whose marks are kept until a position goes on don't count yet: stored without them, what the
    /// plugins have of these rows would be there before a start that reads them once more.
    fn may_checkpoint(&self) -> bool {
        self.between_transactions && self.owed == Lsn(0) && self.kept.is_empty() && self.copies.is_even()
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
        // Their copy was planned when the route had no plugins.
        let mut with_plugins = self.states.iter().zip(&rows);
        let looked_at = |(state, rows): (&RouteState, &Vec<Row>)| state.has_plugins && !rows.is_empty();
        if batch.straight && (with_plugins.any(looked_at) || !self.letters.is_empty()) {
            batch = outflow::as_text(&batch, &rows.concat())?;
        }
        let of_plugins = || self.states.iter().map(|state| state.has_plugins);
        self.recent.keep(&batch, &self.names, &rows, of_plugins);
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

    fn lanes(&mut self) -> Result<&mut Lanes, LaneEnd> {
        self.lanes.as_mut().ok_or(LaneEnd::SinkGone)
    }
}

impl RouteState {
    fn new(route: &mut RouteParts, name: &str, id: RouteId) -> Self {
        let waiting: BTreeMap<u64, Waiting> = route.waiting.take().map(|waiting| (0, waiting)).into_iter().collect();
        let of_lane = |lane: &LaneChain| {
            let later = lane.later.iter().any(|later| later.chain.is_stateful());
            later || lane.chain.as_ref().is_some_and(Chain::is_stateful)
        };
        let newest = route.lanes.first().and_then(|lane| lane.later.back());
        Self {
            name: name.to_owned(),
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
#[path = "tests/mod.rs"]
mod tests;
