//! Which version of which plugin a route's rows go through, now and, after a crash, for what is sent again.
//!
//! Recorded versions count from the position they were recorded with. A start takes the newest one at or before its
//! own position, and gives the lane the later ones with their positions. Where the files have changed since, the new
//! version counts from where the server's WAL ends now: everything before it may have been delivered already, by the
//! recorded one.

use super::process::Process;
use super::states::{States, state_name};
use crate::batch::Lsn;
use crate::checkpoint::{self, ChainVersion};
use crate::config;
use crate::pipeline::{Input, LaneChain, Queue, RouteParts, route_key};
use crate::plugin::reload::{ModuleRefusal, ModuleStore, read_module};
use crate::plugin::{Chain, Engine, Mode, Module, PluginVersion};
use crate::problem::{Exit, Problem};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest good version of each plugin, and those that recorded chains need.
pub(super) struct Modules {
    store: ModuleStore,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    newest: HashMap<String, Arc<Module>>,
    by_hash: HashMap<String, Arc<Module>>,
    /// Where the lane of the present session takes its input; `None` between sessions.
    lane: Option<Arc<Queue<Input>>>,
}

impl Modules {
    /// Loads every plugin of the configuration from its file.
    pub(super) fn load(store: ModuleStore, engine: &Engine, plugins: &[config::Plugin]) -> Result<Self, Box<Problem>> {
        let modules = Self {
            store,
            inner: Mutex::default(),
        };
        for plugin in plugins {
            let refused = |refusal: ModuleRefusal| Box::new(refusal.into_problem(&plugin.name, &plugin.module));
            let (bytes, _) = read_module(&plugin.module, None, plugin.limits.module.0).map_err(refused)?;
            let (hash, _) = modules.store.put(&bytes).map_err(|error| Box::new(not_kept(&error)))?;
            let module = engine
                .load(&bytes, &plugin.limits)
                .map_err(|error| Box::new(error.problem()))?;
            debug_assert_eq!(module.hash(), hash);
            modules.accept(&plugin.name, module);
        }
        Ok(modules)
    }

    /// A version of `plugin` that passed all checks: routes begun from now on take it.
    pub(super) fn accept(&self, plugin: &str, module: Arc<Module>) {
        let mut inner = self.lock();
        inner.by_hash.insert(module.hash_hex().to_owned(), Arc::clone(&module));
        inner.newest.insert(plugin.to_owned(), module);
    }

    pub(super) fn newest(&self, plugin: &str) -> Option<Arc<Module>> {
        self.lock().newest.get(plugin).cloned()
    }

    pub(super) fn store(&self) -> &ModuleStore {
        &self.store
    }

    /// The lane of a session that begins.
    pub(super) fn running(&self, lane: Arc<Queue<Input>>) {
        self.lock().lane = Some(lane);
    }

    pub(super) fn stopped(&self) {
        self.lock().lane = None;
    }

    pub(super) fn lane(&self) -> Option<Arc<Queue<Input>>> {
        self.lock().lane.clone()
    }

