//! pipeline.yaml is read again, by SIGHUP or `rowmill reload`: what differs is told first, and taken up as a whole or not
//! at all.
//!
//! ```text
//!   load --> differences --> may they be taken up? --> plugins, source and sinks would take it --> another session
//!    |                          |                          |
//!    +--------------------------+--------------------------+--> told; the pipeline goes on as it was
//! ```
//!
//! Everything that a start would refuse is looked at beforehand, beside the running stream. Then the session ends in
//! order, and the next one begins with the new configuration at the stored position, unless the running one can take up
//! what is different by itself (`live_settings`).

use super::live_settings::{self, Live};
use super::modules::Taken;
use super::process::Process;
use super::reload::Trust;
use super::{check, detach, reload, routes};
use crate::config::{self, Pipeline, Plugin, Route, Sink, SinkKind, Source};
use crate::pipeline::route_names;
use crate::plugin::Module;
use crate::problem::{Exit, Problem};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Takes up the file as it is now, and says what was different. Blocks; not to be called on a runtime's thread.
///
/// # Errors
/// Everything that stands in the way. Nothing has changed then.
pub(super) fn reconfigure(process: &Arc<Process>) -> Result<Value, Vec<Problem>> {
    let outcome = take_up(process);
    match &outcome {
        Ok(changes) if changes.is_empty() => tracing::info!("pipeline.yaml was read again: nothing is different"),
        Ok(_) => {}
        Err(problems) => {
            for problem in problems {
                let (code, cause, help) = (problem.code, &problem.cause, &problem.help);
                tracing::warn!(code, cause, help, "pipeline.yaml isn't taken up: {}", problem.headline);
            }
        }
    }
    outcome.map(|changes| json!({ "pipeline": process.name, "changes": changes }))
}

fn take_up(process: &Arc<Process>) -> Result<Vec<String>, Vec<Problem>> {
    let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let running = process.config();
    let mut fresh = config::load(&running.file)?;
    routes::know(&mut fresh, &process.store).map_err(|problem| vec![problem])?;
    let fresh = detach::without(fresh, &process.store).map_err(|problem| vec![problem])?;
    let changes = differences(process, &running, &fresh);
    for change in &changes {
        tracing::info!(change, "pipeline.yaml is different");
    }
    let fixed = fixed(&running, &fresh);
    if !fixed.is_empty() {
        return Err(vec![needs_restart(&fixed)]);
    }
    if changes.is_empty() {
        return Ok(changes);
    }
    let taken = plugins(process, &fresh)?;
    let modules: HashMap<&str, &Arc<Module>> = taken
        .iter()
        .map(|taken| (taken.plugin.name.as_str(), &taken.module))
        .collect();
    let module = |name: &str| modules.get(name).map(|module| Arc::clone(module));
    let problems = process.workers.block_on(check::beside(process, &fresh, module));
    if !problems.is_empty() {
        return Err(problems);
    }
    match live_settings::of(&running, &fresh, &changes, &taken) {
        Some(live) => take_up_live(process, fresh, taken, live)?,
        None => {
            process.settings.fetch_add(1, Ordering::AcqRel);
            apply(process, fresh, taken);
            process.begin_again("pipeline.yaml has changed");
        }
    }
    Ok(changes)
}

/// The running session goes on with the new file.
///
/// # Errors
/// The plugin that has changed is refused. Nothing has changed then.
fn take_up_live(
    process: &Arc<Process>,
    fresh: Pipeline,
    mut taken: Vec<Taken>,
    mut live: Live,
) -> Result<(), Vec<Problem>> {
    if let Some(plugin) = live.plugin.take() {
        // What is taken up is its own business from here on: it may be on probation, and go back.
        taken.retain(|other| other.plugin.name != plugin.plugin.name);
        reload::take_up(process, plugin, Trust::Probation).map_err(|problem| vec![*problem])?;
    }
    apply(process, fresh, taken);
    live_settings::hand_over(process, live);
    Ok(())
}

