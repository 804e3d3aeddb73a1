//! A version that keeps state waits for the end of a probation by following: it sees the same rows, and what it makes of
//! them is thrown away. So it can go on from any transaction with the state that it would have had.
//!
//! ```text
//!   transactions      1    2    3    4    5    6
//!   version before    out  .    .    .    out  out      . sees them, gives nothing
//!   on probation           out  out  out  !             ! breaks: the version before has 1 to 4 in its state
//! ```
//!
//! Its state is stored beside that of the one on probation, in the same transaction; so is how its entries by key differ
//! (`plugin/entries/mod.rs`).

use super::lane::{Call, LaneChain};
use super::lane_letters::taken;
use super::probation::Warden;
use crate::batch::{Batch, Row};
use crate::checkpoint::{Mark, PluginState};
use crate::plugin::{Chain, GuestMetrics, Processed};
use crate::problem::Problem;

impl LaneChain {
    /// The version that follows, where there is one.
    pub(super) fn follower(&mut self) -> Option<&mut Chain> {
        let waiting = self
            .probation
            .as_mut()
            .and_then(|probation| probation.fallback.as_mut());
        let goes_back = self.later.front_mut().filter(|later| later.follows);
        let chain = waiting.or(goes_back.map(|later| &mut later.chain))?;
        chain.is_stateful().then_some(chain)
    }

    /// A copy of the rows for the version that follows; nothing where there is none.
    pub(super) fn rows_to_follow(&mut self, rows: &[Row]) -> Option<Vec<Row>> {
        self.follower().map(|_| rows.to_vec())
    }

    /// Lets the version that follows see what the running one has taken. Where it breaks as a whole there is no way back
    /// to it.
    pub(super) fn follow(
        &mut self,
        call: &mut Call<'_>,
        batch: &mut Batch,
        rows: Option<Vec<Row>>,
    ) -> Result<(), Box<Problem>> {
        let (Some(rows), Some(chain)) = (rows, self.follower()) else {
            return Ok(());
        };
        // What was set aside reaches both when it is sent again.
        let mut rows = taken(batch, rows, call.processed, &mut call.behind);
        let extent = batch.extent();
        let message_rows = batch.message_rows.clone();
        let done = chain.process(batch, &mut rows, &mut Processed::default());
        // Counted once, by the version that runs.
        chain.take_metrics(&GuestMetrics::default());
        batch.cut(extent);
        batch.message_rows = message_rows;
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.lose_follower(call.route, call.warden, Box::new(error.problem())),
        }
    }

    /// The version on probation counts as trusted then. One that the route has gone back to already is needed.
    fn lose_follower(&mut self, route: usize, warden: &Warden, problem: Box<Problem>) -> Result<(), Box<Problem>> {
        if self.probation.is_none() {
            return Err(problem);
        }
        tracing::warn!(
            code = problem.code,
            reason = problem.headline,
            "the version before breaks on what the one on probation takes: there is no way back to it"
        );
        self.trust(route, warden)
    }

    /// Adds what the version that follows keeps. `name` is the one under which the route's is stored.
    pub(super) fn checkpoint_follower(
        &mut self,
        route: usize,
        warden: &Warden,
        name: &str,
        marks: &mut Vec<Mark>,
    ) -> Result<(), Box<Problem>> {
        let Some(chain) = self.follower() else { return Ok(()) };
        match chain.checkpoint() {
            Ok(states) => marks.extend(states.into_iter().map(|kept| {
                Mark::State(PluginState {
                    route: PluginState::before(name),
                    plugin: kept.plugin,
                    shard: kept.shard,
                    version: kept.state.version,
                    bytes: kept.state.bytes,
                })
            })),
            Err(error) => self.lose_follower(route, warden, Box::new(error.problem()))?,
        }
        Ok(())
    }
}
