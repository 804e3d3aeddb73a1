//! Which route is which: a file has no names for them, and what is stored of one must not be taken for another's.
//!
//! A route is known by its tables. Several with the same tables are told apart by what each session notes of its routes: where
//! the file lists them in another order, or one of them has gone, each is still found by its sinks and plugins. A
//! route that nothing is found for begins anew, under a name that none has had.
//!
//! What was recorded before a sink came to a route isn't for that sink: rows that are still to be sent would reach it through plugins that
//! the file didn't have when it named the sink. So where one has come, the route's recorded versions are let go, the one that waits for
//! the end of a probation too.

use super::chains;
use super::modules;
use super::process::Process;
use crate::batch::Lsn;
use crate::checkpoint::{ChainVersion, KnownRoute, StateStore};
use crate::config::{Pipeline, Route};
use crate::dead_letter;
use crate::pipeline::{route_key, route_names};
use crate::problem::Problem;

/// Looks up under which names what belongs to the file's routes is stored.
///
/// # Errors
/// A state that can't be read.
pub fn know(config: &mut Pipeline, store: &StateStore) -> Result<(), Problem> {
    let names = names(&config.routes, &store.known_routes()?);
    for (route, name) in config.routes.iter_mut().zip(names) {
        route.known_as = Some(name);
    }
    Ok(())
}

/// A session with this file begins, and the stream at `start`: notes its routes. Where a sink has come to one, what that route sends from
/// here on goes through the plugins that the file has now.
pub(super) fn begin(process: &Process, config: &Pipeline, start: Lsn) -> Result<(), Box<Problem>> {
    let known = process.store.known_routes()?;
    let routes = config.routes.iter().zip(route_names(&config.routes));
    let fresh: Vec<KnownRoute> = routes.map(|(route, name)| of_route(route, name)).collect();
    for (route, fresh) in config.routes.iter().zip(&fresh) {
        // Nothing is known of the routes of an older version's sessions.
        if !known.is_empty() && sinks_have_come(fresh, &known) {
            let_go(process, route, &fresh.name, start)?;
        }
    }
    let noted = noted(fresh, &known);
    if noted != known {
        process.store.set_known_routes(&noted)?;
    }
    Ok(())
}

fn let_go(process: &Process, route: &Route, name: &str, start: Lsn) -> Result<(), Box<Problem>> {
    let recorded = process.store.chain_versions(name)?;
    let Some(version) = in_place_of(&recorded, chains::present(process, route), start) else {
        return Ok(());
    };
    process
        .store
        .restart_chain(name, start, &version, super::reload::now())?;
    for plugin in &route.plugins {
        process.status.passed_probation(plugin, name);
    }
    if !version.went_back {
        let plugins = recorded.iter().flat_map(|(_, version)| &version.plugins);
        let plugins = plugins.map(|plugin| plugin.name.as_str());
        process.store.forget_before(name, plugins)?;
    }
    tracing::info!(
        route = name,
        %start,
        "a sink has come to the route: all that is still to be sent goes through its present plugins, without a way back"
    );
    Ok(())
}

/// What counts from `start` on in the place of all that is recorded; `None` where nothing else would count.
fn in_place_of(recorded: &[(Lsn, ChainVersion)], present: ChainVersion, start: Lsn) -> Option<ChainVersion> {
    let ((_, first), later) = recorded[modules::at(recorded, start)..].split_first()?;
    let counts_alone = later.is_empty() && first.is_same(&present) && first.fallback.is_none();
    (!counts_alone).then(|| ChainVersion {
        plugins: present.plugins,
        fallback: None,
        // What is stored of the route's plugins is of the version that ran at the start.
        went_back: first.went_back,
    })
}

fn of_route(route: &Route, name: String) -> KnownRoute {
    let mut sinks = route.sinks.clone();
    sinks.sort_unstable();
    sinks.dedup();
    KnownRoute {
        name,
        tables: route_key(route),
        plugins: route.plugins.clone(),
        sinks,
        columns: route.columns.clone(),
        is_there: true,
    }
}

/// Whether sinks get rows of the route that didn't in the last session.
fn sinks_have_come(route: &KnownRoute, known: &[KnownRoute]) -> bool {
    let before = known.iter().find(|before| before.name == route.name && before.is_there);
    before.is_none_or(|before| route.sinks.iter().any(|sink| !before.sinks.contains(sink)))
}

