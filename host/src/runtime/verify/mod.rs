//! Compares the tables of Postgres sinks with the source's, while both may be at work.
//!
//! ```text
//!   each side      rows fall into buckets by the hash of their key: (rows, sum of hashes) of each      one scan
//!   they differ    (key's hash, row's hash) of every row in the buckets that differ                    one scan
//!   still differ   the same again, until what was under way has arrived, or the wait is over
//! ```
//!
//! Hashes are of the values' texts, with the same settings on both sides, so a column may have another type. Buckets
//! don't depend on the order of keys, which is a matter of each server's collations. A table's rows are those that the stream
//! has under its name: a partitioned one's are those of its partitions, where they come under its name, while what inherits
//! from another is a table of its own. A row that the source changes
//! between two looks is under way, and no difference.

mod compare;
mod sql;

use super::source::connect_source;
use crate::batch::Relation;
use crate::config::{Pipeline, PostgresSink, Route, SinkKind, WriteMode};
use crate::pipeline::takes;
use crate::postgres::{Conninfo, sql as connection};
use crate::problem::{Exit, Problem};
use crate::source::catalog::{self, Table};
use std::time::Duration;
use tokio_postgres::Client;

/// What was compared, and what wasn't.
#[derive(Debug, Default)]
pub struct Verified {
    pub tables: Vec<VerifiedTable>,
}

impl Verified {
    pub fn is_equal(&self) -> bool {
        self.tables
            .iter()
            .all(|table| !matches!(&table.outcome, Compared::Rows(rows) if rows.differs()))
    }
}

/// A table at one sink.
#[derive(Debug)]
pub struct VerifiedTable {
    pub sink: String,
    pub table: String,
    /// Columns that were compared.
    pub columns: Vec<String>,
    /// Columns that the target doesn't have or the route leaves out.
    pub left_out: Vec<String>,
    /// `snapshot: where` of the table: others than these rows aren't compared.
    pub condition: Option<String>,
    pub outcome: Compared,
}

#[derive(Debug)]
pub enum Compared {
    Rows(Rows),
    /// Why there is nothing to compare.
    Nothing(String),
}

/// Rows that were looked at, and those that differ.
#[derive(Debug, Default)]
pub struct Rows {
    pub source: u64,
    pub target: u64,
    pub differences: Vec<Difference>,
    /// Whether there are more than are listed.
    pub more: bool,
    /// Of a table without a key, where no row can be told from another.
    pub unnamed: bool,
    /// Rows that the source changed all the while.
    pub moving: u64,
}

impl Rows {
    pub fn differs(&self) -> bool {
        self.unnamed || !self.differences.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    /// `hashtextextended(ROW(key)::text, 0)`.
    pub key_hash: i64,
    /// The key's columns as Postgres writes a row: a row's values, for whoever asks for them.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Missing,
    Extra,
    Different,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "too much",
            Self::Different => "different",
        }
    }
}

/// Compares every table that goes to a Postgres sink, or to `only` that one. `wait` is how long rows may be under way.
///
/// # Errors
/// A side that can't be asked.
pub async fn verify(config: &Pipeline, only: Option<&str>, wait: Duration) -> Result<Verified, Box<Problem>> {
    let source = connect_source(config, "verify").await?;
    let catalog = match &config.source.publication {
        Some(publication) => catalog::read_publication(&source, publication).await?,
        None => catalog::read(&source, &config.source.tables).await?,
    };
    settle(&source, "the source").await?;
    let mut verified = Verified::default();
    for of_sink in &config.sinks {
        let SinkKind::Postgres(postgres) = &of_sink.kind else {
            continue;
        };
        if only.is_some_and(|only| only != of_sink.name) {
            continue;
        }
        let target = connect(config, &of_sink.name, postgres).await?;
        for table in &catalog.tables {
            let relation = super::copies::relation(table);
            let mut routes = config
                .routes
                .iter()
                .filter(|route| takes(route, &relation) && route.sinks.contains(&of_sink.name));
            let Some(route) = routes.next() else { continue };
            let conditions = &config.source.snapshot.conditions;
            let sides = Sides {
                source: &source,
                target: &target,
                sink: &of_sink.name,
                condition: conditions
                    .iter()
                    .find(|(name, _)| *name == table.full_name())
                    .map(|(_, of)| of.as_str()),
                wait,
            };
            verified
                .tables
                .push(match not_compared(table, postgres, route, routes.next()) {
                    Some(why) => VerifiedTable {
                        sink: of_sink.name.clone(),
                        table: table.full_name(),
                        columns: Vec::new(),
                        left_out: Vec::new(),
                        condition: None,
                        outcome: Compared::Nothing(why),
                    },
                    None => one(&sides, table, &relation, route).await?,
                });
        }
    }
    Ok(verified)
}

