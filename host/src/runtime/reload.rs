//! From a changed file to a chain that takes over: compiled and tried beside the running one, swapped between two
//! transactions. A failure at any step leaves the running version as it is, and is told.

use super::chains;
use super::modules::{Taken, short};
use super::process::Process;
use super::rehearse::rehearse;
use super::rehearse_samples::rehearse_samples;
use super::states::{States, state_name};
use crate::batch::{Lsn, Relation};
use crate::checkpoint::{ChainVersion, PluginVersion as PluginRecorded, SetAside};
use crate::config;
use crate::pipeline::{Input, ProbationEnd, ProbationTold, Swap, route_key};
use crate::plugin::reload::{ModuleWatcher, ReloadEvent, WatchSettings, WatchedPlugin, hash_hex};
use crate::plugin::{Chain, ChainOutcome, Mode, PluginError, PluginVersion};
use crate::problem::{Exit, Problem};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the lane may take to reach the end of the transaction under way.
const SWAP_TIMEOUT: Duration = Duration::from_secs(600);

/// Watches the plugins' files for as long as the result lives.
pub(super) fn watch(process: &Arc<Process>) -> std::io::Result<ModuleWatcher> {
    let config = &process.config();
    let plugins = config.plugins.iter().map(|plugin| WatchedPlugin {
        name: plugin.name.clone(),
        module: plugin.module.clone(),
        running: process.modules.newest(&plugin.name).map(|taken| taken.module.hash()),
        limit: plugin.limits.module.0,
    });
    let settings = WatchSettings {
        settle: config.reload.settle.0,
        interval: config.reload.interval.0,
        root: Some(config.base_dir.clone()),
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

/// Watches the files of the plugins that there are now, in place of those that were there before. Does nothing where the
/// pipeline has ended.
pub(super) fn watch_again(process: &Arc<Process>) {
    let Some(watcher) = process.watcher.get().and_then(Weak::upgrade) else {
        return;
    };
    match watch(process) {
        Ok(watching) => {
            let before = watcher.lock().unwrap_or_else(PoisonError::into_inner).replace(watching);
            // Its thread may wait for the lock of changes that is held here.
            std::thread::spawn(move || drop(before));
        }
        Err(error) => tracing::warn!(%error, "the plugins' files can't be watched: changes of new ones aren't seen"),
    }
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
            let hash = hash_hex(&hash);
            if let Err(problem) = changed(process, &plugin, &bytes, &hash) {
                process.status.refused(&plugin, Some(&hash), &reason(&problem));
            }
        }
    }
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

/// The same, for some of the routes, by their keys.
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
    if trust == Trust::Probation {
        rehearse_samples(process, before.as_ref(), &taken)?;
    }
    loop {
        let generation = process.modules.generation();
        let ready = prepare(process, &taken, trust, wanted)?;
        if ready.is_empty() && trust == Trust::Known {
            return Ok(());
        }
        let on_probation = ready.iter().any(|(_, _, swap)| swap.version.fallback.is_some());
        let mut waiting = Vec::new();
        let accepted = process.modules.accept_and(taken.clone(), generation, |lane| {
            // Before any of them counts: a rollback, which comes after, is told after.
            process.status.reloaded(&name, &taken.module);
            process.status.on_probation(&name, on_probation);
            for (key, swapped, swap) in ready {
                let pushed = lane.is_some_and(|lane| lane.push_now(Input::Swap(Box::new(swap))).is_ok());
                if pushed {
                    waiting.push((key, swapped));
                }
            }
        });
        if !accepted {
            continue;
        }
        for (key, swapped) in waiting {
            let Err(problem) = wait(process, &key, swapped) else {
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

/// A route's key, where its swap is told, and the swap.
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
    for (at, route) in process.config().routes.iter().enumerate() {
        if !route.plugins.contains(name) || !wanted(&route_key(route)) {
            continue;
        }
        let live = process.live.of_route(at);
        let candidate: Vec<Taken> = versions(process, route, Some(taken));
        let runnable: Vec<PluginVersion> = candidate.iter().map(Taken::runnable).collect();
        let key = route_key(route);
        let recorded = process.store.chain_versions(&key).map_err(Box::new)?;
        let plugins: Vec<PluginRecorded> = candidate
            .iter()
            .map(|taken| process.modules.key.version(taken))
            .collect();
        if trust == Trust::Probation || !chains::waits(&recorded, &plugins) {
            takes_state(process, at, route, &runnable)?;
        }
        if trust == Trust::Probation {
            let running: Vec<PluginVersion> = versions(process, route, None).iter().map(Taken::runnable).collect();
            if !taken.plugin.allow_schema_change {
                same_shape(process, route, &running, &runnable, &live)?;
            }
            rehearse(process, at, route, &running, &runnable)?;
        }
        let chains = of_lanes(process, route, &runnable, &live).map_err(boxed)?;
        let has_entries = runnable.iter().any(|plugin| plugin.module.manifest().has_entries());
        let watched = trust == Trust::Probation && process.config().reload.probation.0 > Duration::ZERO && !has_entries;
        let gives_way = |fallback: &Vec<PluginRecorded>| watched && !chains::have_entries(process, fallback);
        let version = ChainVersion {
            plugins,
            fallback: chains::fallback(&recorded).filter(gives_way),
        };
        let (done, swapped) = oneshot::channel();
        let route = at;
        ready.push((
            key,
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
    (0..lanes).map(start).collect()
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
    // First: after a crash in between the file isn't taken up either.
    record.good.retain(|ran| !ran.version.is_same(&present));
    record.set_aside = Some(SetAside {
        version: present.clone(),
        reason: "somebody went back to the version before it".to_owned(),
        since: now(),
    });
    process.store.put_plugin_record(name, &record).map_err(Box::new)?;
    take_up(process, taken, Trust::Known)?;
    process.status.note_refused(
        name,
        Some(&present.module),
        "somebody went back to the version before it",
    );
    Ok(serde_json::json!({ "plugin": name, "running": before.module, "set_aside": present.module }))
}

/// What the lanes call where a probation has ended.
pub(super) fn probation_told(process: &Arc<Process>) -> ProbationTold {
    // The lanes end before the process does; a reference both ways would keep both.
    let process = Arc::downgrade(process);
    Arc::new(move |route, end| {
        if let Some(process) = process.upgrade() {
            probation_ended(&process, route, end);
        }
    })
}

fn probation_ended(process: &Arc<Process>, route: usize, end: &ProbationEnd) {
    let all = process.config();
    let config = &all.routes[route];
    let route = route_key(config);
    match end {
        ProbationEnd::Replaced => {}
        ProbationEnd::Passed => {
            for plugin in &config.plugins {
                process.status.on_probation(plugin, false);
            }
            tracing::info!(route, "the new version of the route's plugins has passed its probation");
        }
        ProbationEnd::RolledBack {
            from,
            gone,
            plugins,
            set_aside,
        } => {
            for aside in set_aside {
                let (plugin, candidate) = (&aside.version.name, short(&aside.version.module));
                tracing::warn!(
                    plugin,
                    candidate,
                    route,
                    %from,
                    reason = aside.reason,
                    "the new version broke on its probation and is set aside until its file or config changes; \
                     the version before runs again"
                );
            }
            if set_aside.is_empty() {
                tracing::warn!(
                    route,
                    %from,
                    "a plugin of the route broke in another route on its probation; the version before runs again"
                );
            }
            for (gone, before) in gone.iter().zip(plugins).filter(|(gone, before)| !gone.is_same(before)) {
                let Some(present) = process.modules.newest(&gone.name) else {
                    continue;
                };
                match process.modules.revive(&process.engine, &present.plugin, before) {
                    Ok(before) => {
                        let module = Arc::clone(&before.module);
                        process.modules.went_back(gone, before);
                        process.status.rolled_back(&gone.name, &module);
                    }
                    Err(problem) => tracing::error!(code = problem.code, plugin = gone.name, "{}", problem.headline),
                }
            }
            for aside in set_aside {
                let (name, hash) = (&aside.version.name, &aside.version.module);
                process.status.note_refused(name, Some(hash), &aside.reason);
                put_back_elsewhere(process, aside.version.clone());
            }
        }
    }
}

/// Routes in which the bad version has passed its probation already go back as well. Not on the lane's thread, which
/// whoever holds `changing` may wait for.
fn put_back_elsewhere(process: &Arc<Process>, bad: PluginRecorded) {
    let of_thread = Arc::clone(process);
    let work = move || {
        let process = of_thread;
        let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = process.modules.newest(&bad.name) else {
            return;
        };
        if process.modules.key.version(&before).is_same(&bad) {
            return;
        }
        let runs_it = |route: &str| {
            let recorded = process.store.chain_versions(route).unwrap_or_default();
            let last = recorded.last();
            last.is_some_and(|(_, last)| last.plugins.iter().any(|plugin| plugin.is_same(&bad)))
        };
        if let Err(problem) = take_up_on(&process, before, Trust::Known, &runs_it) {
            tracing::error!(code = problem.code, plugin = bad.name, "{}", problem.headline);
        }
    };
    let thread = std::thread::Builder::new().name("put-back".to_owned());
    if let Err(error) = thread.spawn(work) {
        tracing::error!(%error, "other routes keep the version that was set aside until the next start");
    }
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

/// A version that doesn't take what is stored is refused before anything is swapped.
fn takes_state(
    process: &Process,
    at: usize,
    route: &config::Route,
    candidate: &[PluginVersion],
) -> Result<(), Box<Problem>> {
    if !candidate.iter().any(|plugin| plugin.module.manifest().keeps_state()) {
        return Ok(());
    }
    let kept = States::load(process)?.of_chain(&state_name(&process.config().routes, at), candidate);
    Chain::for_lane(&process.engine, candidate, route.filter, Mode::Candidate, 1, kept)
        .map(drop)
        .map_err(|error| Box::new(error.problem()))
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
    let headline = format!("the new version gives rows of {} another shape", relation.full_name());
    let help = "set `allow_schema_change: true` on the plugin once the sinks have the new columns";
    Problem::new("E0333", Exit::Plugin, headline, help)
}
