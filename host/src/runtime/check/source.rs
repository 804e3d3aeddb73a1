//! The source as a start would find it: connections, preflight, and the position that the state has.

use super::super::process::Process;
use super::super::source::slot_state;
use super::super::{copies, history, timeline};
use super::Checked;
use crate::batch::Lsn;
use crate::checkpoint::{self, Commit, ServerState, StateStore, Stored};
use crate::config::Pipeline;
use crate::pipeline::{route_key, takes};
use crate::postgres::{Conninfo, sql};
use crate::problem::{Exit, Problem};
use crate::source::catalog::Catalog;
use crate::source::preflight::{self, codes};
use crate::source::replication::{Connection, SystemIdentity};
use std::collections::HashMap;
use tokio_postgres::Client;

/// What the other checks need of the source.
pub(super) struct Source {
    pub(super) client: Client,
    pub(super) report: preflight::Report,
    /// 0 where no replication connection came about.
    pub(super) system_identifier: u64,
    /// Columns that routes met before, by route and table.
    known: HashMap<(String, String), Vec<String>>,
}

impl Source {
    pub(super) fn known(&self, route: &str, table: &str) -> Option<Vec<String>> {
        self.known.get(&(route.to_owned(), table.to_owned())).cloned()
    }
}

/// The tables of a configuration that is to be taken up beside the running stream, and the cluster's identifier.
pub(super) async fn beside(process: &Process, config: &Pipeline) -> Result<(Catalog, u64), Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let application = format!("{}_check", process.application_name());
    let client = sql::connect(&process.source(), &application).await;
    let client = client.map_err(|error| one(error.into()))?;
    let copied = copies::finished(process).map_err(one)?;
    let slot = config.slot_name();
    let request = preflight::Request {
        copied: &copied,
        adjusts: true,
        ..preflight::Request::of(&config.name, &config.source, &slot, None)
    };
    let report = preflight::run(&client, &request).await;
    let mut report = report.map_err(|problem| one(*problem))?;
    report
        .problems
        .retain(|problem| !codes::OF_RUNNING.contains(&problem.code));
    if !report.problems.is_empty() {
        return Err(report.problems);
    }
    let stored = process.store.stored().map_err(one)?;
    let system_identifier = stored.map_or(0, |stored| stored.identity.system_identifier);
    Ok((report.catalog, system_identifier))
}

/// Looks at everything; `None` where nothing more can be said.
pub(super) async fn look(config: &Pipeline, checked: &mut Checked) -> Option<Source> {
    match look_or(config, checked).await {
        Ok(source) => Some(source),
        Err(problem) => {
            checked.problems.push(*problem);
            None
        }
    }
}

async fn look_or(config: &Pipeline, checked: &mut Checked) -> Result<Source, Box<Problem>> {
    let boxed = |problem: Problem| Box::new(problem);
    let conninfo = Conninfo::parse(config.source.url.reveal()).map_err(|error| boxed(error.into()))?;
    let host = super::super::source::host_name(&conninfo);
    if let Some(problem) = host.and_then(preflight::pooled_host) {
        return Err(boxed(problem));
    }
    let application = format!("rowmill_{}_check", config.name);
    let client = sql::connect(&conninfo, &application).await;
    let client = client.map_err(|error| boxed(error.into()))?;
    let slot = config.slot_name();
    let request = preflight::Request::of(&config.name, &config.source, &slot, host);
    let mut report = preflight::run(&client, &request).await?;
    let running = super::super::source::active_by_us(&conninfo, &config.name, report.slot.as_ref());
    if running {
        // What the running pipeline has taken is there for it.
        let taken = [codes::SLOT_ACTIVE, codes::SENDERS_TAKEN];
        report.problems.retain(|problem| !taken.contains(&problem.code));
    }
    let server = &report.server;
    checked.line(
        "source",
        format!(
            "PostgreSQL {} at {}, database {}, role {}",
            server.version_text,
            conninfo.hosts.first().map(|host| host.label()).unwrap_or_default(),
            server.database,
            server.role
        ),
    );
    checked.line(
        "slot",
        match (&report.slot, running) {
            (None, _) => format!("{slot}: will be made"),
            (Some(_), true) => format!("{slot}: this pipeline streams from it now"),
            (Some(_), false) => format!("{slot}: is there"),
        },
    );
    let (stored, last, known) = memory(config, &report, checked);
    let mut system_identifier = 0;
    if report.problems.is_empty() && !running {
        match identify(&conninfo, &application, stored.as_ref()).await {
            Ok((system, parts_at)) => {
                system_identifier = system.system_identifier;
                let problem = position(&slot, stored.as_ref(), &report, &system, parts_at);
                report.problems.extend(problem);
                if report.problems.is_empty() {
                    let seen = history::compare(&client, report.slot.as_ref(), stored.as_ref(), last).await;
                    report.problems.extend(seen.err().map(|problem| *problem));
                }
            }
            Err(problem) => report.problems.push(*problem),
        }
    }
    // As a report's own exit does: a gap counts before all else.
    report.problems.sort_by_key(|problem| problem.exit != Exit::Gap);
    checked.problems.append(&mut report.problems.clone());
    checked.notices.append(&mut report.notices.clone());
    Ok(Source {
        client,
        report,
        system_identifier,
        known,
    })
}

