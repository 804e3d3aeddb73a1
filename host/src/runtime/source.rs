//! From a connection string to a stream that can start: preflight, publication, the three positions, slot.

use super::process::Process;
use super::supervise::RunOptions;
use super::{check, copies, gap, history, late_sinks, membership, renamed, tables, timeline, two_phase};
use crate::batch::Lsn;
use crate::checkpoint::{self, Identity, ServerState, WalStatus, Warning};
use crate::config::Pipeline;
use crate::decode::Types;
use crate::failpoint;
use crate::postgres::{ConnectError, Conninfo, QueryError, install_crypto_provider, sql};
use crate::problem::{Exit, Problem};
use crate::source::catalog::{Catalog, Table};
use crate::source::preflight::{self, Level, Notice};
use crate::source::replication::Connection;
use crate::source::{monitor, slot};
use std::sync::Arc;

/// SQLSTATE object_in_use.
const SLOT_IN_USE: &str = "55006";
/// How long a server that has refused a query because it goes down takes to close the connection.
const HANG_UP_TIME: std::time::Duration = std::time::Duration::from_millis(500);

/// Why the stream can't start.
#[derive(Debug)]
pub(super) enum NotReady {
    /// A later try may succeed.
    Retry(String),
    /// Another consumer streams from the slot; it may be what is left of our own last connection.
    SlotTaken(Box<Problem>),
    /// The server doesn't let us in as we call ourselves: a secret may be on its way to us.
    Refused(Box<Problem>),
    Problem(Box<Problem>),
}

/// Everything that stands before the first byte of the stream.
pub(super) struct Ready {
    pub(super) connection: Connection,
    /// An ordinary connection beside the stream, which notices a server that shuts down.
    pub(super) monitor: tokio_postgres::Client,
    pub(super) catalog: Catalog,
    /// Where values come in binary form.
    pub(super) types: Option<Arc<Types>>,
    pub(super) publication: String,
    /// Whether that sends updates.
    pub(super) sends_updates: bool,
    pub(super) slot: String,
    pub(super) system_identifier: u64,
    pub(super) start: Lsn,
    /// How far the server's WAL was flushed just now.
    pub(super) flushed: Lsn,
}

/// What the server sends, as far as copies have to know.
pub(super) struct Streamed<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) types: Option<&'a Arc<Types>>,
    pub(super) sends_updates: bool,
    pub(super) server_version: u32,
}

impl<'a> Streamed<'a> {
    /// The table with this OID, where it is streamed.
    pub(super) fn table(&self, oid: u32) -> Option<&'a Table> {
        self.catalog.tables.iter().find(|table| table.oid == oid)
    }
}

impl Ready {
    pub(super) fn streamed(&self) -> Streamed<'_> {
        Streamed {
            catalog: &self.catalog,
            types: self.types.as_ref(),
            sends_updates: self.sends_updates,
            server_version: self.connection.server_version(),
        }
    }
}

