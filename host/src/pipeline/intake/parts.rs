//! What a pipeline is made of, what its intake is told, and how it ends.

use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::{ChainVersion, Frontier, Mark, StateStore};
use crate::config;
use crate::dead_letter::DeadLetters;
use crate::pipeline::columns::KnownColumns;
use crate::pipeline::lane::{LaneChain, LaneVersion};
use crate::pipeline::outflow::Outlet;
use crate::pipeline::probation::{ProbationEnd, ProbationLimits, ProbationTold};
use crate::pipeline::queue::Queue;
use crate::pipeline::recent::Recent;
use crate::pipeline::routes::LiveRelations;
use crate::pipeline::selected::Selected;
use crate::pipeline::stats::LaneStats;
use crate::plugin::{Chain, GuestMetrics};
use crate::problem::Problem;
use crate::snapshot::{Merger, TableProgress};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What the intake is told.
pub enum Input {
    Batch(Batch),
    Swap(Box<Swap>),
    /// A copy that is to begin here, or at the next commit's end.
    Copy(Box<Merger>),
    /// What these routes let out from here, or from the next commit's end, on.
    Routes(Vec<(usize, Arc<config::Route>)>),
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
    pub selected: Selected,
    pub live: Arc<LiveRelations>,
    pub merger: Merger,
    /// Tables that are copied for these sinks alone, by their OIDs.
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