/// A replication connection, as the stream needs one: pg_hba.conf may treat it differently.
/// Also says where the server's timeline parts from that of the state, if it does.
async fn identify(
    conninfo: &Conninfo,
    application: &str,
    stored: Option<&Stored>,
) -> Result<(SystemIdentity, Option<Lsn>), Box<Problem>> {
    let connection = Connection::connect(conninfo, application).await;
    let mut connection = connection.map_err(|error| Box::new(Problem::from(error)))?;
    let refused = |error| Box::new(super::super::source::refused(&error));
    let system = connection.identify_system().await.map_err(refused)?;
    let timeline = timeline::look(&mut connection, stored, system.timeline).await;
    Ok((system, timeline.map_err(refused)?.parts_at))
}

/// Whether the stream can go on where the state says.
fn position(
    slot: &str,
    stored: Option<&Stored>,
    report: &preflight::Report,
    system: &SystemIdentity,
    parts_at: Option<Lsn>,
) -> Option<Problem> {
    let server = ServerState {
        system_identifier: system.system_identifier,
        timeline: system.timeline,
        lsn: system.lsn,
        database: report.server.database.clone(),
        parts_at,
    };
    let slot_state = slot_state(report.slot.as_ref());
    checkpoint::compare(slot, stored, slot_state.as_ref(), &server).err()
}

type Known = HashMap<(String, String), Vec<String>>;
type Memory = (Option<Stored>, Option<Commit>, Known);

/// What an earlier run has left; nothing is made where there is nothing. A running host holds its state, and then
/// checks its position itself.
fn memory(config: &Pipeline, report: &preflight::Report, checked: &mut Checked) -> Memory {
    let folder = config.state_dir.display();
    if !config.state_dir.join(StateStore::FILE).exists() {
        checked.line("state", format!("{folder}: none yet, a first run"));
        return Memory::default();
    }
    match read_memory(config, report) {
        Ok((stored, last, known)) => {
            let position = stored.as_ref().map(|stored| stored.lsn.to_string());
            let position = position.unwrap_or_else(|| "none".to_owned());
            checked.line("state", format!("{folder}: position {position}"));
            (stored, last, known)
        }
        Err(problem) if problem.code == checkpoint::STATE_HELD => {
            checked.line("state", format!("{folder}: held by a running rowmill"));
            Memory::default()
        }
        Err(problem) => {
            checked.problems.push(problem);
            Memory::default()
        }
    }
}

fn read_memory(config: &Pipeline, report: &preflight::Report) -> Result<Memory, Problem> {
    let store = StateStore::open(&config.state_dir, &config.name)?;
    let mut known = Known::new();
    for table in &report.catalog.tables {
        let relation = super::super::copies::relation(table);
        for route in config.routes.iter().filter(|route| takes(route, &relation)) {
            let (route, table) = (route_key(route), table.full_name());
            if let Some(columns) = store.route_columns(&route, &table)? {
                known.insert((route, table), columns);
            }
        }
    }
    Ok((store.stored()?, store.last_commit()?, known))
}
