//! Some rows of a table as a route lets them out, and what its plugins make of them.

use super::routes::{Started, Way};
use crate::batch::{Batch, CopyUnit, Lsn, Origin, Part, Relation, Row, Transaction};
use crate::decode::CopyDecoder;
use crate::plugin::{ChainOutcome, Processed};
use crate::problem::{Exit, Problem};
use crate::sink::json;
use crate::source::catalog::Table;
use crate::source::server_text_of_rows;
use futures_util::StreamExt;
use postgres_protocol::escape::escape_identifier;
use std::sync::Arc;
use tokio_postgres::Client;

/// Rows of one table through one route.
#[derive(Clone, Debug)]
pub struct Sample {
    pub table: String,
    pub plugins: Vec<String>,
    pub sinks: Vec<String>,
    pub rows: Vec<SampledRow>,
}

/// One row, as JSON lines.
#[derive(Clone, Debug)]
pub struct SampledRow {
    /// With the columns that the route lets out.
    pub before: String,
    /// What leaves; empty where plugins keep the row back.
    pub after: Vec<String>,
}

/// Reads at most `rows` of the rows that would be copied, and sends each through the route's plugins.
pub(super) async fn read(
    client: &Client,
    table: &Table,
    way: &Way,
    started: &mut Started,
    rows: usize,
    system_identifier: u64,
) -> Result<Vec<SampledRow>, Box<Problem>> {
    let relation = &way.relation;
    let refused = |cause: String| {
        let headline = format!("rows of {} can't be read", relation.full_name());
        let help = "do what the server's message says, then check again";
        Box::new(Problem::new("E0609", Exit::Preflight, headline, help).with_cause(cause))
    };
    let by_server = |error: tokio_postgres::Error| refused(server_text_of_rows(&error));
    let statement = statement(table, relation, rows);
    let lines = client.copy_out(&statement).await.map_err(by_server)?;
    let mut lines = std::pin::pin!(lines);
    let mut decoder = CopyDecoder::new(Arc::clone(relation));
    // Asked again behind the last line, the stream takes what follows for an error.
    while let Some(line) = lines.next().await {
        let line = line.map_err(by_server)?;
        decoder.push(&line).map_err(|error| refused(error.to_string()))?;
    }
    let mut batch = decoder.finish(transaction(relation));
    let mut sampled = Vec::new();
    for row in batch.rows.clone() {
        let before = line(&batch, &row, system_identifier)?;
        let rows = through(started, relation, &mut batch, row)?;
        let after = rows.iter().map(|row| line(&batch, row, system_identifier));
        sampled.push(SampledRow {
            before,
            after: after.collect::<Result<_, _>>()?,
        });
    }
    Ok(sampled)
}

fn statement(table: &Table, relation: &Relation, rows: usize) -> String {
    let columns: Vec<String> = relation.columns.iter().map(|c| escape_identifier(&c.name)).collect();
    let only = if table.partitioned { "" } else { "ONLY " };
    let (schema, name) = (escape_identifier(&table.schema), escape_identifier(&table.table));
    let columns = columns.join(", ");
    let conditions = [&table.row_filter, &table.condition].into_iter().flatten();
    // A comment at its end must not take the bracket with it.
    let conditions: Vec<String> = conditions.map(|condition| format!("({condition}\n)")).collect();
    let keyword = if conditions.is_empty() { "" } else { " WHERE " };
    let conditions = conditions.join(" AND ");
    format!("COPY (SELECT {columns} FROM {only}{schema}.{name}{keyword}{conditions} LIMIT {rows}) TO STDOUT")
}

/// The rows count as the first unit of a copy.
fn transaction(relation: &Relation) -> Transaction {
    let unit = CopyUnit {
        table_oid: relation.oid,
        epoch: 0,
        unit: 0,
    };
    Transaction {
        xid: 0,
        commit_lsn: Lsn(0),
        end_lsn: Lsn(0),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Copy(unit),
    }
}

fn through(
    started: &mut Started,
    relation: &Arc<Relation>,
    batch: &mut Batch,
    row: Row,
) -> Result<Vec<Row>, Box<Problem>> {
    let Started::Chain(chain) = started else {
        return Ok(vec![row]);
    };
    let boxed = |error: crate::plugin::PluginError| Box::new(error.problem());
    let mut rows = vec![row];
    if chain.relation(relation).map_err(boxed)? != ChainOutcome::PassBy {
        let mut processed = Processed::default();
        chain.process(batch, &mut rows, &mut processed).map_err(boxed)?;
        if let Some(aside) = processed.aside.first() {
            return Err(Box::new(aside.problem()));
        }
    }
    Ok(rows)
}

fn line(batch: &Batch, row: &Row, system_identifier: u64) -> Result<String, Box<Problem>> {
    let bytes = json::line(batch, row, system_identifier).map_err(|error| {
        let headline = format!("a row of {} has no JSON form", batch.relation(row).full_name());
        let help = "`SHOW client_encoding` must be UTF8: correct `options` in source.postgres.url";
        Box::new(Problem::new("E0610", Exit::Preflight, headline, help).with_cause(error))
    })?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
