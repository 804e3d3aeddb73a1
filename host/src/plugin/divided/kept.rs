//! What plugins have kept, by division.

use super::{DIVISIONS, Divided};
use crate::config::FilterMode;
use crate::plugin::chain::{Chain, PluginVersion};
use crate::plugin::engine::Engine;
use crate::plugin::entries::SharedEntries;
use crate::plugin::error::{self, PluginError};
use crate::plugin::instance::Mode;
use crate::plugin::manifest::Manifest;
use crate::plugin::state::{Kept, State};
use std::sync::Arc;

/// What a plugin has kept, as it is stored.
#[derive(Clone, Debug, Default)]
pub struct PluginKept {
    /// By shard: 0 where one instance has seen all rows, else from 1 to [`DIVISIONS`].
    pub states: Vec<(u32, State)>,
    pub entries: Option<SharedEntries>,
}

impl PluginKept {
    fn shard(&self, shard: u32) -> Option<&State> {
        let found = self.states.iter().find(|(at, _)| *at == shard);
        found.map(|(_, state)| state)
    }

    /// For a plugin that sees all rows.
    fn whole(self, plugin: &PluginVersion) -> Result<Kept, PluginError> {
        let state = self.shard(0).cloned();
        let is_divided = state.is_none() && !self.states.is_empty();
        if is_divided && plugin.module.manifest().has_state() {
            return Err(not_together(&plugin.name));
        }
        Ok(Kept {
            state,
            entries: self.entries,
        })
    }

    /// What one instance had of all rows goes to each division: it keeps of each key what follows from the key's own
    /// rows, so that what belongs to others is never looked at.
    fn division(&self, at: usize) -> Kept {
        let own = self.shard(at as u32 + 1).or_else(|| self.shard(0));
        Kept {
            state: own.cloned(),
            entries: self.entries.clone(),
        }
    }
}

/// State of several instances can't be put together: what the bytes mean is the plugin's business.
pub(in crate::plugin) fn not_together(plugin: &str) -> PluginError {
    let headline = format!("plugin {plugin} can't take up its state: it is divided by key");
    let cause = "a plugin of the route needs all rows in one instance, and the state is that of several";
    let help = format!("give {plugin} a module with `state_scope: key`, in a route of such plugins alone");
    PluginError::refused_because(error::STATE, headline, cause, help)
}

/// Whether all that is kept is kept by key.
fn is_divided(plugins: &[PluginVersion]) -> bool {
    let manifests = plugins.iter().map(|plugin| plugin.module.manifest());
    let mut keeping = manifests.filter(|manifest| manifest.keeps_state()).peekable();
    keeping.peek().is_some() && keeping.all(Manifest::is_by_key)
}

impl Chain {
    /// A chain as a lane has it that sees all rows of a route: divided by key where its plugins allow for that, and then
    /// on up to `threads` threads. `kept` is what each plugin has kept; where there is less of it than plugins, the rest
    /// begins empty.
    ///
    /// # Errors
    ///
    /// As [`Chain::with_kept`].
    pub fn for_lane(
        engine: &Arc<Engine>,
        plugins: &[PluginVersion],
        filter: FilterMode,
        mode: Mode,
        threads: usize,
        kept: Vec<PluginKept>,
    ) -> Result<Self, PluginError> {
        let mut kept = kept.into_iter();
        let mut kept: Vec<PluginKept> = plugins.iter().map(|_| kept.next().unwrap_or_default()).collect();
        if !is_divided(plugins) {
            let kept = kept.into_iter().zip(plugins);
            let kept = kept
                .map(|(kept, plugin)| kept.whole(plugin))
                .collect::<Result<_, _>>()?;
            return Self::with_kept(engine, plugins, filter, mode, kept);
        }
        for (kept, plugin) in kept.iter_mut().zip(plugins) {
            // Those of a plugin are one thing, however many instances it has.
            let own = |quota: crate::config::ByteSize| SharedEntries::new(&plugin.name, quota.0, []);
            kept.entries = kept.entries.take().or_else(|| plugin.limits.kv.map(own));
        }
        let chain = |at| {
            let kept = kept.iter().map(|kept| kept.division(at)).collect();
            Self::with_kept(engine, plugins, filter, mode, kept)
        };
        let mut chains: Vec<Self> = (0..DIVISIONS).map(chain).collect::<Result<_, _>>()?;
        Self::count_faults_together(&mut chains);
        let shape = Self::with_kept(engine, &[], filter, mode, Vec::new())?;
        Ok(shape.divided(Divided::new(chains.into_iter(), threads)))
    }
}
