//! What a new version of a route's chain is watched by until it is trusted.
//!
//! Its rows stay in the first lane, and the version before waits there. The lane decides alone, between two batches or
//! at the fault itself, writes it down, and only then goes on; whoever needs to know is told after.

use super::intake::Input;
use super::queue::Queue;
use crate::batch::{Batch, Lsn, Part, Row};
use crate::checkpoint::{ChainVersion, PluginVersion, SetAside, StateStore};
use crate::plugin::{Chain, PluginError};
use crate::problem::Problem;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long it lasts: whichever ends first.
#[derive(Clone, Copy, Debug)]
pub struct ProbationLimits {
    pub time: Duration,
    pub batches: u64,
}

/// How a version's probation ended.
#[derive(Clone, Debug)]
pub enum ProbationEnd {
    /// All lanes take it.
    Passed,
    /// It broke: the version before counts from this commit on.
    RolledBack {
        from: Lsn,
        /// What ran.
        gone: Vec<PluginVersion>,
        /// What runs again.
        plugins: Vec<PluginVersion>,
        /// Nothing where it broke in another route, which has said so.
        set_aside: Vec<SetAside>,
    },
    /// Another candidate took its place.
    Replaced,
}

/// Told of the route and its version's end.
pub type ProbationTold = Arc<dyn Fn(usize, &ProbationEnd) + Send + Sync>;

/// What a lane needs to decide.
pub(super) struct Warden {
    pub limits: ProbationLimits,
    pub store: StateStore,
    pub told: ProbationTold,
    /// The intake's: it keeps the route in the first lane until it hears of the end.
    pub queue: Arc<Queue<Input>>,
    /// Under which each route's versions, and what its plugins keep, are stored.
    pub names: Vec<String>,
}

/// A version on probation.
#[derive(Debug)]
pub struct Probation {
    /// Tells it from others of its route.
    pub(super) id: u64,
    pub(super) fallback: Option<Chain>,
    pub(super) fallback_plugins: Vec<PluginVersion>,
    began: Instant,
    batches: u64,
}

impl Probation {
    pub fn new(id: u64, fallback: Option<Chain>, fallback_plugins: Vec<PluginVersion>) -> Self {
        Self {
            id,
            fallback,
            fallback_plugins,
            began: Instant::now(),
            batches: 0,
        }
    }

    /// Counts a batch that went well.
    pub(super) fn went_well(&mut self) {
        self.batches += 1;
    }

    pub(super) fn is_over(&self, limits: ProbationLimits) -> bool {
        self.batches >= limits.batches || self.began.elapsed() >= limits.time
    }
}

impl Warden {
    pub(super) fn tell(&self, route: usize, id: u64, end: ProbationEnd) {
        (self.told)(route, &end);
        // At the session's end nobody needs to know.
        let _ = self.queue.push_now(Input::Probation { route, id, end });
    }

    pub(super) fn settle<'p>(
        &self,
        route: usize,
        from: Lsn,
        plugins: impl IntoIterator<Item = &'p str>,
    ) -> Result<(), Box<Problem>> {
        let settled = self.store.settle_chain(&self.names[route], from, now());
        settled.map_err(Box::new)?;
        let forgotten = self.store.forget_before(&self.names[route], plugins);
        forgotten.map_err(Box::new)
    }

    pub(super) fn roll_back(
        &self,
        route: usize,
        from: Lsn,
        plugins: &[PluginVersion],
        set_aside: &[SetAside],
    ) -> Result<(), Box<Problem>> {
        let version = ChainVersion {
            plugins: plugins.to_vec(),
            fallback: None,
            went_back: true,
        };
        let stored = self
            .store
            .roll_back_chain(&self.names[route], from, &version, set_aside);
        stored.map_err(Box::new)
    }
}

/// Which of the versions on probation the failure is laid to: empty where only what ran before has failed.
pub(super) fn blamed(error: &PluginError, running: &[PluginVersion], before: &[PluginVersion]) -> Vec<SetAside> {
    let is_new = |version: &&PluginVersion| !before.iter().any(|other| other.is_same(version));
    let named = match error {
        PluginError::Fault(fault) => Some(&fault.plugin),
        PluginError::GaveUp(gave_up) => Some(&gave_up.fault.plugin),
        PluginError::Refused(_) => None,
        PluginError::Row(_) => return Vec::new(),
    };
    let blamed = running.iter().filter(is_new);
    let blamed = blamed.filter(|version| named.is_none_or(|name| version.name == *name));
    let reason = match error {
        PluginError::Refused(problem) => match &problem.cause {
            Some(cause) => format!("{}: {cause}", problem.headline),
            None => problem.headline.clone(),
        },
        other => other.to_string(),
    };
    let aside = |version: &PluginVersion| SetAside {
        version: version.clone(),
        reason: reason.clone(),
        since: now(),
    };
    blamed.map(aside).collect()
}

/// The first of the rows whose transaction begins in this batch: nothing of it has left yet.
pub(super) fn first_whole(batch: &Batch, rows: &[Row]) -> Option<usize> {
    rows.iter()
        .position(|row| matches!(batch.transaction(row).part, Part::Whole | Part::First))
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