/// Both ends, which rows are compared, and how long what is under way may take.
struct Sides<'a> {
    source: &'a Client,
    target: &'a Client,
    sink: &'a str,
    /// As SQL. Rows that don't meet it were not copied; they are at the target only if the stream brought them.
    condition: Option<&'a str>,
    wait: Duration,
}

fn not_compared(table: &Table, sink: &PostgresSink, route: &Route, another: Option<&Route>) -> Option<String> {
    if table.row_filter.is_some() {
        return Some("the publication sends some of its rows alone".to_owned());
    }
    if sink.audit.is_some() || sink.mode == WriteMode::Append {
        return Some("the sink keeps changes, not rows".to_owned());
    }
    if another.is_some() {
        return Some("several routes bring it".to_owned());
    }
    let plugins = &route.plugins;
    (!plugins.is_empty()).then(|| {
        format!(
            "rows go through {}, which may leave out or rewrite any",
            plugins.join(", ")
        )
    })
}

async fn one(
    sides: &Sides<'_>,
    table: &Table,
    relation: &Relation,
    route: &Route,
) -> Result<VerifiedTable, Box<Problem>> {
    let there = sql::columns(sides.target, relation)
        .await
        .map_err(|error| failed(sides.sink, &error))?;
    let listed = |name: &String| route.columns.as_ref().is_none_or(|names| names.contains(name));
    let (mut columns, mut left_out) = (Vec::new(), Vec::new());
    for column in &relation.columns {
        let compared = listed(&column.name) && there.iter().any(|(names, _)| names.contains(&column.name));
        match compared {
            true => columns.push(column.name.clone()),
            false => left_out.push(column.name.clone()),
        }
    }
    let primary: Vec<String> = table.primary_key().map(|column| column.name.clone()).collect();
    let key = match primary.is_empty() {
        false => primary,
        true if table.columns.iter().all(|column| column.identity) => Vec::new(),
        true => relation.key_columns().map(|column| column.name.clone()).collect(),
    };
    let outcome = match &there {
        None => Compared::Nothing("the target has no such table".to_owned()),
        Some(_) if columns.is_empty() => Compared::Nothing("no column is on both sides".to_owned()),
        Some(_) if !key.iter().all(|name| columns.contains(name)) => {
            Compared::Nothing("the target lacks a column of the key".to_owned())
        }
        Some(_) if !takes_condition(sides, relation).await? => {
            Compared::Nothing("the target can't tell which rows meet its `where`".to_owned())
        }
        Some((_, rows)) => {
            let rows = [sql::Rows::of(table.partitioned), *rows];
            let shape = sql::Shape::new(relation, rows, &columns, &key, table.rows_estimated).only(sides.condition);
            let rows = compare::rows(sides.source, sides.target, &shape, sides.wait).await;
            Compared::Rows(rows.map_err(|error| failed(sides.sink, &error))?)
        }
    };
    Ok(VerifiedTable {
        sink: sides.sink.to_owned(),
        table: table.full_name(),
        columns,
        left_out,
        condition: sides.condition.map(str::to_owned),
        outcome,
    })
}

/// Whether the target's table has what the condition speaks of.
async fn takes_condition(sides: &Sides<'_>, relation: &Relation) -> Result<bool, Box<Problem>> {
    let Some(condition) = sides.condition else {
        return Ok(true);
    };
    match sides.target.prepare(&sql::that_meet(relation, condition)).await {
        Ok(_) => Ok(true),
        Err(error) if error.as_db_error().is_some() => Ok(false),
        Err(error) => Err(failed(sides.sink, &error)),
    }
}

async fn connect(config: &Pipeline, sink: &str, postgres: &PostgresSink) -> Result<Client, Box<Problem>> {
    let conninfo = Conninfo::parse(postgres.url.reveal()).map_err(|error| Box::new(Problem::from(error)))?;
    let client = connection::connect(&conninfo, &format!("rowmill_{}_verify", config.name)).await;
    let client = client.map_err(|error| Box::new(Problem::from(error)))?;
    settle(&client, &format!("sink {sink}")).await?;
    Ok(client)
}

async fn settle(client: &Client, side: &str) -> Result<(), Box<Problem>> {
    let set = client.batch_execute(sql::SETTINGS).await;
    set.map_err(|error| failed(side, &error))
}

/// The server's text is passed on only where it can't quote a value.
fn failed(side: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    let headline = format!("{side}: the tables can't be compared");
    let help = "let the role read the tables on both sides: GRANT SELECT";
    let cause = match error.as_db_error() {
        Some(error) if error.code().code().starts_with("22") => format!("SQLSTATE {}", error.code().code()),
        Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        None => error.to_string(),
    };
    Box::new(Problem::new(super::codes::NOT_COMPARED, Exit::Sink, headline, help).with_cause(cause))
}