pub(super) async fn prepare(process: &Process, options: RunOptions) -> Result<Ready, NotReady> {
    let application = process.application_name();
    let source = process.source();
    if let Some(problem) = host_name(&source).and_then(preflight::pooled_host) {
        return Err(boxed(problem));
    }
    let client = sql::connect(&source, &application).await.map_err(connect)?;
    let slot_name = process.slot();
    let mut report = preflighted(process, &source, &client, &slot_name, options).await?;
    let config = &process.config();
    let mut connection = Connection::connect(&source, &application).await.map_err(connect)?;
    let system = connection.identify_system().await.map_err(query)?;

    let stored = process.store.stored().map_err(boxed)?;
    let slot = slot_state(report.slot.as_ref());
    let looked = timeline::look(&mut connection, stored.as_ref(), system.timeline).await;
    let timeline = looked.map_err(query)?;
    let server = ServerState {
        system_identifier: system.system_identifier,
        timeline: system.timeline,
        lsn: system.lsn,
        database: report.server.database.clone(),
        parts_at: timeline.parts_at,
    };
    let compared = checkpoint::compare(&slot_name, stored.as_ref(), slot.as_ref(), &server);
    let behind_gap = gap::accepted(compared.as_ref().err(), stored.as_ref(), slot.as_ref(), options);
    let is_behind_gap = behind_gap.is_some();
    let start = match behind_gap {
        Some(start) => start,
        None => compared.map_err(boxed)?,
    };
    start.warnings.iter().for_each(warn);
    let last = process.store.last_commit().map_err(boxed)?;
    let seen = history::compare(&client, report.slot.as_ref(), stored.as_ref(), last).await;
    seen.map_err(NotReady::Problem)?;
    if let Some(stored) = &stored {
        timeline::follow(process, stored, &timeline).map_err(boxed)?;
    }

    if start.first_run {
        let problems = check::first_run(process, &report.catalog, system.system_identifier).await;
        first_of(problems)?;
    }

    renamed::follow(process, &report.catalog).map_err(boxed)?;
    let (publication, sends_updates) = loop {
        match membership::ensure(process, &client, &report.catalog.tables, start.first_run).await {
            Ok((publication, false)) => break (publication.name, publication.updates),
            // What was copied is to be copied again, which asks for more.
            Ok((_, true)) => report = preflighted(process, &source, &client, &slot_name, options).await?,
            Err(problem) => return Err(lost_or(&client, problem).await),
        }
    };
    if config.source.failover_slot == Some(true)
        && report.slot.as_ref().is_some_and(|slot| slot.failover == Some(false))
    {
        connection.make_failover_slot(&slot_name).await.map_err(query)?;
        tracing::info!(slot = slot_name, "standbys keep the slot from now on");
    }
    let lsn = match start.lsn {
        Some(lsn) => lsn,
        None => {
            let can = report.server.version >= preflight::FAILOVER_VERSION_FIRST;
            let kind = SlotKind {
                two_phase: config.source.two_phase,
                failover: config.source.failover_slot.unwrap_or(can),
            };
            process.store.set_own_slot(&slot_name).map_err(boxed)?;
            let made = create_slot(&mut connection, &client, &slot_name, kind).await?;
            failpoint::pass(failpoint::AFTER_SLOT_MADE);
            made
        }
    };
    if start.first_run {
        if config.source.two_phase {
            // One that an earlier start made, and got no further, has handed nothing to anybody.
            let is_own = process.store.own_slot().map_err(boxed)?.as_ref() == Some(&slot_name);
            let hands_over = !is_own && report.slot.as_ref().is_some_and(|slot| slot.two_phase);
            two_phase::begin(process, &client, hands_over).await?;
        }
        begin(process, &report.catalog, lsn, start.lsn.is_some())?;
    } else {
        // Until now it has handed nothing over. From this start on it does: the server marks it so.
        if config.source.two_phase && report.slot.as_ref().is_some_and(|slot| !slot.two_phase) {
            two_phase::begin(process, &client, false).await?;
        }
        tables::follow(process, &report.catalog).map_err(boxed)?;
    }
    if is_behind_gap {
        if config.source.two_phase {
            let hands_over = report.slot.as_ref().is_some_and(|slot| slot.two_phase);
            two_phase::begin(process, &client, hands_over).await?;
        }
        gap::pass(process, lsn).map_err(boxed)?;
    }
    late_sinks::follow(process, &report.catalog).map_err(boxed)?;
    let identity = Identity {
        pipeline: config.name.clone(),
        system_identifier: system.system_identifier,
        timeline: timeline.number,
        began: timeline.began.map(|began| began.0),
        database: report.server.database,
        slot: slot_name.clone(),
        publication: publication.clone(),
    };
    process.store.set_identity(&identity).map_err(boxed)?;
    Ok(Ready {
        connection,
        monitor: client,
        catalog: report.catalog,
        types: report.types,
        publication,
        sends_updates,
        slot: slot_name,
        system_identifier: system.system_identifier,
        start: lsn,
        flushed: system.lsn,
    })
}

