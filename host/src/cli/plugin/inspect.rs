//! `rowmill plugin inspect`: what a module says of itself, and what it wants of tables.

use super::subject::{ModuleAt, problem};
use crate::batch::Relation;
use crate::plugin::{ChainOutcome, Engine, Kind};
use crate::plugin_tools::{Subject, samples, sections};
use crate::problem::Problem;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Everything that is known without a table.
pub fn module(module: &ModuleAt, subject: &Subject) -> Value {
    let loaded = &subject.version.module;
    let manifest = loaded.manifest();
    let sections = sections::sections(&module.bytes);
    let sections = sections
        .iter()
        .map(|section| json!({ "name": section.name, "size_bytes": section.size_bytes }));
    let kind = match manifest.kind {
        Kind::Filter => "filter",
        Kind::Transform => "transform",
    };
    let schema = manifest.config_schema.as_deref();
    json!({
        "module": module.path.display().to_string(),
        "hash": loaded.hash_hex(),
        "size_bytes": module.bytes.len(),
        "name": manifest.name,
        "version": manifest.version,
        "kind": kind,
        "abi": manifest.abi.map(|abi| format!("{}.{}", abi >> 16, abi & 0xffff)),
        "min_minor": manifest.min_minor,
        "features": manifest.features,
        "state_scope": manifest.state_scope,
        "state_version": manifest.state_version,
        "config_schema": schema.and_then(|schema| serde_json::from_str::<Value>(schema).ok()),
        "imports": loaded.imports(),
        "exports": loaded.exports(),
        "sections": sections.collect::<Vec<_>>(),
    })
}

/// The tables of a file of samples, or of tables' lines alone.
pub fn relations(schema: &Path) -> anyhow::Result<Vec<Arc<Relation>>> {
    let text = std::fs::read_to_string(schema)?;
    let batch = samples::read(&text).map_err(|bad| anyhow::anyhow!("line {}: {}", bad.line, bad.what))?;
    Ok(batch.relations)
}

/// What becomes of each table.
pub fn tables(subject: &Subject, relations: &[Arc<Relation>]) -> anyhow::Result<Vec<Value>> {
    let mut chain = subject.start().map_err(problem)?;
    let mut tables = Vec::new();
    for relation in relations {
        let table = relation.full_name();
        tables.push(match chain.relation(relation) {
            Ok(ChainOutcome::PassBy) => json!({ "table": table, "action": "pass by" }),
            Ok(ChainOutcome::Drop) => json!({ "table": table, "action": "drop" }),
            Ok(ChainOutcome::Outputs(outputs)) => {
                let projection = chain.projections(relation);
                let outputs = outputs.iter().map(|output| samples::table(output)).collect::<Vec<_>>();
                let of_plugin = projection.first();
                json!({
                    "table": table,
                    "action": "use",
                    "reads": of_plugin.map(|projection| &projection.reads),
                    "writes": of_plugin.map(|projection| &projection.writes),
                    "outputs": outputs,
                })
            }
            Err(error) => {
                let Problem { headline, cause, .. } = error.problem();
                json!({ "table": table, "action": "refuse", "reason": cause.unwrap_or(headline) })
            }
        });
    }
    Ok(tables)
}

/// The same, with what a pipeline configures.
pub fn subject_with(module: &ModuleAt, config: Value) -> anyhow::Result<Subject> {
    let engine = Engine::new(None).map_err(problem)?;
    Ok(module.subject_with(&engine, config)?)
}

/// Starts what has to be asked; a module alone needs no configuration.
pub fn subject(module: &ModuleAt, config: Option<&Path>) -> anyhow::Result<Subject> {
    let engine = Engine::new(None).map_err(problem)?;
    Ok(module.subject(&engine, config)?)
}
