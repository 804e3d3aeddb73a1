//! All that a start would refuse, found in one go: plugins, source, routes, sinks. Nothing is changed on any server.

mod filters;
mod routes;
mod sample;
mod source;

pub use sample::Sample;

use super::process::Process;
use crate::batch::Relation;
use crate::config::{self, OnError, OnFault, Pipeline, Policies};
use crate::plugin::error::GOES_BY;
use crate::plugin::reload::{ModuleRefusal, read_module};
use crate::plugin::{Engine, Module};
use crate::postgres::install_crypto_provider;
use crate::problem::{Exit, Problem};
use crate::sink::{self, ColumnChanges, SinkContext, SinkError};
use crate::source::catalog::Catalog;
use crate::source::preflight::{Level, Notice};
use routes::Way;
use source::Source;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What was looked at, with a line about it.
    pub lines: Vec<(&'static str, String)>,
    /// The first decides how the process ends.
    pub problems: Vec<Problem>,
    pub notices: Vec<Notice>,
    pub tables: Vec<CheckedTable>,
    pub samples: Vec<Sample>,
}

/// A selected table and where its rows go.
#[derive(Clone, Debug)]
pub struct CheckedTable {
    pub table: String,
    /// The planner's estimate.
    pub rows: Option<u64>,
    pub routes: Vec<CheckedRoute>,
}

#[derive(Clone, Debug)]
pub struct CheckedRoute {
    /// Columns that reach the plugins.
    pub columns: Vec<String>,
    pub plugins: Vec<String>,
    pub sinks: Vec<String>,
    /// Tables with columns that reach the sinks; `None` where the plugins can't say.
    pub outputs: Option<Vec<(String, Vec<String>)>>,
}

impl Checked {
    fn line(&mut self, what: &'static str, text: String) {
        self.lines.push((what, text));
    }
}

/// Checks a pipeline whose file is good. `sample` rows of each table are sent through its plugins; 0 for none.
pub async fn check(config: &Pipeline, sample: usize) -> Checked {
    install_crypto_provider();
    let mut checked = Checked {
        notices: config.plugins.iter().filter_map(goes_by).collect(),
        ..Checked::default()
    };
    let modules = modules(config, &mut checked);
    let mut started = match &modules {
        Some((engine, modules)) => {
            let module = |name: &str| modules.get(name).cloned();
            routes::start(engine, config, module, &mut checked.problems)
        }
        None => Vec::new(),
    };
    let source = source::look(config, &mut checked).await;
    let mut ways = Vec::new();
    let changes = Arc::default();
    if let Some(source) = &source
        && !started.is_empty()
    {
        let known = |route: &str, table: &str| source.known(route, table);
        let tables = &source.report.catalog.tables;
        ways = routes::ways(config, tables, &mut started, known, &changes, &mut checked.problems);
        tables_of(config, &source.report.catalog, &ways, &mut checked);
        checked.notices.extend(filters::unjudged(tables, &ways, &mut started));
    }
    let system_identifier = source.as_ref().map_or(0, |source| source.system_identifier);
    for of_sink in &config.sinks {
        let relations = routes::relations_for(config, &ways, &of_sink.name);
        let found = sink::check(
            of_sink,
            &context(config, of_sink, system_identifier, &changes),
            &relations,
        )
        .await;
        checked.line("sink", sink_line(of_sink, &relations));
        let differences = found.differences.iter();
        let notices = differences.map(|(table, text)| differs(&of_sink.name, table, text));
        checked.notices.extend(notices);
        checked.notices.extend(found.advice.into_iter().map(advised));
        let problems = found
            .refusals
            .into_iter()
            .map(|error| sink_problem(&of_sink.name, error));
        checked.problems.extend(problems);
    }
    if let Some(source) = &source
        && sample > 0
    {
        samples(config, source, &ways, &mut started, sample, &mut checked).await;
    }
    checked
}

/// Before a first run makes anything at the server: would plugins and sinks take the tables as they are? A sink that
/// can't be reached now may be later.
pub(super) async fn first_run(process: &Process, catalog: &Catalog, system_identifier: u64) -> Vec<Problem> {
    let module = |name: &str| process.modules.newest(name).map(|taken| taken.module);
    would_take(process, &process.config(), module, catalog, system_identifier).await
}

/// Beside the running pipeline: would a start with this configuration be refused? Where the source can't be reached now,
/// that is what stands in the way.
pub(super) async fn beside(
    process: &Process,
    config: &Pipeline,
    module: impl Fn(&str) -> Option<Arc<Module>>,
) -> Vec<Problem> {
    let (catalog, system_identifier) = match source::beside(process, config).await {
        Ok(found) => found,
        Err(problems) => return problems,
    };
    would_take(process, config, module, &catalog, system_identifier).await
}