async fn preflighted(
    process: &Process,
    source: &Conninfo,
    client: &tokio_postgres::Client,
    slot: &str,
    options: RunOptions,
) -> Result<preflight::Report, NotReady> {
    let config = &process.config();
    let host = host_name(source);
    let copied = copies::finished(process).map_err(boxed)?;
    let has_run = process.store.stored().map_err(boxed)?.is_some();
    let request = preflight::Request {
        copied: &copied,
        adjusts: has_run,
        ..preflight::Request::of(&config.name, &config.source, slot, host)
    };
    let mut report = look(client, &request).await?;
    let taken = |problem: &&Problem| problem.code == preflight::codes::SLOT_ACTIVE;
    // At a start alone: two hosts that take it from each other whenever they lose it would never come to an end.
    if config.source.takeover && !process.has_streamed() && report.problems.iter().any(|problem| taken(&problem)) {
        match slot::take_over(client, slot).await {
            Ok(Some(consumer)) => tracing::warn!(slot, %consumer, "the slot was taken over: its consumer was ended"),
            Ok(None) => {}
            Err(problem) => return Err(lost_or(client, problem).await),
        }
        report = look(client, &request).await?;
    }
    if let Err(problem) = gap::drop_lost(client, &mut report, process, options).await {
        return Err(lost_or(client, problem).await);
    }
    // What the monitor says of the slot for as long as it streams is told by that.
    let is_told = |notice: &&Notice| notice.level == Level::Warning && notice.code != preflight::codes::SLOT_AT_RISK;
    report.notices.iter().filter(is_told).for_each(note);
    // The walsender of a connection that broke just now lives on until the server notices.
    // It may be the last one that the server has.
    let passing = [preflight::codes::SLOT_ACTIVE, preflight::codes::SENDERS_TAKEN];
    if let Some(taken) = report.problems.iter().find(taken)
        && report.problems.iter().all(|problem| passing.contains(&problem.code))
        && active_by_us(source, &config.name, report.slot.as_ref())
    {
        return Err(NotReady::SlotTaken(Box::new(taken.clone())));
    }
    first_of(report.problems.clone())?;
    Ok(report)
}

async fn look(
    client: &tokio_postgres::Client,
    request: &preflight::Request<'_>,
) -> Result<preflight::Report, NotReady> {
    match preflight::run(client, request).await {
        Ok(report) => Ok(report),
        Err(problem) => Err(lost_or(client, problem).await),
    }
}

/// An ordinary connection to the source, for a verb that asks something and ends.
///
/// # Errors
/// A connection string that can't be used, a server that can't be reached.
pub async fn connect_source(config: &Pipeline, verb: &str) -> Result<tokio_postgres::Client, Box<Problem>> {
    install_crypto_provider();
    let boxed = |problem: Problem| Box::new(problem);
    let conninfo = Conninfo::parse(config.source.url.reveal()).map_err(|error| boxed(error.into()))?;
    let client = sql::connect(&conninfo, &format!("rowmill_{}_{verb}", config.name)).await;
    client.map_err(|error| boxed(error.into()))
}

/// The name of the source's database; empty where the url can't be read, which is told elsewhere.
pub(super) fn database(config: &Pipeline) -> String {
    Conninfo::parse(config.source.url.reveal()).map_or_else(|_| String::new(), |source| source.dbname)
}

/// Each is logged; the first decides how the process ends.
fn first_of(problems: Vec<Problem>) -> Result<(), NotReady> {
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(()) };
    problems.for_each(|problem| tracing::error!(code = problem.code, help = problem.help, "{}", problem.headline));
    Err(boxed(first))
}

/// The host as the connection string has it; `None` for a Unix socket.
pub(super) fn host_name(source: &Conninfo) -> Option<&str> {
    let host = source.hosts.first().map(|host| host.name());
    host.filter(|name| !name.starts_with('/'))
}

/// Whether whoever streams from the slot calls itself as we do, or has gone meanwhile.
pub(super) fn active_by_us(source: &Conninfo, pipeline: &str, slot: Option<&slot::SlotState>) -> bool {
    let Some(consumer) = slot.and_then(|slot| slot.active.as_ref()) else {
        return false;
    };
    let own = format!("rowmill_{pipeline}");
    let own = source.application_name.as_deref().unwrap_or(&own);
    consumer.application_name.as_deref().is_none_or(|name| name == own)
}

