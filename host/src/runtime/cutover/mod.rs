//! Makes a target ready to take the source's place.
//!
//! ```text
//!   mark      a position behind all that is committed at the source       M
//!   wait      until everything before it is durable at the sinks          acknowledged >= M
//!   set       the target's sequences to where the source's are now
//!   compare   the tables, as `rowmill verify` does
//!   quiet?    no row has come to the target meanwhile, no sequence moved
//! ```
//!
//! The order is the argument: a row that is there at M has drawn its key before, so a sequence that is read later is
//! behind it. What commits later is seen by the row of `rowmill.positions`, which moves with rows alone. Sequences
//! are never set back, so all of it can be done again at any time, even when the target is in use already.

mod left;
mod position;
mod sequences;
mod stream;

pub use left::LeftBehind;
pub use position::{Position, Unfit};

use super::codes;
use super::source::connect_source;
use super::verify::{self, Verified};
use crate::batch::Lsn;
use crate::config::{Pipeline, PostgresSink, SinkKind, WriteMode};
use crate::pipeline::takes;
use crate::postgres::{Conninfo, sql};
use crate::problem::{Exit, Problem};
use crate::source::catalog::{self, Table};
use sequences::{ColumnName, Sequence, Sequences};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio_postgres::Client;

/// Names mean what the catalog says. A source whose writes were stopped by default is marked all the same.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET search_path = ''; SET statement_timeout = 0; \
    SET lock_timeout = '10s'; SET default_transaction_read_only = off";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct CutOverRequest {
    /// The sink; `None` for the only Postgres.
    pub sink: Option<String>,
    /// How long the stream may take to catch up, and rows to arrive.
    pub wait: Duration,
    /// Whether nothing may come any more.
    pub writes_stopped: bool,
    /// Values that the target's sequences leave free.
    pub margin: u32,
    /// Whether sequences that no column uses are set as well.
    pub all_sequences: bool,
    pub verify: bool,
}

/// What was done.
#[derive(Debug)]
pub struct CutOver {
    pub sink: String,
    /// Everything that was committed at the source before it is at the target.
    pub position: Lsn,
    pub sequences: Vec<SetSequence>,
    /// Columns, `schema.table.column`, whose default names a sequence that can't be told.
    pub untold: Vec<String>,
    pub verified: Option<Verified>,
    pub left_behind: LeftBehind,
    /// Whether no row came and no sequence moved since the position.
    pub quiet: bool,
}

impl CutOver {
    /// Whether the target can take the source's place as far as was looked.
    pub fn is_equal(&self) -> bool {
        self.untold.is_empty()
            && self.sequences.iter().all(|one| one.outcome.is_settled())
            && self.verified.as_ref().is_none_or(Verified::is_equal)
    }
}

/// A sequence of the target, or one that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSequence {
    /// As SQL writes it: the target's, or the source's where there is none.
    pub name: String,
    /// The source's sequences that it stands for.
    pub of: Vec<String>,
    /// `schema.table.column` that draw from it.
    pub columns: Vec<String>,
    pub outcome: Outcome,
    /// The value to come at the target; `None` where none is left, or there is no such sequence.
    pub next: Option<i64>,
    /// Whether the margin was left out for want of room.
    pub without_margin: bool,
    /// Whether it counts otherwise than at the source.
    pub other_rules: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Set,
    /// It was there already.
    Equal,
    /// It is further than the source's, and stays there.
    Ahead,
    Missing,
    Unfit(Unfit),
}

impl Outcome {
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Set | Self::Equal | Self::Ahead)
    }
}