/// From here on nothing fails.
fn apply(process: &Arc<Process>, fresh: Pipeline, taken: Vec<Taken>) {
    let names: Vec<String> = fresh.plugins.iter().map(|plugin| plugin.name.clone()).collect();
    process.modules.retain(&names);
    process.status.retain(&names);
    for taken in taken {
        let before = process.modules.newest(&taken.plugin.name);
        if before.is_none_or(|before| before.module.hash_hex() != taken.module.hash_hex()) {
            process.status.runs(&taken.plugin.name, &taken.module);
        }
        process.modules.accept(taken);
    }
    process.pace.set_rate(fresh.source.snapshot.rows_per_second);
    process.set_config(fresh);
    process.recent.clear();
    reload::watch_again(process);
}

/// Each plugin of the new file as it is to run: as it does, unless the file says otherwise.
fn plugins(process: &Process, fresh: &Pipeline) -> Result<Vec<Taken>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut taken = Vec::new();
    for plugin in &fresh.plugins {
        let running = process.modules.newest(&plugin.name);
        match running.filter(|running| running.plugin.module == plugin.module) {
            Some(running) => taken.push(Taken {
                module: running.module,
                plugin: Arc::new(plugin.clone()),
            }),
            None => match process.modules.of_file(&process.engine, plugin, &process.store) {
                Ok(of_file) => taken.push(of_file),
                Err(problem) => problems.push(*problem),
            },
        }
    }
    match problems.is_empty() {
        true => Ok(taken),
        false => Err(problems),
    }
}

/// What is different, for people. No secret and nothing of a plugin's config is part of it.
fn differences(process: &Process, running: &Pipeline, fresh: &Pipeline) -> Vec<String> {
    let mut changes: Vec<String> = fixed(running, fresh).iter().map(|what| format!("~ {what}")).collect();
    let tables = |config: &Pipeline| {
        config
            .source
            .tables
            .iter()
            .map(|table| (table.to_string(), ()))
            .collect::<Vec<_>>()
    };
    compare("table", &tables(running), &tables(fresh), &mut changes, |(), ()| true);
    let routes = |config: &Pipeline| {
        let names = route_names(&config.routes).into_iter();
        names.zip(config.routes.iter().cloned()).collect::<Vec<_>>()
    };
    let same_route = |one: &Route, other: &Route| format!("{one:?}") == format!("{other:?}");
    compare("route", &routes(running), &routes(fresh), &mut changes, same_route);
    let plugins = |config: &Pipeline| {
        config
            .plugins
            .iter()
            .map(|plugin| (plugin.name.clone(), plugin.clone()))
            .collect::<Vec<_>>()
    };
    let same_plugin = |_: &Plugin, fresh: &Plugin| {
        let running = process.modules.newest(&fresh.name);
        running.is_some_and(|running| {
            let running = &running.plugin;
            let settings = |plugin: &Plugin| format!("{plugin:?} {:?} {:?}", plugin.samples, plugin.policies);
            settings(running) == settings(fresh)
                && running.config == fresh.config
                && running.allow_schema_change == fresh.allow_schema_change
        })
    };
    compare("plugin", &plugins(running), &plugins(fresh), &mut changes, same_plugin);
    let sinks = |config: &Pipeline| {
        let sinks = config.sinks.iter();
        sinks
            .map(|sink| (sink.name.clone(), format!("{sink:?}")))
            .collect::<Vec<_>>()
    };
    compare("sink", &sinks(running), &sinks(fresh), &mut changes, |one, other| {
        one == other
    });
    let settings = [
        ("lanes", running.lanes.to_string(), fresh.lanes.to_string()),
        (
            "drain_timeout",
            format!("{:?}", running.drain_timeout),
            format!("{:?}", fresh.drain_timeout),
        ),
        ("reload", format!("{:?}", running.reload), format!("{:?}", fresh.reload)),
    ];
    let of_source = of_source(&running.source).into_iter().zip(of_source(&fresh.source));
    let of_source = of_source.map(|((name, running), (_, fresh))| (name, running, fresh));
    let settings = of_source.chain(settings);
    let changed = settings.filter(|(_, running, fresh)| running != fresh);
    changes.extend(changed.map(|(name, ..)| format!("~ {name}")));
    changes
}

