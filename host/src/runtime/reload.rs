//! From a changed file to a chain that takes over: compiled and tried beside the running one, swapped between two
//! transactions. A failure at any step leaves the running version as it is, and is told.

mod ended;
mod fits;
mod watch;

use super::chains;
use super::modules::Taken;
use super::process::Process;
use super::rehearse::rehearse;
use super::rehearse_samples::rehearse_samples;
use crate::batch::{Lsn, Relation};
use crate::checkpoint::{ChainVersion, PluginVersion as PluginRecorded, STATE_DISK_FULL, SetAside};
use crate::config;
use crate::pipeline::{Input, Swap, route_names};
use crate::plugin::{Chain, Mode, PluginError, PluginVersion};
use crate::problem::{Exit, Problem};
use fits::{same_shape, takes_state};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) use ended::probation_told;
pub(super) use watch::{watch, watch_again};

/// How long the lane may take to reach the end of the transaction under way.
const SWAP_TIMEOUT: Duration = Duration::from_secs(600);

/// Whether the version may be as good as any, and the disk is full.
pub(super) fn has_no_room(problem: &Problem) -> bool {
    matches!(problem.code, STATE_DISK_FULL | super::modules::NOT_KEPT)
}

pub(super) fn changed(process: &Arc<Process>, name: &str, bytes: &[u8], hash: &str) -> Result<(), Box<Problem>> {
    let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(running) = process.modules.newest(name) else {
        return Err(Box::new(super::failure::bug(
            "a plugin that isn't configured is watched",
        )));
    };
    // The file went back to what runs.
    if running.module.hash_hex() == hash {
        return Ok(());
    }
    let _shown = process.status.candidate(name, hash, "is compiled");
    // Again, as it may have been taken for one that nobody needs.
    let stored = process.modules.store().put(bytes);
    stored.map_err(|error| Box::new(super::modules::not_kept(&error)))?;
    let module = process
        .modules
        .module(&process.engine, hash, bytes, &running.plugin.limits)?;
    let plugin = running.plugin;
    take_up(process, Taken { module, plugin }, Trust::Probation)
}

pub(super) fn reason(problem: &Problem) -> String {
    match &problem.cause {
        Some(cause) => format!("{}: {cause}", problem.headline),
        None => problem.headline.clone(),
    }
}

/// How a version takes over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Tried first, and watched after.
    Probation,
    /// It ran before.
    Known,
}

/// Tries a version on every route that uses its plugin, then swaps them all. To be called with `changing` held.
///
/// # Errors
/// The version is refused; what runs goes on.
pub(super) fn take_up(process: &Arc<Process>, taken: Taken, trust: Trust) -> Result<(), Box<Problem>> {
    take_up_on(process, taken, trust, &|_| true)
}

/// The same, for some of the routes, by their names.
fn take_up_on(
    process: &Arc<Process>,
    taken: Taken,
    trust: Trust,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), Box<Problem>> {
    let name = taken.plugin.name.clone();
    if trust == Trust::Probation {
        let record = process.store.plugin_record(&name).map_err(Box::new)?;
        let version = process.modules.key.version(&taken);
        if let Some(aside) = record.set_aside.filter(|aside| aside.version.is_same(&version)) {
            return Err(Box::new(set_aside(&name, &aside.reason)));
        }
    }
    let before = process.modules.newest(&name);
    let hash = taken.module.hash_hex();
    let shown = process.status.candidate(&name, hash, "is tried");
    if trust == Trust::Probation {
        rehearse_samples(process, before.as_ref(), &taken)?;
    }
    loop {
        let generation = process.modules.generation();
        let ready = prepare(process, &taken, trust, wanted)?;
        if ready.is_empty() && trust == Trust::Known {
            return Ok(());
        }
        let tried = ready.iter().filter(|(_, _, swap)| swap.version.fallback.is_some());
        let tried: Vec<String> = tried.map(|(route, ..)| route.clone()).collect();
        let mut waiting = Vec::new();
        let accepted = process.modules.accept_and(taken.clone(), generation, |lane| {
            // Before any of them counts: a rollback, which comes after, is told after.
            process.status.reloaded(&name, &taken.module);
            tried.iter().for_each(|route| process.status.on_probation(&name, route));
            for (route, swapped, swap) in ready {
                let pushed = lane.is_some_and(|lane| lane.push_now(Input::Swap(Box::new(swap))).is_ok());
                if pushed {
                    waiting.push((route, swapped));
                }
            }
        });
        if !accepted {
            continue;
        }
        // It runs, or does so behind the transactions under way.
        drop(shown);
        for (route, swapped) in waiting {
            let Err(problem) = wait(process, &route, swapped) else {
                continue;
            };
            if let Some(before) = before {
                let module = Arc::clone(&before.module);
                process.modules.went_back(&process.modules.key.version(&taken), before);
                process.status.rolled_back(&name, &module);
            }
            return Err(problem);
        }
        return process.modules.prune(&process.engine, &process.store);
    }
}