/// Does it all, while a host runs that has copied everything.
///
/// # Errors
/// A sink that can't take a source's place, a side that can't be asked, a stream that doesn't catch up, writes that go
/// on where they were to have stopped. What was set stays set: the next try goes on from there.
pub async fn cut_over(config: &Pipeline, request: &CutOverRequest) -> Result<CutOver, Box<Problem>> {
    let (sink, postgres) = chosen(config, request.sink.as_deref())?;
    let source = connect_source(config, "cutover").await?;
    settle(&source, "the source").await?;
    let target = connect_target(config, sink, postgres).await?;
    let tables = tables(config, &source, sink).await?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    if request.writes_stopped {
        stream::no_writers(&source, &oids).await?;
    }
    let position = stream::mark(&source).await?;
    stream::passed(&source, &config.slot_name(), position, request.wait).await?;
    let delivered = stream::delivered(&target, &config.name, sink).await?;

    let names: BTreeSet<String> = tables.iter().map(Table::full_name).collect();
    let sides = read_sides(&source, &target, sink, &names, request.all_sequences).await?;
    let set = set_all(&sides, &target, sink, request.margin).await?;
    let untold = match request.all_sequences {
        true => Vec::new(),
        false => sequences::untold(&source)
            .await
            .map_err(|error| refused("the source", &error))?,
    };
    let untold = untold
        .into_iter()
        .filter(|(schema, table, _)| names.contains(&format!("{schema}.{table}")));
    let mut left_behind = left::behind(&source, &names)
        .await
        .map_err(|error| failed("the source", &error))?;
    left_behind.views = left::views(&target)
        .await
        .map_err(|error| failed(&format!("sink {sink}"), &error))?;
    // Where nothing is written everything has arrived.
    let under_way = if request.writes_stopped {
        Duration::ZERO
    } else {
        request.wait
    };
    let verified = match request.verify {
        true => Some(verify::verify(config, Some(sink), under_way).await?),
        false => None,
    };

    let moved = moved(&source, &sides).await?;
    if request.writes_stopped {
        if let Some(moved) = moved {
            return Err(still_written(format!("sequence {moved} has moved")));
        }
        stream::no_writers(&source, &oids).await?;
        let end = stream::end(&source).await?;
        stream::passed(&source, &config.slot_name(), end, request.wait).await?;
    }
    let quiet = moved.is_none() && stream::delivered(&target, &config.name, sink).await? == delivered;
    if request.writes_stopped && !quiet {
        return Err(still_written("rows came behind the position".to_owned()));
    }
    Ok(CutOver {
        sink: sink.to_owned(),
        position,
        sequences: set,
        untold: untold.map(|column| joined(&column)).collect(),
        verified,
        left_behind,
        quiet,
    })
}

/// A sink whose tables hold what the source's do.
fn chosen<'a>(config: &'a Pipeline, name: Option<&str>) -> Result<(&'a str, &'a PostgresSink), Box<Problem>> {
    let refuse = |cause: String, help: String| {
        let headline = "no sink of the pipeline can take the source's place";
        Err(Box::new(
            Problem::new(codes::NO_PLACE, Exit::Usage, headline, help).with_cause(cause),
        ))
    };
    let fit = config.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Postgres(postgres) if postgres.audit.is_none() && postgres.mode != WriteMode::Append => {
            Some((sink.name.as_str(), postgres))
        }
        _ => None,
    });
    let fit: Vec<_> = fit.filter(|(of, _)| name.is_none_or(|name| name == *of)).collect();
    match (fit.as_slice(), name) {
        ([one], _) => Ok(*one),
        ([], Some(name)) => refuse(
            format!("sink {name} is no Postgres that keeps rows"),
            "name a Postgres sink in mode `mirror` or `upsert`".to_owned(),
        ),
        ([], None) => refuse(
            "none is a Postgres that keeps rows".to_owned(),
            "give the pipeline a Postgres sink in mode `mirror`".to_owned(),
        ),
        ([(first, _), ..], _) => refuse(
            format!("there are {}, and one is asked for", fit.len()),
            format!("name it: `rowmill cutover --sink {first}`"),
        ),
    }
}

/// The tables whose rows go to the sink.
async fn tables(config: &Pipeline, source: &Client, sink: &str) -> Result<Vec<Table>, Box<Problem>> {
    let (patterns, publication) = (&config.source.tables, config.source.publication.as_deref());
    let mut tables = catalog::read_selected(source, patterns, publication).await?.tables;
    let goes = |table: &Table| {
        let relation = super::copies::relation(table);
        let mut routes = config.routes.iter().filter(|route| takes(route, &relation));
        routes.any(|route| route.sinks.iter().any(|name| name == sink))
    };
    tables.retain(goes);
    Ok(tables)
}

