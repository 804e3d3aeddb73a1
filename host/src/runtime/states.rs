//! What plugins have kept, given to the chains that go on with it.

use super::process::Process;
use crate::checkpoint::{PluginState, StoredState};
use crate::pipeline::route_names;
use crate::plugin::{Names, PluginKept, PluginVersion, SharedEntries, State};
use crate::problem::Problem;
use std::borrow::Cow;
use std::collections::HashMap;

/// Everything that is kept, from one moment.
pub(super) struct States {
    states: Vec<StoredState>,
    /// By the plugin's name: all its instances share them.
    entries: HashMap<String, SharedEntries>,
}

impl States {
    /// Reads what is stored for the plugins of the configuration.
    pub(super) fn load(process: &Process) -> Result<Self, Box<Problem>> {
        let mut entries = HashMap::new();
        for plugin in &process.config().plugins {
            if let Some(quota) = plugin.limits.kv {
                let stored = process.store.plugin_entries(&plugin.name)?;
                let waiting = process.store.plugin_entries(&PluginState::before(&plugin.name))?;
                let shared = SharedEntries::new(&plugin.name, quota.0, stored).with_waiting(waiting);
                entries.insert(plugin.name.clone(), shared);
            }
        }
        Ok(Self {
            states: process.store.plugin_states()?,
            entries,
        })
    }

    /// What the plugins of a chain begin with, by their order. `route` is the name under which it is stored.
    pub(super) fn of_chain(&self, route: &str, plugins: &[PluginVersion]) -> Vec<PluginKept> {
        let mut names = Names::default();
        let of_plugin = |plugin: &PluginVersion| {
            let name = names.next(&plugin.name);
            let stored = self.states.iter().map(|stored| &stored.state);
            let own = stored.filter(|state| state.route == route && state.plugin == name);
            let state = |state: &PluginState| State {
                version: state.version,
                bytes: state.bytes.clone(),
            };
            PluginKept {
                states: own.map(|of_shard| (of_shard.shard, state(of_shard))).collect(),
                entries: self.entries.get(&plugin.name).cloned(),
            }
        };
        plugins.iter().map(of_plugin).collect()
    }

    /// What there is of a route; `name` is the one under which it is stored.
    pub(super) fn of_route<'a>(&'a self, name: &'a str) -> OfRoute<'a> {
        let name = Cow::Borrowed(name);
        OfRoute {
            states: Some(self),
            waits: false,
            name,
        }
    }

    /// Tells what is there, and what nobody takes up: a route whose tables have changed is another route.
    pub(super) fn report(&self, process: &Process) {
        let config = process.config();
        let routes = &config.routes;
        let names = route_names(routes);
        let is_used = |state: &PluginState| {
            let plugin = state.plugin.split('#').next().unwrap_or_default();
            let at = names.iter().position(|name| *name == state.route);
            at.is_some_and(|at| routes[at].plugins.iter().any(|name| name == plugin))
        };
        let running = || self.states.iter().filter(|stored| !stored.state.is_before());
        for StoredState { state, .. } in running().filter(|stored| !is_used(&stored.state)) {
            // Once for all divisions.
            if state.shard <= 1 {
                tracing::warn!(
                    plugin = state.plugin,
                    route = state.route,
                    bytes = state.bytes.len(),
                    "state is kept for a plugin that the route of these tables doesn't have any more"
                );
            }
        }
        let used = running().filter(|stored| is_used(&stored.state));
        let found = used.map(|stored| (&stored.state, stored.stored_ms));
        process.stats.states.found(found);
    }
}

/// What the plugins of one route have kept, for the lane that has all of its rows.
#[derive(Clone)]
pub(super) struct OfRoute<'a> {
    /// `None` for what is given it later, by the version that it takes over from.
    states: Option<&'a States>,
    /// Whether it is for a version that waits for the end of a probation.
    waits: bool,
    name: Cow<'a, str>,
}

impl OfRoute<'_> {
    pub(super) fn of_chain(&self, plugins: &[PluginVersion]) -> Vec<PluginKept> {
        let states = self.states.map(|states| states.of_chain(&self.name, plugins));
        let mut kept = states.unwrap_or_default();
        for entries in kept
            .iter_mut()
            .filter(|_| self.waits)
            .filter_map(|kept| kept.entries.as_mut())
        {
            *entries = entries.waiting_as_stored();
        }
        kept
    }

    pub(super) fn without(&self) -> Self {
        Self {
            states: None,
            ..self.clone()
        }
    }

    /// What the version has that waits for the end of a probation. Where none is stored it is what the route has, since
    /// the one on probation hasn't given any yet.
    pub(super) fn before(&self) -> Self {
        let before = PluginState::before(&self.name);
        let mut stored = self.states.iter().flat_map(|states| &states.states);
        match stored.any(|stored| stored.state.route == before) {
            true => Self {
                waits: true,
                name: Cow::Owned(before),
                ..self.clone()
            },
            false => Self {
                waits: true,
                ..self.clone()
            },
        }
    }
}
