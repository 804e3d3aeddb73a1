//! What the plugins of a chain keep, together.

use super::chain::Chain;
use super::divided;
use super::entries::SharedEntries;
use super::error::PluginError;
use super::stage::Stage;
use super::state::{Kept, State};
use std::collections::HashMap;

/// The state of one plugin, or of one of its divisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptState {
    /// With the plugin's place among those of its name.
    pub plugin: String,
    /// 0 where one instance has seen all rows, else the division's number from 1.
    pub shard: u32,
    pub state: State,
}

impl Chain {
    /// The state of each plugin that has some, with all rows so far in it. To be called between two batches.
    ///
    /// # Errors
    ///
    /// A plugin that breaks at it.
    pub fn checkpoint(&mut self) -> Result<Vec<KeptState>, PluginError> {
        let mut states = Vec::new();
        match &mut self.divided {
            None => self.states(0, &mut states)?,
            Some(divided) => {
                for (shard, chain) in (1..).zip(divided.chains_mut()) {
                    chain.states(shard, &mut states)?;
                }
            }
        }
        Ok(states)
    }

    fn states(&mut self, shard: u32, states: &mut Vec<KeptState>) -> Result<(), PluginError> {
        let mut names = Names::default();
        for stage in &mut self.stages {
            let plugin = names.next(&stage.plugin.name);
            let state = stage.checkpoint()?;
            states.extend(state.map(|state| KeptState { plugin, shard, state }));
        }
        Ok(())
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
        match (&mut self.divided, &mut old.divided) {
            (None, None) => self.take_up(old.bequeath()?),
            (Some(new), Some(old)) => {
                let mut pairs = new.chains_mut().zip(old.chains_mut());
                pairs.try_for_each(|(new, old)| new.take_up(old.bequeath()?))
            }
            // What the one has of all rows; each looks at what belongs to its own.
            (Some(new), None) => {
                let kept = old.bequeath()?;
                new.chains_mut().try_for_each(|new| new.take_up(kept.clone()))
            }
            (None, Some(old)) => {
                let kept = old.chains_mut().next().map(Self::bequeath).transpose()?;
                let mut kept = kept.unwrap_or_default();
                let mut names = Names::default();
                for stage in &self.stages {
                    let of_plugin = kept.get_mut(&names.next(&stage.plugin.name));
                    let has_state = stage.plugin.module.manifest().has_state();
                    if of_plugin.is_some_and(|kept| kept.state.take().is_some()) && has_state {
                        return Err(divided::not_together(&stage.plugin.name));
                    }
                }
                self.take_up(kept)
            }
        }
    }

    fn bequeath(&mut self) -> Result<HashMap<String, Kept>, PluginError> {
        let mut names = Names::default();
        let of_stage = |stage: &mut Stage| Ok((names.next(&stage.plugin.name), stage.bequeath()?));
        self.stages.iter_mut().map(of_stage).collect()
    }

    fn take_up(&mut self, mut kept: HashMap<String, Kept>) -> Result<(), PluginError> {
        let mut names = Names::default();
        for stage in &mut self.stages {
            if let Some(kept) = kept.remove(&names.next(&stage.plugin.name)) {
                stage.inherit(kept)?;
            }
        }
        Ok(())
    }

    /// Notes what the plugins have kept so far, for [`Self::put_back`].
    pub(crate) fn save(&mut self) {
        self.all_stages().for_each(Stage::save);
    }

    /// Nothing will be put back.
    pub(crate) fn keep(&mut self) {
        self.all_stages().for_each(Stage::keep);
    }

    /// Nothing since [`Self::save`] has happened to what they keep.
    ///
    /// # Errors
    ///
    /// A plugin that doesn't start again.
    pub(crate) fn put_back(&mut self) -> Result<(), PluginError> {
        self.all_stages().try_for_each(Stage::put_back)
    }

    /// It waits for the end of a probation from here on: what its plugins write by key counts for them alone.
    pub(crate) fn step_aside(&mut self) {
        self.all_stages().for_each(Stage::step_aside);
    }

    /// What its plugins have by key counts from here on. `others_wait` says that what a version has that waits is still
    /// needed.
    pub(crate) fn step_in(&mut self, others_wait: bool) {
        self.all_stages().for_each(|stage| stage.step_in(others_wait));
    }

    /// The entries by key of its plugins.
    pub fn entries(&self) -> impl Iterator<Item = SharedEntries> + use<'_> {
        self.first().stages.iter().filter_map(Stage::entries)
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