async fn would_take(
    process: &Process,
    config: &Pipeline,
    module: impl Fn(&str) -> Option<Arc<Module>>,
    catalog: &Catalog,
    system_identifier: u64,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut started = routes::start(&process.engine, config, module, &mut problems);
    let known = |route: &str, table: &str| process.store.route_columns(route, table).ok().flatten();
    let changes = Arc::default();
    let ways = routes::ways(config, &catalog.tables, &mut started, known, &changes, &mut problems);
    for of_sink in &config.sinks {
        let relations = routes::relations_for(config, &ways, &of_sink.name);
        let found = sink::check(
            of_sink,
            &context(config, of_sink, system_identifier, &changes),
            &relations,
        )
        .await;
        problems.extend(found.refusals.into_iter().filter_map(|error| match error {
            SinkError::Definite(problem) => Some(*problem),
            _ => None,
        }));
    }
    problems
}

fn context(
    config: &Pipeline,
    of_sink: &config::Sink,
    system_identifier: u64,
    changes: &Arc<ColumnChanges>,
) -> SinkContext {
    SinkContext {
        pipeline: config.name.clone(),
        slot: config.slot_name(),
        sink: of_sink.name.clone(),
        system_identifier,
        source_database: super::source::database(config),
        state_dir: config.state_dir.clone(),
        passed_over: Arc::default(),
        known: Arc::default(),
        types: Arc::default(),
        changes: Arc::clone(changes),
    }
}

fn advised(advice: sink::Advice) -> Notice {
    Notice {
        code: advice.code,
        level: Level::Warning,
        headline: advice.headline,
        detail: Some(advice.detail),
        help: Some(advice.help),
    }
}

/// A target's table that isn't quite what arrives.
fn differs(sink: &str, table: &str, difference: &str) -> Notice {
    Notice {
        code: "E0418",
        level: Level::Warning,
        headline: format!("{table} at sink {sink} differs from what arrives"),
        detail: Some(difference.to_owned()),
        help: None,
    }
}

/// A plugin that changes may go by.
fn goes_by(plugin: &config::Plugin) -> Option<Notice> {
    let Policies { on_error, on_fault, .. } = plugin.policies;
    let (settings, defaults) = match (on_error == OnError::Pass, on_fault == OnFault::Bypass) {
        (true, true) => ("`on_error: pass` and `on_fault: bypass`", "`dead_letter` and `isolate`"),
        (true, false) => ("`on_error: pass`", "`dead_letter`"),
        (false, true) => ("`on_fault: bypass`", "`isolate`"),
        (false, false) => return None,
    };
    Some(Notice {
        code: GOES_BY,
        level: Level::Warning,
        headline: format!("changes may go by plugin {} unfiltered and unmasked", plugin.name),
        detail: Some(format!("{settings} of plugin {}", plugin.name)),
        help: Some(format!(
            "take the default, {defaults}, unless the plugin guards nothing"
        )),
    })
}

type Modules = HashMap<String, Arc<Module>>;

/// Compiles every plugin. Compiled code is kept where there is a state folder already.
fn modules(config: &Pipeline, checked: &mut Checked) -> Option<(Arc<Engine>, Modules)> {
    let cache = config.state_dir.exists().then(|| config.state_dir.join("compiled"));
    let engine = match Engine::new(cache) {
        Ok(engine) => engine,
        Err(error) => {
            checked.problems.push(error.problem());
            return None;
        }
    };
    let mut modules = Modules::new();
    for plugin in &config.plugins {
        let path = plugin.module.display();
        match load(&engine, plugin, &config.module_root) {
            Ok(module) => {
                checked.line(
                    "plugin",
                    format!("{}: {} from {path}", plugin.name, module.hash_short()),
                );
                modules.insert(plugin.name.clone(), module);
            }
            Err(problem) => {
                checked.line("plugin", format!("{}: {path} is refused", plugin.name));
                checked.problems.push(*problem);
            }
        }
    }
    Some((engine, modules))
}

fn load(engine: &Engine, plugin: &config::Plugin, root: &Path) -> Result<Arc<Module>, Box<Problem>> {
    let refused = |refusal: ModuleRefusal| Box::new(refusal.into_problem(&plugin.name, &plugin.module));
    let (bytes, _) = read_module(&plugin.module, Some(root), plugin.limits.module.0).map_err(refused)?;
    let loaded = engine.load(&bytes, &plugin.limits);
    loaded.map_err(|error| Box::new(error.problem()))
}

