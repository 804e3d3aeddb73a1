//! What the plugins of a lane keep: asked for, and handed from one version to the next.

use super::lane::{Lane, LaneChain, Later, Takeover};
use super::probation::{Warden, blamed};
use crate::batch::Lsn;
use crate::checkpoint::{Mark, PluginState, same_plugins};
use crate::plugin::{Chain, KeptState, SharedEntries};
use crate::problem::Problem;
use std::sync::Arc;

impl Lane {
    /// Versions that routes go back to take over where the stream has passed where they begin, with or without rows: a start
    /// from there knows only them.
    pub(super) fn go_back_before(&mut self, position: Lsn) {
        let warden = Arc::clone(&self.warden);
        for (at, route) in self.routes.iter_mut().enumerate() {
            let over = |later: &mut Later| later.follows && later.version.from <= position;
            if let Some(next) = route.later.pop_front_if(over) {
                route.begin(at, &warden, next);
            }
        }
    }

    /// Adds what all plugins keep, this batch included. `names` are those under which each route's is stored.
    pub(super) fn checkpoint(&mut self, names: &[String], marks: &mut Vec<Mark>) -> Result<(), Box<Problem>> {
        let mut entries: Vec<SharedEntries> = Vec::new();
        let warden = Arc::clone(&self.warden);
        for (at, (route, name)) in self.routes.iter_mut().zip(names).enumerate() {
            let states = route.states(at, &warden)?;
            marks.extend(states.into_iter().map(|kept| {
                Mark::State(PluginState {
                    route: name.clone(),
                    plugin: kept.plugin,
                    shard: kept.shard,
                    version: kept.state.version,
                    bytes: kept.state.bytes,
                })
            }));
            let waiting: Vec<SharedEntries> = route.follower().into_iter().flat_map(|chain| chain.entries()).collect();
            for of_plugin in route.chain.iter().flat_map(Chain::entries).chain(waiting) {
                if !entries.iter().any(|known| known.is_same(&of_plugin)) {
                    entries.push(of_plugin);
                }
            }
            route.checkpoint_follower(at, &warden, name, marks)?;
        }
        let changed = |entries: &SharedEntries| [entries.take_changed(), entries.take_changed_of_waiting()];
        let changed = entries.iter().flat_map(changed).flatten();
        marks.extend(changed.map(|changed| Mark::Entries(Arc::new(changed))));
        Ok(())
    }

    /// Gives the chain that is to take over what the running one keeps. The running one stays as it is, so that it can
    /// go on where the new one doesn't take it.
    pub(super) fn prepare(&mut self, takeover: &mut Takeover) -> Result<(), Box<Problem>> {
        let route = &mut self.routes[takeover.route];
        match route.later.back_mut().filter(|later| later.follows) {
            // It runs from the next transaction on.
            Some(running) => takeover.next.chain.inherit(&mut running.chain),
            None => return route.bequeath(&mut takeover.next),
        }
        .map_err(|error| Box::new(error.problem()))
    }
}

impl LaneChain {
    /// What the plugins keep. A version on probation that can't give it has broken.
    fn states(&mut self, route: usize, warden: &Warden) -> Result<Vec<KeptState>, Box<Problem>> {
        let checkpoint = |chain: &mut Option<Chain>| chain.as_mut().map_or(Ok(Vec::new()), Chain::checkpoint);
        let error = match checkpoint(&mut self.chain) {
            Ok(states) => return Ok(states),
            Err(error) => error,
        };
        let before = self.probation.as_ref().map(|probation| &*probation.fallback_plugins);
        let set_aside = blamed(&error, &self.version.plugins, before.unwrap_or_default());
        if !set_aside.is_empty() && self.go_back(route, warden, set_aside, false)? {
            return checkpoint(&mut self.chain).map_err(|error| Box::new(error.problem()));
        }
        Err(Box::new(error.problem()))
    }

    /// Gives what is kept to the version that is next: where that is the one that waits for the end of a probation, what it
    /// has by itself.
    pub(super) fn bequeath(&mut self, to: &mut Later) -> Result<(), Box<Problem>> {
        if to.follows {
            return Ok(());
        }
        let goes_back = |plugins: &[_]| same_plugins(plugins, &to.version.plugins);
        let waiting = self.probation.as_mut().filter(|on| goes_back(&on.fallback_plugins));
        let from = waiting.and_then(|probation| probation.fallback.as_mut());
        match from.or(self.chain.as_mut()) {
            Some(from) => to.chain.inherit(from).map_err(|error| Box::new(error.problem())),
            None => Ok(()),
        }
    }

    /// Where the version behind the next one goes back to the one that runs, it follows from here on.
    pub(super) fn bequeath_behind(&mut self) -> Result<(), Box<Problem>> {
        let behind = self.later.front_mut().filter(|later| later.follows);
        match (behind, &mut self.chain) {
            (Some(behind), Some(chain)) => {
                let inherited = behind.chain.inherit(chain);
                inherited.map_err(|error| Box::new(error.problem()))?;
                behind.chain.step_aside();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