/// What the next session takes up of the source. A key that comes has to be told here or in [`fixed`].
fn of_source(source: &Source) -> [(&'static str, String); 9] {
    let Source {
        url: _,
        tables: _,
        publication: _,
        slot: _,
        two_phase: _,
        // Of the next start.
        takeover: _,
        on_wal_pressure,
        snapshot,
        stream_transactions,
        decoding_memory,
        spill,
        binary,
        max_row,
        failover_slot,
        heartbeat,
    } = source;
    [
        ("source.postgres.snapshot", format!("{snapshot:?}")),
        ("source.postgres.stream_transactions", stream_transactions.to_string()),
        ("source.postgres.decoding_memory", format!("{decoding_memory:?}")),
        ("source.postgres.spill", format!("{spill:?}")),
        ("source.postgres.binary", binary.to_string()),
        ("source.postgres.max_row", format!("{max_row:?}")),
        ("source.postgres.failover_slot", format!("{failover_slot:?}")),
        ("source.postgres.on_wal_pressure", format!("{on_wal_pressure:?}")),
        ("source.postgres.heartbeat", format!("{heartbeat:?}")),
    ]
}

/// `+` what has come, `-` what has gone, `~` what is another now.
fn compare<T>(
    kind: &str,
    running: &[(String, T)],
    fresh: &[(String, T)],
    changes: &mut Vec<String>,
    is_same: impl Fn(&T, &T) -> bool,
) {
    for (name, value) in fresh {
        match running.iter().find(|(known, _)| known == name) {
            None => changes.push(format!("+ {kind} {name}")),
            Some((_, before)) if !is_same(before, value) => changes.push(format!("~ {kind} {name}")),
            Some(_) => {}
        }
    }
    let gone = running
        .iter()
        .filter(|(name, _)| !fresh.iter().any(|(known, _)| known == name));
    changes.extend(gone.map(|(name, _)| format!("- {kind} {name}")));
}

/// What is different and can't be taken up while the pipeline runs.
fn fixed(running: &Pipeline, fresh: &Pipeline) -> Vec<&'static str> {
    let (before, after) = (&running.source, &fresh.source);
    let letters = |config: &Pipeline| format!("{:?}", config.dead_letters);
    let differ = [
        ("name", running.name != fresh.name),
        ("source.postgres.url", before.url != after.url),
        ("source.postgres.publication", before.publication != after.publication),
        ("source.postgres.slot", before.slot != after.slot),
        ("source.postgres.two_phase", before.two_phase != after.two_phase),
        (
            "source.postgres.snapshot.mode",
            before.snapshot.mode != after.snapshot.mode,
        ),
        ("a sink's target", has_moved(&running.sinks, &fresh.sinks)),
        ("state_dir", running.state_dir != fresh.state_dir),
        ("console", running.console.listen != fresh.console.listen),
        ("dead_letters", letters(running) != letters(fresh)),
    ];
    let differ = differ.into_iter().filter(|(_, differ)| *differ);
    differ.map(|(name, _)| name).collect()
}

/// Whether a sink of both has another target: what it has isn't there, and what is there isn't its own.
fn has_moved(running: &[Sink], fresh: &[Sink]) -> bool {
    let same_name = |one: &Sink| fresh.iter().find(|other| other.name == one.name);
    running
        .iter()
        .any(|one| same_name(one).is_some_and(|other| sink(one) != sink(other)))
}

/// What makes a sink this one: its name, kind and target. How it writes may change with each session.
fn sink(sink: &Sink) -> (&str, Option<&config::Secret>, Option<&Path>, bool) {
    let (url, path) = match &sink.kind {
        SinkKind::Postgres(postgres) => (Some(&postgres.url), None),
        SinkKind::File(file) => (None, Some(file.path.as_path())),
        SinkKind::Stdout | SinkKind::Discard => (None, None),
    };
    (sink.name.as_str(), url, path, matches!(sink.kind, SinkKind::Stdout))
}

fn needs_restart(what: &[&str]) -> Problem {
    let headline = match what {
        [one] => format!("{one} can't change while the pipeline runs"),
        several => format!("{} settings can't change while the pipeline runs", several.len()),
    };
    let help = match what {
        ["a sink's target"] => "give the sink of the other target another name: it gets a copy of its own",
        _ => "stop the host and start it with the file, or take the change back",
    };
    Problem::new("E0341", Exit::Usage, headline, help).with_cause(format!("different: {}", what.join(", ")))
}