/// Both sides' sequences, and which of the target's stands for which of the source's.
struct Sides {
    source: Sequences,
    /// Where the source's are.
    source_at: HashMap<u32, Position>,
    target: Sequences,
    target_at: HashMap<u32, Position>,
    /// The source's that count, and the columns for which they do.
    wanted: BTreeMap<u32, Vec<ColumnName>>,
}

async fn read_sides(
    source: &Client,
    target: &Client,
    sink: &str,
    tables: &BTreeSet<String>,
    all: bool,
) -> Result<Sides, Box<Problem>> {
    let of_source = |error| refused("the source", &error);
    let at_target = format!("sink {sink}");
    let of_target = |error| refused(&at_target, &error);
    let from = sequences::read(source).await.map_err(of_source)?;
    let to = sequences::read(target).await.map_err(of_target)?;
    let mut wanted: BTreeMap<u32, Vec<ColumnName>> = BTreeMap::new();
    for (sequence, column) in &from.uses {
        if tables.contains(&format!("{}.{}", column.0, column.1)) {
            wanted.entry(*sequence).or_default().push(column.clone());
        }
    }
    if all {
        for sequence in from.all.keys() {
            wanted.entry(*sequence).or_default();
        }
    }
    let read = wanted.keys().filter_map(|oid| from.all.get(oid));
    let source_at = sequences::positions(source, read).await.map_err(of_source)?;
    let mut sides = Sides {
        source: from,
        source_at,
        target: to,
        target_at: HashMap::new(),
        wanted,
    };
    let pairs = sides.pairs();
    let read = pairs.keys().filter_map(|oid| sides.target.all.get(oid));
    sides.target_at = sequences::positions(target, read).await.map_err(of_target)?;
    Ok(sides)
}

impl Sides {
    /// The source's sequences by the target's that stand for them: what the same column draws from there, else one of
    /// the same name.
    fn pairs(&self) -> BTreeMap<u32, BTreeSet<u32>> {
        let mut pairs: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (of, columns) in &self.wanted {
            for there in self.counterparts(*of, columns) {
                pairs.entry(there).or_default().insert(*of);
            }
        }
        pairs
    }

    /// Columns say more than names: one may draw from a sequence of another name there. What no column uses has its name
    /// alone.
    fn counterparts(&self, of: u32, columns: &[ColumnName]) -> BTreeSet<u32> {
        let named = self.source.all.get(&of).and_then(|it| self.target.by_name(&it.name));
        let named = named.map(|it| it.oid);
        let of_column = |column| {
            let there = self.target.of_column(column);
            match named {
                Some(named) if there.contains(&named) => BTreeSet::from([named]),
                _ => there,
            }
        };
        let mut there: BTreeSet<u32> = columns.iter().flat_map(of_column).collect();
        if there.is_empty() {
            there.extend(named);
        }
        there
    }

    /// Columns of the source's sequence that draw from nothing at the target.
    fn lacking(&self, of: u32) -> Vec<String> {
        let columns = self.wanted.get(&of).into_iter().flatten();
        let lacking = columns.filter(|column| self.target.of_column(column).is_empty());
        lacking.map(joined).collect()
    }
}

/// Sets what is behind, and tells of all.
async fn set_all(sides: &Sides, target: &Client, sink: &str, margin: u32) -> Result<Vec<SetSequence>, Box<Problem>> {
    let pairs = sides.pairs();
    let mut told = Vec::new();
    for (oid, of) in &pairs {
        let (Some(there), Some(at)) = (sides.target.all.get(oid), sides.target_at.get(oid)) else {
            continue;
        };
        let mut one = planned(sides, there, *at, of, margin);
        if let (Outcome::Set, Some(goal)) = (one.0.outcome, one.1) {
            let set = sequences::set(target, there, goal).await;
            set.map_err(|error| refused(&format!("sink {sink}"), &error))?;
            one.0.next = goal.next_value(&there.rules);
        }
        told.push(one.0);
    }
    for of in sides.wanted.keys() {
        let (lacking, paired) = (
            sides.lacking(*of),
            pairs.values().any(|of_target| of_target.contains(of)),
        );
        let Some(sequence) = sides.source.all.get(of).filter(|_| !paired || !lacking.is_empty()) else {
            continue;
        };
        told.push(SetSequence {
            name: sequence.name.clone(),
            of: vec![sequence.name.clone()],
            columns: lacking,
            outcome: Outcome::Missing,
            next: None,
            without_margin: false,
            other_rules: false,
        });
    }
    Ok(told)
}

