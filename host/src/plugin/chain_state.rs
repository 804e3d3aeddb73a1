//! What the plugins of a chain keep, together.

use super::chain::Chain;
use super::error::PluginError;
use super::kv::SharedEntries;
use super::state::{Kept, State};
use std::collections::HashMap;

impl Chain {
    /// The state of each plugin that has some, with the plugin's place among those of its name and all rows so far in
    /// it. To be called between two batches.
    ///
    /// # Errors
    ///
    /// A plugin that breaks at it.
    pub fn checkpoint(&mut self) -> Result<Vec<(String, State)>, PluginError> {
        let mut states = Vec::new();
        let mut names = Names::default();
        for stage in &mut self.stages {
            let name = names.next(&stage.plugin.name);
            if let Some(state) = stage.checkpoint()? {
                states.push((name, state));
            }
        }
        Ok(states)
    }

    /// Begins with what `old` has kept, plugin by plugin, and leaves `old` as it is.
    ///
    /// # Errors
    ///
    /// A plugin of the old chain that can't give its state, or one of this chain that can't take it. Then this chain
    /// is not to be used.
    pub fn inherit(&mut self, old: &mut Self) -> Result<(), PluginError> {
        if !self.is_stateful() && !old.is_stateful() {
            return Ok(());
        }
        let mut kept: HashMap<String, Kept> = HashMap::new();
        let mut names = Names::default();
        for stage in &mut old.stages {
            kept.insert(names.next(&stage.plugin.name), stage.bequeath()?);
        }
        let mut names = Names::default();
        for stage in &mut self.stages {
            if let Some(kept) = kept.remove(&names.next(&stage.plugin.name)) {
                stage.inherit(kept)?;
            }
        }
        Ok(())
    }

    /// The entries by key of its plugins.
    pub fn entries(&self) -> impl Iterator<Item = SharedEntries> + use<'_> {
        self.stages.iter().filter_map(super::stage::Stage::entries)
    }
}

/// Names under which states are kept: a plugin that a route has twice has two of them.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    pub fn next(&mut self, plugin: &str) -> String {
        let count = self.0.entry(plugin.to_owned()).or_default();
        *count += 1;
        match count {
            1 => plugin.to_owned(),
            _ => format!("{plugin}#{count}"),
        }
    }
}
