//! Which version of which plugin a route's rows go through, now and, after a crash, for what is sent again.
//!
//! Recorded versions count from the position they were recorded with. A start takes the newest one at or before its
//! own position, and gives the lanes the later ones with their positions. Where the files have changed since, the new
//! version counts from where the server's WAL ends now: everything before it may have been delivered already, by the
//! recorded one. It is on probation then, as after a reload; so is one whose probation the last run didn't see ended.

use super::modules;
use super::process::Process;
use super::states::{OfRoute, States};
use crate::batch::Lsn;
use crate::checkpoint::{ChainVersion, PluginVersion, same_plugins};
use crate::config;
use crate::pipeline::{LaneChain, LaneVersion, Later, Probation, RouteParts, Waiting, route_names};
use crate::plugin::{Chain, Faults, Mode};
use crate::problem::Problem;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of the probation that a session begins with.
const FIRST: u64 = 0;

/// The routes as a pipeline that starts at `start` runs them. `flushed` is where the server's WAL ends now.
pub(super) fn routes(process: &Process, start: Lsn, flushed: Lsn) -> Result<Vec<RouteParts>, Box<Problem>> {
    let config = process.config();
    super::routes::begin(process, &config, start)?;
    let routes = &config.routes;
    let kept = States::load(process)?;
    kept.report(process);
    let names = route_names(routes);
    let of_route = |(route, name): (_, &String)| of_route(process, route, name, &kept, start, flushed);
    routes.iter().zip(&names).map(of_route).collect()
}

fn of_route(
    process: &Process,
    route: &config::Route,
    name: &str,
    kept: &States,
    start: Lsn,
    flushed: Lsn,
) -> Result<RouteParts, Box<Problem>> {
    let sink_at = |name: &String| process.config().sinks.iter().position(|sink| sink.name == *name);
    let sinks = route.sinks.iter().filter_map(sink_at).collect();
    let mut parts = RouteParts {
        config: Arc::new(route.clone()),
        lanes: Vec::new(),
        waiting: None,
        sinks,
    };
    let recorded = recorded(process, route, name, start, flushed)?;
    let Some((last_from, last)) = recorded.last() else {
        return Ok(parts);
    };
    let (trusted, candidate) = match &last.fallback {
        Some(fallback) if process.config().reload.probation.0 > std::time::Duration::ZERO => {
            (&recorded[..recorded.len() - 1], Some((*last_from, last, fallback)))
        }
        _ => (&recorded[..], None),
    };
    let began = candidate.is_some_and(|(from, ..)| from <= start);
    let mut starter = Starter {
        process,
        route,
        faults: Vec::new(),
    };
    for at in 0..process.config().lanes {
        // What is kept goes to the version at the start, in the lane that all rows of a stateful route take; from there it
        // is handed on.
        let kept = (at == 0).then(|| kept.of_route(name));
        // Where it has begun, what the route keeps is its own.
        let mut lane = match began {
            true => LaneChain::default(),
            false => starter.lane(trusted, start, kept.as_ref())?,
        };
        if let Some((from, version, fallback)) = candidate {
            // The version before may be recorded no more: all of it has been acknowledged.
            if lane.chain.is_none() {
                lane.version.plugins.clone_from(fallback);
                let before = kept
                    .as_ref()
                    .map(|kept| if began { kept.before() } else { kept.clone() });
                lane.chain = Some(starter.chain(fallback, before.as_ref())?);
            }
            let own = kept
                .as_ref()
                .map(|kept| if began { kept.clone() } else { kept.without() });
            let candidate = starter.chain(&version.plugins, own.as_ref())?;
            let version = LaneVersion {
                from,
                plugins: version.plugins.clone(),
            };
            match at {
                0 if began => {
                    let fallback_plugins = std::mem::replace(&mut lane.version, version).plugins;
                    let before = lane.chain.replace(candidate);
                    lane.probation = Some(Probation::new(FIRST, before, fallback_plugins));
                }
                0 => lane.later.push_back(Later {
                    chain: candidate,
                    version,
                    probation: Some(FIRST),
                    follows: false,
                }),
                _ => {
                    let chains = Vec::new();
                    let waiting = parts.waiting.get_or_insert(Waiting { version, chains });
                    waiting.chains.push(candidate);
                }
            }
        }
        parts.lanes.push(lane);
    }
    if let Some((_, version, fallback)) = candidate {
        let is_new = |plugin: &&PluginVersion| !fallback.iter().any(|before| before.is_same(plugin));
        let new = version.plugins.iter().filter(is_new);
        new.for_each(|plugin| process.status.on_probation(&plugin.name, name));
    }
    if let (Some((from, version, _)), None) = (candidate, &parts.waiting) {
        // With one lane nobody waits, and the intake has to know of the probation all the same.
        let plugins = version.plugins.clone();
        parts.waiting = Some(Waiting {
            version: LaneVersion { from, plugins },
            chains: Vec::new(),
        });
    }
    Ok(parts)
}

