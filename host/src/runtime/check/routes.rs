//! Plugins and routes on the tables as they are now: what the lane would make of each.

use super::super::copies;
use crate::batch::Relation;
use crate::config::{self, OnSchemaChange, Pipeline};
use crate::pipeline::{project, route_key, takes};
use crate::plugin::{Chain, ChainOutcome, Engine, Mode, Module, PluginVersion};
use crate::problem::Problem;
use crate::sink::ColumnChanges;
use crate::source::catalog::Table;
use std::sync::Arc;

/// A route's plugins, started.
pub(super) enum Started {
    NoPlugins,
    Chain(Box<Chain>),
    /// It can't be told what the route makes of rows.
    Broken,
}

/// How a table's rows go through a route.
pub(super) struct Way {
    pub(super) route: usize,
    pub(super) table: usize,
    /// With the columns that the route lets out.
    pub(super) relation: Arc<Relation>,
    /// What the sinks get; `None` where the plugins can't say.
    pub(super) outputs: Option<Vec<Arc<Relation>>>,
}

/// Starts each route's plugins.
pub(super) fn start(
    engine: &Arc<Engine>,
    config: &Pipeline,
    module: impl Fn(&str) -> Option<Arc<Module>>,
    problems: &mut Vec<Problem>,
) -> Vec<Started> {
    let mut started = Vec::new();
    for route in &config.routes {
        started.push(match versions(config, route, &module) {
            Some(versions) if versions.is_empty() => Started::NoPlugins,
            Some(versions) => match Chain::new(engine, &versions, route.filter, Mode::Candidate) {
                Ok(chain) => Started::Chain(Box::new(chain)),
                Err(error) => {
                    push(problems, error.problem());
                    Started::Broken
                }
            },
            // Why a module is missing has been said.
            None => Started::Broken,
        });
    }
    started
}

fn versions(
    config: &Pipeline,
    route: &config::Route,
    module: impl Fn(&str) -> Option<Arc<Module>>,
) -> Option<Vec<PluginVersion>> {
    let of_plugin = |name: &String| {
        let plugin = config.plugins.iter().find(|plugin| plugin.name == *name)?;
        Some(PluginVersion {
            name: name.clone(),
            module: module(name)?,
            config: plugin.config.clone(),
            limits: plugin.limits,
            policies: plugin.policies,
        })
    };
    route.plugins.iter().map(of_plugin).collect()
}

/// Shows every table to the routes that take it. `known` has the columns of a table that a route met before;
/// `changes` gets those that have come since, where targets may add them.
pub(super) fn ways(
    config: &Pipeline,
    tables: &[Table],
    started: &mut [Started],
    known: impl Fn(&str, &str) -> Option<Vec<String>>,
    changes: &ColumnChanges,
    problems: &mut Vec<Problem>,
) -> Vec<Way> {
    let mut ways = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let relation = Arc::new(copies::relation(table));
        for (route, of_route) in config.routes.iter().enumerate() {
            if !takes(of_route, &relation) {
                continue;
            }
            let present = || relation.columns.iter().map(|column| column.name.clone()).collect();
            let known = known(&route_key(of_route), &relation.full_name()).unwrap_or_else(present);
            let projected = match project(of_route, &known, None, &relation) {
                Ok(projected) => projected,
                Err(problem) => {
                    push(problems, *problem);
                    continue;
                }
            };
            if of_route.on_schema_change == OnSchemaChange::Evolve {
                let come = projected.columns.iter().filter(|column| !known.contains(&column.name));
                come.for_each(|column| changes.add(&projected, &column.name));
            }
            let outputs = outputs(&mut started[route], &projected, problems);
            ways.push(Way {
                route,
                table: at,
                relation: projected,
                outputs,
            });
        }
    }
    ways
}

fn outputs(started: &mut Started, relation: &Arc<Relation>, problems: &mut Vec<Problem>) -> Option<Vec<Arc<Relation>>> {
    let Started::Chain(chain) = started else {
        let untouched = vec![Arc::clone(relation)];
        return matches!(started, Started::NoPlugins).then_some(untouched);
    };
    match chain.relation(relation) {
        Ok(ChainOutcome::Outputs(outputs)) => Some(outputs),
        Ok(ChainOutcome::PassBy) => Some(vec![Arc::clone(relation)]),
        Ok(ChainOutcome::Drop) => Some(Vec::new()),
        Err(error) => {
            push(problems, error.problem());
            None
        }
    }
}

/// Several routes with the same plugin say the same.
fn push(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// Everything that a sink would get, by the sink's name.
pub(super) fn relations_for(config: &Pipeline, ways: &[Way], sink: &str) -> Vec<Arc<Relation>> {
    let of_sink = |way: &&Way| config.routes[way.route].sinks.iter().any(|name| name == sink);
    let outputs = ways.iter().filter(of_sink).filter_map(|way| way.outputs.as_ref());
    outputs.flatten().map(Arc::clone).collect()
}