fn tables_of(config: &Pipeline, catalog: &Catalog, ways: &[Way], checked: &mut Checked) {
    for (at, table) in catalog.tables.iter().enumerate() {
        let of_table = ways.iter().filter(|way| way.table == at);
        let routes: Vec<CheckedRoute> = of_table.map(|way| route(&config.routes[way.route], way)).collect();
        let mut line = table.full_name();
        if routes.is_empty() {
            line.push_str(": no route takes it");
        }
        for route in &routes {
            let through = match route.plugins.is_empty() {
                true => String::new(),
                false => format!(" through {}", route.plugins.join(", ")),
            };
            line.push_str(&format!(":{through} to {}", route.sinks.join(", ")));
        }
        checked.line("table", line);
        checked.tables.push(CheckedTable {
            table: table.full_name(),
            rows: table.rows_estimated,
            routes,
        });
    }
}

fn route(of_route: &config::Route, way: &Way) -> CheckedRoute {
    let output = |relation: &Arc<Relation>| (relation.full_name(), names(relation));
    CheckedRoute {
        columns: names(&way.relation),
        plugins: of_route.plugins.clone(),
        sinks: of_route.sinks.clone(),
        outputs: way.outputs.as_ref().map(|outputs| outputs.iter().map(output).collect()),
    }
}

fn names(relation: &Relation) -> Vec<String> {
    relation.columns.iter().map(|column| column.name.clone()).collect()
}

fn sink_line(of_sink: &config::Sink, relations: &[Arc<Relation>]) -> String {
    let name = &of_sink.name;
    match &of_sink.kind {
        config::SinkKind::Postgres(_) => format!("{name}: {} tables of a Postgres", relations.len()),
        config::SinkKind::File(file) => format!("{name}: {}", file.path.display()),
        config::SinkKind::Stdout => format!("{name}: standard output"),
        config::SinkKind::Discard => format!("{name}: discards what it gets"),
    }
}

/// Even what a retry may cure is a problem for whoever checks.
fn sink_problem(name: &str, error: SinkError) -> Problem {
    match error {
        SinkError::Definite(problem) => *problem,
        other => {
            let headline = format!("sink {name} can't be reached");
            let help = "start the target, or correct the sink's url or path";
            Problem::new("E0409", Exit::Sink, headline, help).with_cause(other)
        }
    }
}

async fn samples(
    config: &Pipeline,
    source: &Source,
    ways: &[Way],
    started: &mut [routes::Started],
    rows: usize,
    checked: &mut Checked,
) {
    for way in ways.iter().filter(|way| way.outputs.is_some()) {
        let table = &source.report.catalog.tables[way.table];
        let chain = &mut started[way.route];
        let read = sample::read(&source.client, table, way, chain, rows, source.system_identifier).await;
        match read {
            Ok(rows) => checked.samples.push(Sample {
                table: table.full_name(),
                plugins: config.routes[way.route].plugins.clone(),
                sinks: config.routes[way.route].sinks.clone(),
                rows,
            }),
            Err(problem) => {
                checked.problems.push(*problem);
                // A plugin that broke isn't called again.
                *chain = routes::Started::Broken;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_pass_a_plugin_by_are_warned_of() {
        let config = |policies: &str| {
            let text = format!(
                "name: shop\nsource:\n  postgres:\n    url: ${{URL:-postgres://h/d}}\n    tables: [public.t]\n\
                 plugins:\n  mask:\n    module: mask.wasm\n{policies}\
                 routes:\n  - tables: [public.t]\n    plugins: [mask]\n    sinks: [out]\nsinks:\n  out: discard\n"
            );
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("mask.wasm"), b"").unwrap();
            let file = folder.path().join("pipeline.yaml");
            config::load_text(&file, &text, &|_| None).unwrap()
        };
        let warned = |policies: &str| {
            let config = config(policies);
            config
                .plugins
                .iter()
                .filter_map(goes_by)
                .map(|notice| notice.detail.unwrap())
                .collect::<Vec<_>>()
        };
        assert!(warned("").is_empty());
        assert!(warned("    on_error: drop\n    on_fault: stop\n    max_faults: 5\n").is_empty());
        assert_eq!(warned("    on_error: pass\n"), ["`on_error: pass` of plugin mask"]);
        assert_eq!(
            warned("    on_error: pass\n    on_fault: bypass\n"),
            ["`on_error: pass` and `on_fault: bypass` of plugin mask"]
        );
    }
}