    fn by_hash(&self, engine: &Engine, hash: &str, limits: &config::Limits) -> Result<Arc<Module>, Box<Problem>> {
        if let Some(module) = self.lock().by_hash.get(hash) {
            return Ok(Arc::clone(module));
        }
        let bytes = self
            .store
            .get_hex(hash)
            .map_err(|error| Box::new(version_gone(hash, &error)))?;
        let module = engine.load(&bytes, limits).map_err(|error| Box::new(error.problem()))?;
        self.lock().by_hash.insert(hash.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes as a pipeline that starts at `start` runs them. `flushed` is where the server's WAL ends now.
pub(super) fn routes(process: &Process, start: Lsn, flushed: Lsn) -> Result<Vec<RouteParts>, Box<Problem>> {
    let routes = &process.config.routes;
    let kept = States::load(process)?;
    kept.report(process);
    (0..routes.len())
        .map(|at| of_route(process, at, &kept, start, flushed))
        .collect()
}

fn of_route(process: &Process, at: usize, kept: &States, start: Lsn, flushed: Lsn) -> Result<RouteParts, Box<Problem>> {
    let route = &process.config.routes[at];
    let sink_at = |name: &String| process.config.sinks.iter().position(|sink| sink.name == *name);
    let sinks = route.sinks.iter().filter_map(sink_at).collect();
    let mut parts = RouteParts {
        config: Arc::new(route.clone()),
        lanes: Vec::new(),
        sinks,
        state_name: state_name(&process.config.routes, at),
    };
    if route.plugins.is_empty() {
        return Ok(parts);
    }
    let key = route_key(route);
    let mut recorded = process.store.chain_versions(&key).map_err(Box::new)?;
    let present = present(process, route);
    if recorded.last().is_none_or(|(_, last)| *last != present) {
        let from = if recorded.is_empty() { start } else { flushed.max(start) };
        process
            .store
            .put_chain_version(&key, from, &present)
            .map_err(Box::new)?;
        recorded.retain(|(other, _)| *other != from);
        recorded.push((from, present));
    }
    let first = recorded.iter().rposition(|(from, _)| *from <= start).unwrap_or(0);
    for number in 0..process.config.lanes {
        let mut lane = LaneChain::default();
        for (from, version) in recorded.iter().skip(first) {
            // What is kept goes to the version at the start, in the lane that all rows of a stateful route take; from
            // there it is handed on.
            let kept = (number == 0 && lane.chain.is_none()).then_some((kept, parts.state_name.as_str()));
            let chain = chain(process, route, version, kept)?;
            if lane.chain.is_none() {
                lane.chain = Some(chain);
            } else {
                lane.later.push_back((*from, chain));
            }
        }
        parts.lanes.push(lane);
    }
    Ok(parts)
}

/// The version that the files and the configuration make now.
pub(super) fn present(process: &Process, route: &config::Route) -> ChainVersion {
    let of_plugin = |name: &String| {
        let plugin = process.config.plugins.iter().find(|plugin| plugin.name == *name)?;
        let module = process.modules.newest(name)?.hash_hex().to_owned();
        Some(checkpoint::PluginVersion {
            name: name.clone(),
            module,
            config: config_hash(plugin),
        })
    };
    ChainVersion {
        plugins: route.plugins.iter().filter_map(of_plugin).collect(),
    }
}

/// Starts the plugins of a version. Their configuration is the present one: what it was isn't kept, as it may hold
/// secrets; that it was another one is said.
pub(super) fn chain(
    process: &Process,
    route: &config::Route,
    version: &ChainVersion,
    kept: Option<(&States, &str)>,
) -> Result<Chain, Box<Problem>> {
    let mut plugins = Vec::new();
    for recorded in &version.plugins {
        let Some(plugin) = process
            .config
            .plugins
            .iter()
            .find(|plugin| plugin.name == recorded.name)
        else {
            return Err(Box::new(plugin_gone(&recorded.name)));
        };
        if config_hash(plugin) != recorded.config {
            tracing::warn!(
                plugin = plugin.name,
                "the plugin's config has changed: what is sent again goes through the new one"
            );
        }
        let module = process
            .modules
            .by_hash(&process.engine, &recorded.module, &plugin.limits)?;
        plugins.push(PluginVersion {
            name: plugin.name.clone(),
            module,
            config: plugin.config.clone(),
            limits: plugin.limits,
            policies: plugin.policies,
        });
    }
    let kept = kept.map_or_else(Vec::new, |(states, name)| states.of_chain(name, &plugins));
    Chain::with_kept(&process.engine, &plugins, route.filter, Mode::Live, kept)
        .map_err(|error| Box::new(error.problem()))
}

fn config_hash(plugin: &config::Plugin) -> String {
    let digest = Sha256::digest(plugin.config.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_kept(error: &dyn std::fmt::Display) -> Problem {
    let help = "free space on the disk of the state folder, then start again";
    Problem::new("E0330", Exit::Plugin, "a plugin's module can't be kept", help).with_cause(error)
}

fn version_gone(hash: &str, error: &dyn std::fmt::Display) -> Problem {
    let headline = format!("plugin version {} is not kept any more", &hash[..hash.len().min(12)]);
    let help = "put the module back into the state folder's modules: rows that are sent again must go through it";
    Problem::new("E0331", Exit::Plugin, headline, help).with_cause(error)
}

fn plugin_gone(name: &str) -> Problem {
    let headline = format!("plugin `{name}` has rows to be sent again and isn't in the file any more");
    let help = "put it back under `plugins` until `rowmill run --once` has ended, then take it out";
    Problem::new("E0332", Exit::Plugin, headline, help)
}