/// A route's name, where its swap is told, and the swap.
type Prepared = (String, oneshot::Receiver<Result<Lsn, Box<Problem>>>, Swap);

/// Starts the version's chains for every route that uses it, and tries them.
fn prepare(
    process: &Process,
    taken: &Taken,
    trust: Trust,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Prepared>, Box<Problem>> {
    let boxed = |error: PluginError| Box::new(error.problem());
    let name = &taken.plugin.name;
    let mut ready = Vec::new();
    let config = process.config();
    let routes = config.routes.iter().zip(route_names(&config.routes)).enumerate();
    for (at, (route, route_name)) in routes {
        if !route.plugins.contains(name) || !wanted(&route_name) {
            continue;
        }
        let live = process.live.of_route(&route_name);
        let candidate: Vec<Taken> = versions(process, route, Some(taken));
        let runnable: Vec<PluginVersion> = candidate.iter().map(Taken::runnable).collect();
        let recorded = process.store.chain_versions(&route_name).map_err(Box::new)?;
        let plugins: Vec<PluginRecorded> = candidate
            .iter()
            .map(|taken| process.modules.key.version(taken))
            .collect();
        // It goes on with what it has by itself, whatever the one on probation keeps.
        let goes_back = chains::waits(&recorded, &plugins);
        if !goes_back {
            takes_state(process, &route_name, route, &runnable)?;
        }
        let is_new = trust == Trust::Probation && !goes_back;
        if is_new {
            let running: Vec<PluginVersion> = versions(process, route, None).iter().map(Taken::runnable).collect();
            if !taken.plugin.allow_schema_change {
                same_shape(process, route, &running, &runnable, &live)?;
            }
            rehearse(process, &route_name, route, &running, &runnable)?;
        }
        let chains = of_lanes(process, route, &runnable, &live).map_err(boxed)?;
        let with_entries = runnable.iter().filter(|plugin| plugin.module.manifest().has_entries());
        let with_entries: BTreeSet<String> = with_entries.map(|plugin| plugin.name.clone()).collect();
        let watched = is_new && process.config().reload.probation.0 > Duration::ZERO;
        let gives_way =
            |fallback: &Vec<PluginRecorded>| watched && chains::entries_may_wait(process, &with_entries, fallback);
        let version = ChainVersion {
            plugins,
            fallback: chains::fallback(&recorded).filter(gives_way),
            went_back: goes_back,
        };
        let (done, swapped) = oneshot::channel();
        let route = at;
        ready.push((
            route_name,
            swapped,
            Swap {
                route,
                chains,
                version,
                done,
            },
        ));
    }
    Ok(ready)
}

/// A chain for each lane, told of the live relations.
fn of_lanes(
    process: &Process,
    route: &config::Route,
    plugins: &[PluginVersion],
    live: &[Arc<Relation>],
) -> Result<Vec<Chain>, PluginError> {
    let (engine, lanes) = (&process.engine, process.config().lanes);
    let start = |lane| {
        // The first one has all rows of a route whose plugins keep something.
        let mut chain = match lane {
            0 => Chain::for_lane(engine, plugins, route.filter, Mode::Live, lanes, Vec::new())?,
            _ => Chain::new(engine, plugins, route.filter, Mode::Live)?,
        };
        for relation in live {
            chain.relation(relation)?;
        }
        Ok(chain)
    };
    let mut chains = (0..lanes).map(start).collect::<Result<Vec<_>, _>>()?;
    Chain::count_faults_together(&mut chains);
    Ok(chains)
}

/// Until the lanes have taken over. Between sessions there is none; the next one begins with the new version.
///
/// # Errors
/// It doesn't take what the running version keeps.
fn wait(
    process: &Process,
    route: &str,
    swapped: oneshot::Receiver<Result<Lsn, Box<Problem>>>,
) -> Result<(), Box<Problem>> {
    let waited = process
        .workers
        .block_on(async { tokio::time::timeout(SWAP_TIMEOUT, swapped).await });
    if let Ok(Ok(swapped)) = waited {
        let position = swapped?;
        tracing::info!(route, %position, "a new version of the route's plugins counts");
    }
    Ok(())
}

/// Goes back to the version before, and leaves the file alone until it changes.
pub(super) fn roll_back(process: &Arc<Process>, name: &str) -> Result<serde_json::Value, Box<Problem>> {
    let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(running) = process.modules.newest(name) else {
        return Err(Box::new(no_such_plugin(name)));
    };
    let present = process.modules.key.version(&running);
    let mut record = process.store.plugin_record(name).map_err(Box::new)?;
    let before = record.good.iter().rev().find(|ran| !ran.version.is_same(&present));
    let Some(before) = before.map(|ran| ran.version.clone()) else {
        return Err(Box::new(nothing_before(name)));
    };
    let taken = process.modules.revive(&process.engine, &running.plugin, &before)?;
    let as_it_was = record.clone();
    // First: after a crash in between the file isn't taken up either.
    record.good.retain(|ran| !ran.version.is_same(&present));
    record.set_aside = Some(SetAside {
        version: present.clone(),
        reason: "somebody went back to the version before it".to_owned(),
        since: now(),
    });
    process.store.put_plugin_record(name, &record).map_err(Box::new)?;
    if let Err(problem) = take_up(process, taken, Trust::Known) {
        let running = process.modules.newest(name);
        let goes_on = running.is_some_and(|running| process.modules.key.version(&running).is_same(&present));
        // Or the next start would take the version that can't be gone back to.
        if goes_on && let Err(unwritten) = process.store.put_plugin_record(name, &as_it_was) {
            let code = unwritten.code;
            tracing::error!(
                code,
                plugin = name,
                "the way back was refused, and the next start takes it: {}",
                unwritten.headline
            );
        }
        return Err(problem);
    }
    process.status.note_refused(
        name,
        Some(&present.module),
        "somebody went back to the version before it",
    );
    Ok(serde_json::json!({ "plugin": name, "running": before.module, "set_aside": present.module }))
}

/// The plugins of a route as they run, or with one of them exchanged.
fn versions(process: &Process, route: &config::Route, exchanged: Option<&Taken>) -> Vec<Taken> {
    let of_plugin = |name: &String| match exchanged {
        Some(taken) if taken.plugin.name == *name => Some(taken.clone()),
        _ => process.modules.newest(name),
    };
    route.plugins.iter().filter_map(of_plugin).collect()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn no_such_plugin(name: &str) -> Problem {
    let headline = format!("no plugin is called `{name}`");
    Problem::new(
        "E0338",
        Exit::Usage,
        headline,
        "name one that `rowmill plugin list` shows",
    )
}

fn nothing_before(name: &str) -> Problem {
    let headline = format!("plugin `{name}` has no version before the one that runs");
    let help = "put the module that you want in the place of the plugin's file";
    Problem::new("E0339", Exit::Usage, headline, help)
}

fn set_aside(name: &str, reason: &str) -> Problem {
    let headline = format!("this version of plugin `{name}` was set aside");
    let help = "mend the plugin and build it again: another file, or another config, is tried";
    Problem::new("E0337", Exit::Plugin, headline, help).with_cause(reason)
}