/// The routes of this session, and those of earlier ones that may come back.
fn noted(fresh: Vec<KnownRoute>, known: &[KnownRoute]) -> Vec<KnownRoute> {
    let gone = known
        .iter()
        .filter(|known| fresh.iter().all(|route| route.name != known.name));
    let gone = gone.map(|known| KnownRoute {
        is_there: false,
        ..known.clone()
    });
    let gone: Vec<KnownRoute> = gone.collect();
    fresh.into_iter().chain(gone).collect()
}

/// Whether a route of the file is the one that is known.
type Same = fn(&KnownRoute, &KnownRoute) -> bool;

/// The closest first. What only shares something with a route is that one if the last session had it.
const SAME: [Same; 7] = [
    |route, known| same_sinks(route, known) && same_plugins(route, known) && route.columns == known.columns,
    |route, known| same_sinks(route, known) && same_plugins(route, known),
    |route, known| same_sinks(route, known) && known.is_there,
    same_sinks,
    |route, known| known.is_there && shares_sinks(route, known) && same_plugins(route, known),
    |route, known| known.is_there && shares_sinks(route, known),
    |route, known| known.is_there && !route.plugins.is_empty() && same_plugins(route, known),
];

fn same_sinks(route: &KnownRoute, known: &KnownRoute) -> bool {
    route.sinks == known.sinks
}

fn same_plugins(route: &KnownRoute, known: &KnownRoute) -> bool {
    route.plugins == known.plugins
}

fn shares_sinks(route: &KnownRoute, known: &KnownRoute) -> bool {
    route.sinks.iter().any(|sink| known.sinks.contains(sink))
}

fn names(routes: &[Route], known: &[KnownRoute]) -> Vec<String> {
    if known.is_empty() {
        return dead_letter::route_names(routes.iter().map(route_key));
    }
    let routes: Vec<KnownRoute> = routes.iter().map(|route| of_route(route, String::new())).collect();
    let mut found: Vec<Option<&KnownRoute>> = vec![None; routes.len()];
    let is_taken = |found: &[Option<&KnownRoute>], known: &KnownRoute| {
        let mut taken = found.iter().flatten();
        taken.any(|taken| taken.name == known.name)
    };
    for is_same in SAME {
        for (at, route) in routes.iter().enumerate() {
            if found[at].is_none() {
                let mut of_tables = known.iter().filter(|known| known.tables == route.tables);
                found[at] = of_tables.find(|known| !is_taken(&found, known) && is_same(route, known));
            }
        }
    }
    // One that is all that is left is that one, whatever has become of it.
    for (at, route) in routes.iter().enumerate() {
        let is_left = |other: usize| found[other].is_none() && routes[other].tables == route.tables;
        if found[at].is_some() || (0..routes.len()).filter(|other| is_left(*other)).count() > 1 {
            continue;
        }
        let left = known.iter().filter(|known| known.tables == route.tables);
        let left: Vec<&KnownRoute> = left.filter(|known| !is_taken(&found, known)).collect();
        let there: Vec<&KnownRoute> = left.iter().copied().filter(|known| known.is_there).collect();
        let alone = routes.iter().filter(|other| other.tables == route.tables).count() == 1;
        found[at] = match (&there[..], &left[..]) {
            ([one], _) => Some(*one),
            ([], [one]) if alone => Some(*one),
            _ => None,
        };
    }
    let mut taken: Vec<String> = known.iter().map(|known| known.name.clone()).collect();
    let mut name = |(found, route): (Option<&KnownRoute>, &KnownRoute)| {
        let name = found.map_or_else(|| unused(&route.tables, &taken), |found| found.name.clone());
        taken.push(name.clone());
        name
    };
    found.into_iter().zip(&routes).map(&mut name).collect()
}

fn unused(tables: &str, taken: &[String]) -> String {
    let name = |count: usize| match count {
        1 => tables.to_owned(),
        _ => format!("{tables}#{count}"),
    };
    let is_free = |name: &String| !taken.contains(name);
    (1..=taken.len() + 1).map(name).find(is_free).unwrap_or_default()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
