//! What the plugins of a lane keep: asked for, and handed from one version to the next.

use super::lane::{Lane, LaneChain, Takeover};
use crate::checkpoint::{Mark, PluginState};
use crate::plugin::{Chain, SharedEntries};
use crate::problem::Problem;
use std::sync::Arc;

impl Lane {
    /// Adds what all plugins keep, this batch included. `names` are those under which each route's is stored.
    pub(super) fn checkpoint(&mut self, names: &[String], marks: &mut Vec<Mark>) -> Result<(), Box<Problem>> {
        let mut entries: Vec<SharedEntries> = Vec::new();
        for (route, name) in self.routes.iter_mut().zip(names) {
            let Some(chain) = &mut route.chain else { continue };
            for (plugin, state) in chain.checkpoint().map_err(|error| Box::new(error.problem()))? {
                marks.push(Mark::State(PluginState {
                    route: name.clone(),
                    plugin,
                    shard: 0,
                    version: state.version,
                    bytes: state.bytes,
                }));
            }
            for of_plugin in chain.entries() {
                if !entries.iter().any(|known| known.is_same(&of_plugin)) {
                    entries.push(of_plugin);
                }
            }
        }
        let changed = entries.iter().filter_map(SharedEntries::take_changed);
        marks.extend(changed.map(|changed| Mark::Entries(Arc::new(changed))));
        Ok(())
    }

    /// Gives the chain that is to take over what the running one keeps. The running one stays as it is, so that it can
    /// go on where the new one doesn't take it.
    pub(super) fn prepare(&mut self, takeover: &mut Takeover) -> Result<(), Box<Problem>> {
        self.routes[takeover.route].bequeath(&mut takeover.next.chain)
    }
}

impl LaneChain {
    pub(super) fn bequeath(&mut self, to: &mut Chain) -> Result<(), Box<Problem>> {
        match &mut self.chain {
            Some(chain) => to.inherit(chain).map_err(|error| Box::new(error.problem())),
            None => Ok(()),
        }
    }
}