/// What is recorded of the route, with what the files and the configuration make now as the last. A route without
/// plugins counts as a version too, once it had some.
fn recorded(
    process: &Process,
    route: &config::Route,
    name: &str,
    start: Lsn,
    flushed: Lsn,
) -> Result<Vec<(Lsn, ChainVersion)>, Box<Problem>> {
    let mut recorded = process.store.chain_versions(name).map_err(Box::new)?;
    let mut present = present(process, route);
    if recorded.is_empty() && present.plugins.is_empty()
        || recorded.last().is_some_and(|(_, last)| last.is_same(&present))
    {
        return Ok(recorded);
    }
    let from = if recorded.is_empty() { start } else { flushed.max(start) };
    present.went_back = waits(&recorded, &present.plugins);
    if !present.went_back && process.config().reload.probation.0 > std::time::Duration::ZERO {
        let own = with_entries(process, &present.plugins);
        let gives_way = |fallback: &Vec<PluginVersion>| {
            may_give_way(&present.plugins, fallback)
                && own.as_ref().is_some_and(|own| entries_may_wait(process, own, fallback))
        };
        present.fallback = fallback(&recorded).filter(gives_way);
    }
    process
        .store
        .begin_chain(name, from, &present, super::reload::now())
        .map_err(Box::new)?;
    recorded.retain(|(other, _)| *other != from);
    recorded.push((from, present));
    Ok(recorded)
}

/// Whether the version before may wait, as to its entries by key: it has a view of its own of them for as long as it does.
/// That takes that both versions use them, and no other route does, since they are one thing for all routes.
pub(super) fn entries_may_wait(process: &Process, own: &BTreeSet<String>, fallback: &[PluginVersion]) -> bool {
    let config = process.config();
    let routes = |name: &String| {
        config
            .routes
            .iter()
            .filter(|route| route.plugins.contains(name))
            .count()
    };
    with_entries(process, fallback).is_some_and(|before| before == *own) && own.iter().all(|name| routes(name) == 1)
}

/// The plugins that use entries by key; `None` where one of them can't be started, and so can't be gone back to.
fn with_entries(process: &Process, plugins: &[PluginVersion]) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for plugin in plugins {
        let found = process.modules.recorded(&process.engine, plugin).ok()?;
        if found.module.manifest().has_entries() {
            names.insert(plugin.name.clone());
        }
    }
    Some(names)
}

/// What a version that takes over now gives way to: what runs, or what that one gives way to itself.
pub(super) fn fallback(recorded: &[(Lsn, ChainVersion)]) -> Option<Vec<PluginVersion>> {
    let (_, last) = recorded.last()?;
    Some(last.fallback.clone().unwrap_or_else(|| last.plugins.clone()))
}

