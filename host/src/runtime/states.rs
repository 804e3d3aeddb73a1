//! What plugins have kept, given to the chains that go on with it.

use super::process::Process;
use crate::checkpoint::{PluginState, StoredState};
use crate::config;
use crate::pipeline::{StateSize, route_key};
use crate::plugin::{Kept, Names, PluginVersion, SharedEntries, State};
use crate::problem::Problem;
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
                entries.insert(plugin.name.clone(), SharedEntries::new(&plugin.name, quota.0, stored));
            }
        }
        Ok(Self {
            states: process.store.plugin_states()?,
            entries,
        })
    }

    /// What the plugins of a chain begin with, by their order. `route` is the name under which it is stored.
    pub(super) fn of_chain(&self, route: &str, plugins: &[PluginVersion]) -> Vec<Kept> {
        let mut names = Names::default();
        let of_plugin = |plugin: &PluginVersion| {
            let name = names.next(&plugin.name);
            let stored = self.states.iter().map(|stored| &stored.state);
            let own = |state: &&PluginState| state.route == route && state.plugin == name;
            Kept {
                state: stored.clone().find(own).map(|state| State {
                    version: state.version,
                    bytes: state.bytes.clone(),
                }),
                entries: self.entries.get(&plugin.name).cloned(),
            }
        };
        plugins.iter().map(of_plugin).collect()
    }

    /// Tells what is there, and what nobody takes up: a route whose tables have changed is another route.
    pub(super) fn report(&self, process: &Process) {
        let config = process.config();
        let routes = &config.routes;
        let names: Vec<String> = (0..routes.len()).map(|at| state_name(routes, at)).collect();
        for StoredState { state, stored_ms, .. } in &self.states {
            let plugin = state.plugin.split('#').next().unwrap_or_default();
            let at = names.iter().position(|name| *name == state.route);
            let used = at.is_some_and(|at| routes[at].plugins.iter().any(|name| name == plugin));
            if !used {
                tracing::warn!(
                    plugin = state.plugin,
                    route = state.route,
                    bytes = state.bytes.len(),
                    "state is kept for a plugin that the route of these tables doesn't have any more"
                );
                continue;
            }
            let size = StateSize {
                bytes: state.bytes.len() as u64,
                version: state.version,
                taken_ms: *stored_ms,
            };
            process.stats.states.found(&state.plugin, &state.route, size);
        }
    }
}

/// The name under which what a route's plugins keep is stored: its tables, and which of the routes with these tables.
pub(super) fn state_name(routes: &[config::Route], at: usize) -> String {
    let key = route_key(&routes[at]);
    let before = routes[..at].iter().filter(|route| route_key(route) == key).count();
    match before {
        0 => key,
        _ => format!("{key}#{}", before + 1),
    }
}