/// What becomes of a sequence of the target, and where it is to be.
fn planned(
    sides: &Sides,
    there: &Sequence,
    at: Position,
    of: &BTreeSet<u32>,
    margin: u32,
) -> (SetSequence, Option<Position>) {
    let rules = &there.rules;
    let columns = of.iter().filter_map(|of| sides.wanted.get(of)).flatten();
    let mut told = SetSequence {
        name: there.name.clone(),
        of: Vec::new(),
        columns: columns.map(joined).collect(),
        outcome: Outcome::Equal,
        next: at.next_value(rules),
        without_margin: false,
        other_rules: false,
    };
    let mut goal: Option<Position> = None;
    for from in of.iter().filter_map(|of| sides.source.all.get(of)) {
        told.of.push(from.name.clone());
        told.other_rules |= from.rules != *rules;
        let Some(position) = sides.source_at.get(&from.oid) else {
            continue;
        };
        match rules.goal(*position, &from.rules, margin) {
            Ok((one, without_margin)) => {
                told.without_margin |= without_margin;
                // The furthest of several.
                if goal.is_none_or(|goal| rules.is_behind(goal, one)) {
                    goal = Some(one);
                }
            }
            Err(unfit) => told.outcome = Outcome::Unfit(unfit),
        }
    }
    if let (Some(goal), true) = (goal, told.outcome == Outcome::Equal) {
        told.outcome = match (rules.is_behind(at, goal), rules.is_behind(goal, at)) {
            (true, _) => Outcome::Set,
            (false, true) => Outcome::Ahead,
            (false, false) => Outcome::Equal,
        };
    }
    (told, goal)
}

/// A sequence of the source that is elsewhere by now.
async fn moved(source: &Client, sides: &Sides) -> Result<Option<String>, Box<Problem>> {
    let read = sides.wanted.keys().filter_map(|oid| sides.source.all.get(oid));
    let now = sequences::positions(source, read)
        .await
        .map_err(|error| refused("the source", &error))?;
    let mut moved = sides
        .source_at
        .iter()
        .filter(|(oid, before)| now.get(oid) != Some(before));
    Ok(moved
        .find_map(|(oid, _)| sides.source.all.get(oid))
        .map(|it| it.name.clone()))
}

fn joined((schema, table, column): &ColumnName) -> String {
    format!("{schema}.{table}.{column}")
}

async fn connect_target(config: &Pipeline, sink: &str, postgres: &PostgresSink) -> Result<Client, Box<Problem>> {
    let conninfo = Conninfo::parse(postgres.url.reveal()).map_err(|error| Box::new(Problem::from(error)))?;
    let client = sql::connect(&conninfo, &format!("rowmill_{}_cutover", config.name)).await;
    let client = client.map_err(|error| Box::new(Problem::from(error)))?;
    settle(&client, &format!("sink {sink}")).await?;
    Ok(client)
}

async fn settle(client: &Client, side: &str) -> Result<(), Box<Problem>> {
    client
        .batch_execute(SETTINGS)
        .await
        .map_err(|error| failed(side, &error))
}

fn still_written(cause: String) -> Box<Problem> {
    let headline = "the source is still written to";
    let help = "stop what writes there, then run `rowmill cutover --writes-stopped` again";
    Box::new(Problem::new(codes::STILL_WRITTEN, Exit::Preflight, headline, help).with_cause(cause))
}

/// Of statements about sequences: what is lacking is a privilege.
fn refused(side: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    let headline = format!("{side}: the sequences can't be read or set");
    let help = "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO the role of the url";
    Box::new(Problem::new(codes::SEQUENCES_REFUSED, Exit::Sink, headline, help).with_cause(text(error)))
}

fn failed(side: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    let headline = format!("{side} can't be asked");
    let help = "run it against the primary, with the urls of the running pipeline";
    Box::new(Problem::new(codes::NOT_READY, Exit::Preflight, headline, help).with_cause(text(error)))
}

fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        None => error.to_string(),
    }
}