/// Whether these are what waits for the end of a probation: then they have a state of their own.
pub(super) fn waits(recorded: &[(Lsn, ChainVersion)], plugins: &[PluginVersion]) -> bool {
    let fallback = recorded.last().and_then(|(_, last)| last.fallback.as_ref());
    fallback.is_some_and(|fallback| same_plugins(fallback, plugins))
}

/// Only another version of the same plugins: one that was put in or taken out is the user's word.
fn may_give_way(plugins: &[PluginVersion], fallback: &[PluginVersion]) -> bool {
    let names = |versions: &[PluginVersion]| versions.iter().map(|version| version.name.clone()).collect::<Vec<_>>();
    !plugins.is_empty() && names(plugins) == names(fallback)
}

/// Starts the chains of a route's lanes.
struct Starter<'a> {
    process: &'a Process,
    route: &'a config::Route,
    /// By version: where its plugins count their faults, in whichever lane.
    faults: Vec<(Vec<PluginVersion>, Faults)>,
}

impl Starter<'_> {
    fn lane(
        &mut self,
        recorded: &[(Lsn, ChainVersion)],
        start: Lsn,
        kept: Option<&OfRoute<'_>>,
    ) -> Result<LaneChain, Box<Problem>> {
        let mut lane = LaneChain::default();
        let first = modules::at(recorded, start);
        for (at, (from, version)) in recorded.iter().enumerate().skip(first) {
            let follows = at > first && goes_back(&recorded[at - 1].1, version);
            let kept = match (at - first, follows) {
                (0, _) if version.went_back => kept.map(OfRoute::before),
                (0, _) => kept.cloned(),
                (1, true) => kept.map(OfRoute::before),
                // It is given what it goes on with where it begins.
                _ => kept.map(OfRoute::without),
            };
            let mut chain = self.chain(&version.plugins, kept.as_ref())?;
            if at == first && version.went_back {
                chain.step_in(false);
            }
            let version = LaneVersion {
                from: *from,
                plugins: version.plugins.clone(),
            };
            if lane.chain.is_none() {
                lane.chain = Some(chain);
                lane.version = version;
            } else {
                let probation = None;
                lane.later.push_back(Later {
                    chain,
                    version,
                    probation,
                    follows,
                });
            }
        }
        Ok(lane)
    }

    /// Starts the plugins of a version, with what they keep where they take it up.
    fn chain(&mut self, recorded: &[PluginVersion], kept: Option<&OfRoute<'_>>) -> Result<Chain, Box<Problem>> {
        let (process, filter) = (self.process, self.route.filter);
        let version = |recorded| process.modules.recorded(&process.engine, recorded);
        let plugins = recorded.iter().map(version).collect::<Result<Vec<_>, _>>()?;
        let started = match kept {
            Some(kept) => {
                let (threads, kept) = (process.config().lanes, kept.of_chain(&plugins));
                Chain::for_lane(&process.engine, &plugins, filter, Mode::Live, threads, kept)
            }
            None => Chain::new(&process.engine, &plugins, filter, Mode::Live),
        };
        let mut chain = started.map_err(|error| Box::new(error.problem()))?;
        match self.faults.iter().find(|(of, _)| same_plugins(of, recorded)) {
            Some((_, faults)) => chain.count_faults_in(faults),
            None => self.faults.push((recorded.to_vec(), chain.faults())),
        }
        Ok(chain)
    }
}

/// Whether a version was rolled back: it was on probation, and the next one is what it gave way to.
fn goes_back(version: &ChainVersion, next: &ChainVersion) -> bool {
    let fallback = version.fallback.as_ref().filter(|_| next.fallback.is_none());
    fallback.is_some_and(|fallback| same_plugins(fallback, &next.plugins))
}

/// The version that the files and the configuration make now.
pub(super) fn present(process: &Process, route: &config::Route) -> ChainVersion {
    let of_plugin = |name: &String| Some(process.modules.key.version(&process.modules.newest(name)?));
    ChainVersion {
        plugins: route.plugins.iter().filter_map(of_plugin).collect(),
        ..ChainVersion::default()
    }
}
