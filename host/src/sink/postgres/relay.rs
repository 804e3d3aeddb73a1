//! A target that others read from in turn: tables in a publication, with whole old rows in its WAL.
//!
//! Systems that read a Postgres by logical replication themselves then follow their own guide word for word, and see what
//! the filters and plugins have left. Their slots there are their own.

use super::error;
use super::target::{qualified, quoted};
use crate::batch::Relation;
use crate::config;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Client;

/// The target's WAL holds no rows for others.
const WAL_LEVEL: &str = "E0442";

/// # Errors
/// A server that writes no logical WAL.
pub(super) async fn check(client: &Client, context: &SinkContext) -> Result<(), SinkError> {
    let row = client.query_one("SHOW wal_level", &[]).await;
    let level: String = row.map_err(|error| error::of(&error, context))?.get(0);
    if level == "logical" {
        return Ok(());
    }
    let headline = format!("the target of sink {} can't be a relay", context.sink);
    let help = "ALTER SYSTEM SET wal_level = logical; at the target, then restart it";
    let cause = format!("its wal_level is {level}");
    Err(Problem::new(WAL_LEVEL, Exit::Sink, headline, help)
        .with_cause(cause)
        .into())
}

/// Makes the publication where it is missing; one that is there keeps its options.
pub(super) async fn open(client: &Client, relay: &config::Relay, context: &SinkContext) -> Result<(), SinkError> {
    check(client, context).await?;
    let failed = |error| error::of(&error, context);
    let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1::text)";
    let row = client.query_one(there, &[&relay.publication]).await.map_err(failed)?;
    if row.get(0) {
        return Ok(());
    }
    let truncate = if relay.truncate { ", truncate" } else { "" };
    let create = format!(
        "CREATE PUBLICATION {} WITH (publish = 'insert, update, delete{truncate}')",
        quoted(&relay.publication)
    );
    client.batch_execute(&create).await.map_err(failed)?;
    tracing::info!(
        sink = context.sink,
        publication = relay.publication,
        "the relay's publication was made"
    );
    Ok(())
}

/// Puts a table into the publication and gives it its identity, where it isn't so.
pub(super) async fn table(
    client: &Client,
    relay: &config::Relay,
    relation: &Relation,
    context: &SinkContext,
) -> Result<(), SinkError> {
    let failed = |error| error::of(&error, context);
    // FULL of a partitioned table isn't that of its partitions, which are what is logged.
    let select = "SELECT ARRAY(SELECT t.relid::pg_catalog.regclass::text FROM pg_catalog.pg_partition_tree(c.oid) t \
                JOIN pg_catalog.pg_class m ON m.oid = t.relid WHERE m.relreplident <> 'f' \
            UNION SELECT c.oid::pg_catalog.regclass::text WHERE c.relreplident <> 'f'), \
        EXISTS (SELECT FROM pg_catalog.pg_publication p \
            LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid \
            WHERE p.pubname = $2::text AND (p.puballtables OR r.oid IS NOT NULL)) \
        FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1::text)";
    let name = qualified(relation);
    let row = client.query_opt(select, &[&name, &relay.publication]).await;
    let Some(row) = row.map_err(failed)? else { return Ok(()) };
    let (without_full, is_published): (Vec<String>, bool) = (row.get(0), row.get(1));
    let mut statements = Vec::new();
    if relay.full {
        let full = without_full
            .iter()
            .map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL"));
        statements.extend(full);
    }
    if !is_published {
        let publication = quoted(&relay.publication);
        // What inherits from it is none of ours.
        statements.push(format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {name}"));
    }
    if statements.is_empty() {
        return Ok(());
    }
    client.batch_execute(&statements.join("; ")).await.map_err(failed)?;
    tracing::info!(
        sink = context.sink,
        table = relation.full_name(),
        "the relay publishes the table"
    );
    Ok(())
}
