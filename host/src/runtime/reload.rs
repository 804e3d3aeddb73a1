//! From a changed file to a chain that takes over: compiled and tried beside the running one, swapped between two
//! transactions. A failure at any step leaves the running version as it is, and is told.

use super::chains;
use super::process::Process;
use crate::batch::Relation;
use crate::config;
use crate::pipeline::{Input, Swap, route_key};
use crate::plugin::reload::{ModuleWatcher, ReloadEvent, WatchSettings, WatchedPlugin, hash_hex};
use crate::plugin::{Chain, ChainOutcome, Mode, Module, PluginError, PluginVersion};
use crate::problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the lane may take to reach the end of the transaction under way.
const SWAP_TIMEOUT: Duration = Duration::from_secs(600);

/// Watches the plugins' files for as long as the result lives.
pub(super) fn watch(process: &Arc<Process>) -> std::io::Result<ModuleWatcher> {
    let config = &process.config;
    let plugins = config.plugins.iter().map(|plugin| WatchedPlugin {
        name: plugin.name.clone(),
        module: plugin.module.clone(),
        running: process.modules.newest(&plugin.name).map(|module| module.hash()),
        limit: plugin.limits.module.0,
    });
    let settings = WatchSettings {
        settle: config.reload.settle.0,
        interval: config.reload.interval.0,
        ..WatchSettings::default()
    };
    let of_event = Arc::clone(process);
    ModuleWatcher::start(
        plugins.collect(),
        settings,
        process.modules.store().clone(),
        move |event| {
            take(&of_event, event);
            true
        },
    )
}

/// On the watcher's thread: nothing here is on the way of a row.
fn take(process: &Arc<Process>, event: ReloadEvent) {
    match event {
        ReloadEvent::Gone { plugin } => {
            tracing::warn!(plugin, "the plugin's file is gone; the version that runs goes on");
        }
        ReloadEvent::Refused { plugin, reason } => process.status.refused(&plugin, None, &reason),
        ReloadEvent::Change {
            plugin, bytes, hash, ..
        } => {
            // The file went back to what runs.
            if process
                .modules
                .newest(&plugin)
                .is_some_and(|module| module.hash() == hash)
            {
                return;
            }
            let hash = hash_hex(&hash);
            match try_version(process, &plugin, &bytes) {
                Ok(module) => {
                    process.status.reloaded(&plugin, &module);
                    super::prune::prune(process);
                }
                Err(problem) => process.status.refused(&plugin, Some(&hash), &reason(&problem)),
            }
        }
    }
}

fn reason(problem: &Problem) -> String {
    match &problem.cause {
        Some(cause) => format!("{}: {cause}", problem.headline),
        None => problem.headline.clone(),
    }
}

/// Checks, compiles and tries the new version on every route that uses it, then swaps them all.
fn try_version(process: &Arc<Process>, name: &str, bytes: &[u8]) -> Result<Arc<Module>, Box<Problem>> {
    let boxed = |error: PluginError| Box::new(error.problem());
    let Some(plugin) = process.config.plugins.iter().find(|plugin| plugin.name == name) else {
        return Err(Box::new(super::failure::bug(
            "a plugin that isn't configured is watched",
        )));
    };
    let module = process.engine.load(bytes, &plugin.limits).map_err(boxed)?;
    let routes = process.config.routes.iter().enumerate();
    let users: Vec<(usize, &config::Route)> = routes
        .filter(|(_, route)| route.plugins.iter().any(|n| n == name))
        .collect();
    let mut ready = Vec::new();
    for (at, route) in &users {
        let live = process.live.of_route(*at);
        let candidate = versions(process, route, Some((name, &module)));
        let running = versions(process, route, None);
        if !plugin.allow_schema_change {
            same_shape(process, route, &running, &candidate, &live)?;
        }
        let mut chains = Vec::new();
        for _ in 0..process.config.lanes {
            let mut chain = Chain::new(&process.engine, &candidate, route.filter, Mode::Live).map_err(boxed)?;
            for relation in &live {
                chain.relation(relation).map_err(boxed)?;
            }
            chains.push(chain);
        }
        ready.push((*at, *route, chains));
    }
    process.modules.accept(name, Arc::clone(&module));
    for (at, route, chains) in ready {
        swap(process, at, route, chains);
    }
    Ok(module)
}

/// Hands the chains to the lanes of the present session and waits until it has taken over. Between sessions there is
/// none; the next one begins with the new version.
fn swap(process: &Process, at: usize, route: &config::Route, chains: Vec<Chain>) {
    let Some(lane) = process.modules.lane() else { return };
    let (done, swapped) = oneshot::channel();
    let version = chains::present(process, route);
    let swap = Swap {
        route: at,
        chains,
        version,
        done,
    };
    if lane.push_now(Input::Swap(Box::new(swap))).is_err() {
        return;
    }
    let waited = process
        .workers
        .block_on(async { tokio::time::timeout(SWAP_TIMEOUT, swapped).await });
    if let Ok(Ok(position)) = waited {
        tracing::info!(route = route_key(route), %position, "a new version of the route's plugins counts");
    }
}

/// The plugins of a route as they run, or with one of them exchanged.
fn versions(process: &Process, route: &config::Route, exchanged: Option<(&str, &Arc<Module>)>) -> Vec<PluginVersion> {
    let of_plugin = |name: &String| {
        let plugin = process.config.plugins.iter().find(|plugin| plugin.name == *name)?;
        let module = match exchanged {
            Some((other, module)) if other == name => Arc::clone(module),
            _ => process.modules.newest(name)?,
        };
        let (config, limits) = (plugin.config.clone(), plugin.limits);
        Some(PluginVersion {
            name: name.clone(),
            module,
            config,
            limits,
        })
    };
    route.plugins.iter().filter_map(of_plugin).collect()
}

/// A version whose output has another shape than the running one's is refused: the sinks were set up for that.
fn same_shape(
    process: &Process,
    route: &config::Route,
    running: &[PluginVersion],
    candidate: &[PluginVersion],
    live: &[Arc<Relation>],
) -> Result<(), Box<Problem>> {
    let boxed = |error: PluginError| Box::new(error.problem());
    let chain = |plugins| Chain::new(&process.engine, plugins, route.filter, Mode::Candidate).map_err(boxed);
    let (mut running, mut candidate) = (chain(running)?, chain(candidate)?);
    for relation in live {
        let before = shape(&running.relation(relation).map_err(boxed)?);
        let after = shape(&candidate.relation(relation).map_err(boxed)?);
        if before != after {
            return Err(Box::new(other_shape(relation)));
        }
    }
    Ok(())
}

type Shape = Vec<(String, String, Vec<(String, u32, bool)>)>;

fn shape(outcome: &ChainOutcome) -> Option<Shape> {
    let ChainOutcome::Outputs(outputs) = outcome else {
        return None;
    };
    let of = |relation: &Arc<Relation>| {
        let columns = relation
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.type_oid, column.key));
        (relation.schema.clone(), relation.table.clone(), columns.collect())
    };
    Some(outputs.iter().map(of).collect())
}

fn other_shape(relation: &Relation) -> Problem {
    use crate::problem::Exit;
    let headline = format!("the new version gives rows of {} another shape", relation.full_name());
    let help = "set `allow_schema_change: true` on the plugin once the sinks have the new columns";
    Problem::new("E0333", Exit::Plugin, headline, help)
}
