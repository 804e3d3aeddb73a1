//! Whether a target would take rows, found out by reading its catalog alone.

use super::target::{MISSING_COLUMN, MISSING_KEY, MISSING_TABLE, Target, qualified};
use super::{connection, error, keys, shape};
use crate::batch::Relation;
use crate::config::{self, WriteMode};
use crate::problem::{Exit, Problem};
use crate::sink::{Checked, SinkContext, SinkError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Client;

pub(in crate::sink) async fn check(
    config: &config::PostgresSink,
    context: &SinkContext,
    relations: &[Arc<Relation>],
) -> Checked {
    let mut checked = Checked::default();
    let client = match connection::connect_once(&config.url, context).await {
        Ok(client) => client,
        Err(error) => {
            checked.refusals.push(error);
            return checked;
        }
    };
    if config.relay.is_some() {
        checked
            .refusals
            .extend(super::relay::check(&client, context).await.err());
    }
    if let Some(audit) = &config.audit {
        super::audit::check(&client, audit, context, relations, &mut checked).await;
        return checked;
    }
    let refusals = &mut checked.refusals;
    let mut seen = BTreeSet::new();
    for (at, relation) in relations.iter().enumerate() {
        match Target::look_up(&client, relation, at as u32, config.mode, context).await {
            // It will be made.
            Err(SinkError::Definite(problem))
                if problem.code == MISSING_COLUMN && context.changes.has_any(relation) => {}
            Err(SinkError::Definite(problem))
                if config.create_tables && [MISSING_TABLE, MISSING_COLUMN].contains(&problem.code) => {}
            Err(SinkError::Definite(problem))
                if problem.code == MISSING_KEY
                    && matches!(keys::is_due(&client, relation, context).await, Ok(true)) => {}
            Err(error) => refusals.push(error),
            Ok(_) if seen.insert(relation.full_name()) => {
                refusals.extend(privileges(&client, relation, config.mode, context).await.err());
                match shape::compare(&client, relation, config.mode, context).await {
                    Ok(shape) => {
                        refusals.extend(shape.refusals);
                        let differences = shape.differences.into_iter();
                        checked
                            .differences
                            .extend(differences.map(|text| (relation.full_name(), text)));
                    }
                    Err(error) => refusals.push(error),
                }
            }
            Ok(_) => {}
        }
    }
    checked
}

/// Rows are looked up, written and removed, and tables emptied where they are what the source's are.
async fn privileges(
    client: &Client,
    relation: &Relation,
    mode: WriteMode,
    context: &SinkContext,
) -> Result<(), SinkError> {
    let name = qualified(relation);
    let select = "SELECT pg_catalog.string_agg(p, ', ') FROM pg_catalog.unnest($2::text[]) p \
        WHERE NOT pg_catalog.has_table_privilege($1::text, p)";
    let needed: &[&str] = match mode {
        WriteMode::Append => &["SELECT", "INSERT", "UPDATE", "DELETE"],
        WriteMode::Mirror | WriteMode::Upsert => &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
    };
    let row = client.query_one(select, &[&name, &needed]).await;
    let missing: Option<String> = row.map_err(|error| error::of(&error, context))?.get(0);
    let Some(missing) = missing else { return Ok(()) };
    let headline = format!("the role of sink {} lacks a privilege", context.sink);
    let help = format!("GRANT {missing} ON {name} TO the role of the sink's url;");
    let cause = format!("it may not {missing} at {}", relation.full_name());
    Err(Problem::new("E0408", Exit::Sink, headline, help)
        .with_cause(cause)
        .into())
}