/// The first start: the position and the tables to be copied are stored before anything streams. A slot that is made waits for
/// transactions that have begun before; one that is `adopted` may stream what they did without the tables that were published
/// since, so that their end is waited for before a table is read.
fn begin(process: &Process, catalog: &Catalog, lsn: Lsn, adopted: bool) -> Result<(), NotReady> {
    use crate::checkpoint::{CopyState, Reach, TableCopy};
    let wanted = process.config().source.snapshot.mode == crate::config::SnapshotMode::Initial;
    for table in catalog.tables.iter().filter(|_| wanted) {
        let name = format!("{}.{}", table.schema, table.table);
        let copy = TableCopy {
            table_oid: table.oid,
            table: name,
            epoch: 0,
            began: 0,
            state: CopyState::Planned,
            basis: String::new(),
            empties: false,
            joined: adopted,
            altered: false,
            reach: Reach::default(),
        };
        process.store.set_copy(&copy, &[]).map_err(boxed)?;
    }
    if !adopted {
        process.store.set_begun(lsn).map_err(boxed)?;
    }
    process.store.advance(Some(lsn), &[]).map_err(boxed)
}

/// What a slot is made as.
struct SlotKind {
    two_phase: bool,
    failover: bool,
}

async fn create_slot(
    connection: &mut Connection,
    client: &tokio_postgres::Client,
    name: &str,
    kind: SlotKind,
) -> Result<Lsn, NotReady> {
    let creating = connection.create_logical_slot(name, kind.two_phase, kind.failover);
    tokio::pin!(creating);
    loop {
        tokio::select! {
            created = &mut creating => return created.map_err(query),
            () = tokio::time::sleep(std::time::Duration::from_secs(5)) => {
                let blockers = slot::blockers(client).await.unwrap_or_default();
                let pids: Vec<i32> = blockers.iter().filter_map(|blocker| blocker.pid).collect();
                tracing::info!(slot = name, waiting_for_pids = ?pids, "the slot waits for transactions that are running");
            }
        }
    }
}

pub(super) fn slot_state(slot: Option<&slot::SlotState>) -> Option<checkpoint::SlotState> {
    let slot = slot?;
    Some(checkpoint::SlotState {
        confirmed_flush: Lsn(slot.confirmed_flush_lsn.unwrap_or_default()),
        restart_lsn: slot.restart_lsn.map(Lsn),
        wal_status: slot.wal_status.as_deref().and_then(WalStatus::from_text),
        plugin: slot.plugin.clone().unwrap_or_default(),
        database: slot.database.clone().unwrap_or_default(),
    })
}

fn warn(warning: &Warning) {
    match warning {
        Warning::NewTimeline { stored, server } => {
            tracing::warn!(
                stored,
                server,
                "the server was promoted; our position is on the common part of its history"
            );
        }
        Warning::AdoptedSlot => tracing::info!("the slot was there before; the stream begins at its position"),
        Warning::WalAtRisk => tracing::warn!("the server may give the slot's WAL away at its next checkpoint"),
    }
}

fn note(notice: &Notice) {
    let detail = notice.detail.as_deref().unwrap_or_default();
    tracing::warn!(code = notice.code, detail, "{}", notice.headline);
}

fn boxed(problem: Problem) -> NotReady {
    NotReady::Problem(Box::new(problem))
}

fn connect(error: ConnectError) -> NotReady {
    if error.is_transient() {
        NotReady::Retry(error.to_string())
    } else if error.is_of_the_login() {
        NotReady::Refused(Box::new(error.into()))
    } else {
        boxed(error.into())
    }
}

/// A problem of a connection that is gone is worth another try; any other is what it says. A server that goes down says
/// so before it hangs up.
async fn lost_or(client: &tokio_postgres::Client, problem: Box<Problem>) -> NotReady {
    match tokio::time::timeout(HANG_UP_TIME, monitor::until_closed(client)).await {
        Ok(()) => NotReady::Retry(problem.headline),
        Err(_) => NotReady::Problem(problem),
    }
}

pub(super) fn query(error: QueryError) -> NotReady {
    if error.is_transient() {
        return NotReady::Retry(error.to_string());
    }
    if error.sqlstate == SLOT_IN_USE {
        let help = "stop the other consumer of the slot, then start again";
        let headline = "the replication slot is in use by another consumer";
        let problem = Problem::new(preflight::codes::SLOT_ACTIVE, Exit::Preflight, headline, help);
        return NotReady::SlotTaken(Box::new(problem.with_cause(error)));
    }
    boxed(refused(&error))
}

/// An answer of the server's that no retry changes.
pub(super) fn refused(error: &QueryError) -> Problem {
    let help = "do what the server's message says, then start again";
    Problem::new("E0259", Exit::Preflight, "the server refuses to stream", help).with_cause(error)
}
