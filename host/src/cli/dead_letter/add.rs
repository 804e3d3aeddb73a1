//! `rowmill dead-letter add`: a change that a sink can't take is set aside when the server sends it again.

use super::super::Failure;
use crate::batch::RowId;
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::dead_letter::{DeadLetters, UNKNOWN};
use crate::pipeline::route_names;
use crate::problem::{Exit, Problem, escape};
use crate::runtime;
use serde_json::{Value, json};

/// Durable on return.
pub(super) fn add(pipeline: &mut Pipeline, sink: &str, row: &str) -> Result<Value, Failure> {
    let refuse = |cause: &str, help: &str| {
        let headline = format!("row {} of sink {} can't be set aside", escape(row), escape(sink));
        Failure::from(Problem::new(UNKNOWN, Exit::Usage, headline, help).with_cause(cause))
    };
    let take_it = "take the row's id from the sink's error";
    let Some(id) = RowId::streamed(row) else {
        return Err(refuse(
            "it is no id of a streamed change: SYSTEM:POSITION:ORDINAL:PART",
            take_it,
        ));
    };
    // It holds the folder's lock.
    let state = StateStore::open(&pipeline.state_dir, &pipeline.name)?;
    let identity = state.identity()?;
    runtime::know_routes(pipeline, &state)?;
    let names = route_names(&pipeline.routes).into_iter();
    let to_it = |sinks: &[String]| sinks.iter().any(|name| name == sink);
    let routes = pipeline
        .routes
        .iter()
        .zip(names)
        .filter(|(route, _)| to_it(&route.sinks));
    let routes: Vec<_> = routes.collect();
    if routes.is_empty() {
        return Err(refuse(
            "no route leads to a sink of this name",
            "name a sink of the pipeline",
        ));
    }
    // Other sinks may have it, and would get it again.
    let (routes, shared): (Vec<_>, Vec<_>) = routes.into_iter().partition(|(route, _)| route.sinks.len() == 1);
    let shared: Vec<String> = shared.into_iter().map(|(_, name)| name).collect();
    if routes.is_empty() {
        let cause = "its routes lead to other sinks, too, which would get the change twice";
        let help = format!("let the transaction be: rowmill skip {}", escape(sink));
        return Err(refuse(cause, &help));
    }
    if identity.is_none_or(|identity| identity.system_identifier != id.system_identifier) {
        return Err(refuse(
            "it is no change of the server that the pipeline reads from",
            take_it,
        ));
    }
    let letters = DeadLetters::open(&pipeline.state_dir, &pipeline.name, &pipeline.dead_letters)?;
    let mut is_new = false;
    for (_, name) in &routes {
        is_new |= letters.refuse(name, id.commit_lsn, id.ordinal, sink)?;
    }
    drop(state);
    if !is_new {
        return Err(refuse(
            "it stands in a letter, or stood in one",
            "rowmill dead-letter list",
        ));
    }
    Ok(
        json!({ "sink": sink, "row": row, "position": id.commit_lsn.to_string(), "ordinal": id.ordinal, "left_out": shared }),
    )
}

pub(super) fn told(value: &Value) -> String {
    let text = |name: &str| escape(value[name].as_str().unwrap_or_default());
    let mut told = format!(
        "row {} is set aside when it comes again, and later changes of its key behind it: start the pipeline; \
         `rowmill dead-letter replay` sends them once sink {} takes them",
        text("row"),
        text("sink")
    );
    let left_out = value["left_out"].as_array().into_iter().flatten();
    for route in left_out.filter_map(Value::as_str) {
        let route = escape(route);
        told.push_str(&format!("\nnot on route {route}, which leads to other sinks, too"));
    }
    told
}
