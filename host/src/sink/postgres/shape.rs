//! How a target's table differs from what arrives, where rows may be taken all the same.

use super::error;
use super::lacking;
use super::target::Target;
use crate::batch::{Relation, ReplicaIdentity};
use crate::config::WriteMode;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Client;

/// OIDs below are the same at every server.
const FIRST_USER_OID: u32 = 16_384;

/// The target's columns, with the type that the source's OID and modifier stand for ($2 to $4, by name).
const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
        a.attnotnull, a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', \
        s.name IS NOT NULL, pg_catalog.format_type(k.oid, s.typmod) \
    FROM pg_catalog.pg_attribute a \
    LEFT JOIN ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::oid[]), \
        pg_catalog.unnest($4::int4[])) AS s (name, type, typmod) ON s.name = a.attname \
    LEFT JOIN pg_catalog.pg_type k ON k.oid = s.type AND k.oid < 16384 \
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// What is found of a table that is there.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// What refuses every new row.
    pub(super) refusals: Vec<SinkError>,
    /// `column id: integer here, bigint at the source`, one for each; and of the whole table, that it has no key.
    pub(super) differences: Vec<String>,
}

/// Compares a table with the relation, column by column.
pub(super) async fn compare(
    client: &Client,
    relation: &Relation,
    mode: WriteMode,
    context: &SinkContext,
) -> Result<Shape, SinkError> {
    let name = super::target::qualified(relation);
    let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    let types: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
    let typmods: Vec<i32> = relation.columns.iter().map(|column| column.typmod).collect();
    let rows = client.query(COLUMNS, &[&name, &names, &types, &typmods]).await;
    let mut shape = Shape::default();
    for row in rows.map_err(|error| error::of(&error, context))? {
        let (column, here): (&str, &str) = (row.get(0), row.get(1));
        let (not_null, filled, sent): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
        let is_about = mode == WriteMode::Append && column.starts_with("_rowmill_");
        let Some(source) = relation.columns.iter().find(|source| sent && source.name == column) else {
            if not_null && !filled && !is_about {
                shape.refusals.push(without_value(relation, column, context).into());
            }
            continue;
        };
        let there: Option<&str> = row.get(5);
        match there {
            Some(there) if there != here => {
                shape
                    .differences
                    .push(format!("column {column}: {here} here, {there} at the source"));
            }
            // A type of the source's own, known by its name alone.
            None if source.type_oid >= FIRST_USER_OID && unqualified(here) != unqualified(&source.type_name) => {
                let there = &source.type_name;
                shape
                    .differences
                    .push(format!("column {column}: {here} here, {there} at the source"));
            }
            _ => {}
        }
        if not_null && source.nullable {
            shape
                .differences
                .push(format!("column {column}: NOT NULL here, may be NULL at the source"));
        }
    }
    shape.differences.extend(key(client, relation, mode, context).await?);
    Ok(shape)
}

/// Whether nothing tells rows apart here that have a key at the source. Only under REPLICA IDENTITY FULL is that taken, for
/// changes.
async fn key(
    client: &Client,
    relation: &Relation,
    mode: WriteMode,
    context: &SinkContext,
) -> Result<Option<String>, SinkError> {
    let full = relation.replica_identity == ReplicaIdentity::Full;
    // Of a table without a key all columns are called one, and a plugin may have added others.
    let told = lacking::told_key(relation).filter(|_| full && relation.key_columns().all(|column| !column.nullable));
    let (Some(names), false) = (told, mode == WriteMode::Append) else {
        return Ok(None);
    };
    let target = Target::look_up(client, relation, 0, mode, context).await?;
    Ok((!target.keyed).then(|| format!("no unique key here, ({names}) at the source: without one it isn't copied")))
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn without_value(relation: &Relation, column: &str, context: &SinkContext) -> Problem {
    let (table, sink) = (relation.full_name(), &context.sink);
    let headline = format!("column {column} of {table} at sink {sink} gets no value");
    let name = super::target::qualified(relation);
    let help = format!(
        "ALTER TABLE {name} ALTER {} DROP NOT NULL",
        super::target::quoted(column)
    );
    Problem::new("E0417", Exit::Sink, headline, help).with_cause("it is NOT NULL, has no default, and isn't sent")
}
