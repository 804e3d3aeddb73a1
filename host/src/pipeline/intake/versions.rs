//! A route's versions: one takes over, and its probation ends.

use super::{IDLE_POLL, Intake, LaneEnd, Swap, Waiting};
use crate::pipeline::lane::{LaneVersion, Later, Takeover};
use crate::pipeline::probation::{ProbationEnd, now};
use crate::plugin::Chain;
use std::time::Instant;

impl Intake {
    /// Makes the new chain durable before its first output, then lets it take over: at once, or where what an earlier
    /// run may have delivered ends. Whatever is sent again meets the version that it met before. On probation it takes
    /// over in the first lane alone, and the route's rows stay there.
    pub(super) fn swap(&mut self, swap: Swap) -> Result<(), LaneEnd> {
        let state = &self.states[swap.route];
        let from = self.position.max(self.resent_until).max(state.newest_from);
        let (route, at_once) = (swap.route, from <= self.position);
        let wants_messages = swap.chains.iter().any(Chain::wants_messages);
        let keeps = swap.chains.iter().any(Chain::is_stateful);
        let stateful = state.stateful || keeps;
        if keeps {
            // What it is shown it keeps. What those before set aside, in any lane, has to be known by then.
            self.lanes()?.settle()?;
        }
        self.swapped += 1;
        let id = self.swapped;
        let on_probation = swap.version.fallback.is_some();
        let version = LaneVersion {
            from,
            plugins: swap.version.plugins.clone(),
        };
        let mut chains = swap.chains;
        let others = on_probation.then(|| chains.split_off(1.min(chains.len())));
        let takeover = |chain| Takeover {
            route,
            at_once,
            next: Later {
                chain,
                version: version.clone(),
                probation: on_probation.then_some(id),
                follows: false,
            },
        };
        let mut takeovers: Vec<Takeover> = chains.into_iter().map(takeover).collect();
        if stateful && !takeovers.is_empty() {
            let first = takeovers.remove(0);
            match self.lanes()?.prepare(first)? {
                Ok(first) => takeovers.insert(0, first),
                Err(problem) => {
                    let _ = swap.done.send(Err(problem));
                    return Ok(());
                }
            }
        }
        let state = &mut self.states[route];
        let recorded = self.store.begin_chain(&state.name, from, &swap.version, now());
        recorded.map_err(|problem| LaneEnd::Problem(Box::new(problem)))?;
        if stateful && swap.version.went_back {
            // What is stored as the route's is of the version that it goes back from: no position goes on with that.
            self.hold.expect();
        }
        state.newest_from = from;
        state.stateful = stateful;
        state.wants_messages |= wants_messages;
        self.routes.send_messages(route, state.wants_messages);
        if let Some(chains) = others {
            state.waiting.insert(id, Waiting { version, chains });
        }
        if !on_probation && state.on_probation.is_some() {
            // Until it counts, the first lane runs what was on probation, and the others what waits for the end of that: they
            // get no rows before, and not what was on probation later.
            state.first_lane_until = state.first_lane_until.max(from);
            state.waiting.clear();
        }
        state.on_probation = on_probation.then_some(id);
        let takeovers = takeovers.into_iter().enumerate();
        self.lanes()?.take_over(takeovers);
        // Whoever asked may have gone; the swap counts all the same.
        let _ = swap.done.send(Ok(from));
        Ok(())
    }

    /// The first lane has decided: the others take the version, or forget it.
    pub(super) fn probation_ended(&mut self, route: usize, id: u64, end: &ProbationEnd) -> Result<(), LaneEnd> {
        let state = &mut self.states[route];
        if state.on_probation == Some(id) {
            state.on_probation = None;
        }
        if let ProbationEnd::RolledBack { from, .. } = end {
            state.newest_from = state.newest_from.max(*from);
            state.first_lane_until = state.first_lane_until.max(*from);
        }
        let waiting = state.waiting.remove(&id);
        let (Some(waiting), ProbationEnd::Passed) = (waiting, end) else {
            return Ok(());
        };
        let takeover = |chain| Takeover {
            route,
            at_once: true,
            next: Later {
                chain,
                version: waiting.version.clone(),
                probation: None,
                follows: false,
            },
        };
        let takeovers: Vec<_> = waiting.chains.into_iter().map(takeover).collect();
        self.lanes()?.take_over((1..).zip(takeovers));
        Ok(())
    }

    /// A probation ends in time though no row comes.
    pub(super) fn look_at_clock(&mut self) -> Result<(), LaneEnd> {
        let waits = self.states.iter().any(|state| state.on_probation.is_some());
        if !waits || self.looked_at.elapsed() < IDLE_POLL {
            return Ok(());
        }
        self.looked_at = Instant::now();
        self.lanes()?.tick()
    }
}
