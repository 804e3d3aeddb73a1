//! All that stands in the way of streaming from a database, found in one go. Nothing is changed.
//!
//! Each finding names the object and one fix. A problem stops the start; a notice is worth knowing and doesn't.

mod binary;
pub mod codes;
mod conditions;
mod failover;
mod publication;
mod server;
mod settings;
mod slot;
mod tables;
mod two_phase;

pub use failover::VERSION_FIRST as FAILOVER_VERSION_FIRST;
pub use server::{Provider, Server};
pub use settings::pooled_host;

use super::catalog::{self, Catalog};
use super::slot::SlotState;
use crate::config::{Source, TablePattern};
use crate::decode::Types;
use crate::problem::{Exit, Problem};
use std::sync::Arc;
use tokio_postgres::Client;

/// What is to be streamed, and through which objects.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub pipeline: &'a str,
    /// As the connection string has it; `None` for a Unix socket.
    pub host: Option<&'a str>,
    pub tables: &'a [TablePattern],
    /// A publication to adopt.
    pub publication: Option<&'a str>,
    pub slot: &'a str,
    /// Tables that are copied already: the stream needs no SELECT.
    pub copied: &'a [u32],
    /// The publication is our own and has been streamed from: tables that it lacks are added, others are dropped.
    pub adjusts: bool,
    /// `schema.table` and what its copied rows must meet, as SQL.
    pub conditions: &'a [(String, String)],
    /// Values are to come in binary form.
    pub binary: bool,
    /// Whether prepared transactions are asked for.
    pub two_phase: bool,
    /// Whether the slot is to be a failover slot; `None` where it is one if the server can.
    pub failover_slot: Option<bool>,
}

impl<'a> Request<'a> {
    /// The request of a configured source; `slot` is the configured one or [`super::publication::own_name`].
    pub fn of(pipeline: &'a str, source: &'a Source, slot: &'a str, host: Option<&'a str>) -> Self {
        Self {
            pipeline,
            host,
            tables: &source.tables,
            publication: source.publication.as_deref(),
            slot,
            copied: &[],
            adjusts: false,
            conditions: &source.snapshot.conditions,
            binary: source.binary,
            two_phase: source.two_phase,
            failover_slot: source.failover_slot,
        }
    }
}

/// Something worth knowing that doesn't stop the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub code: &'static str,
    pub level: Level,
    /// As a problem's: at most 80 columns, lowercase start.
    pub headline: String,
    /// Names of tables and the like.
    pub detail: Option<String>,
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Warning,
    /// Only said by `check`.
    Info,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    pub problems: Vec<Problem>,
    pub notices: Vec<Notice>,
    pub server: Server,
    pub catalog: Catalog,
    /// `None` where the slot has yet to be made.
    pub slot: Option<SlotState>,
    /// The database's types, where values come in binary form.
    pub types: Option<Arc<Types>>,
}

impl Report {
    /// How the process ends because of what was found; `None` where nothing stands in the way.
    pub fn exit(&self) -> Option<Exit> {
        let gap = self.problems.iter().find(|problem| problem.exit == Exit::Gap);
        gap.or(self.problems.first()).map(|problem| problem.exit)
    }
}

/// Findings under way.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    notices: Vec<Notice>,
}

impl Findings {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn note(&mut self, level: Level, code: &'static str, text: String, detail: Option<String>, help: Option<String>) {
        self.notices.push(Notice {
            code,
            level,
            headline: super::failure::headline(text),
            detail,
            help,
        });
    }
}

/// Looks at everything. Fails only where the database can't be asked.
pub async fn run(client: &Client, request: &Request<'_>) -> Result<Report, Box<Problem>> {
    let mut findings = Findings::default();
    findings.problems.extend(request.host.and_then(pooled_host));
    let server = server::read(client).await?;
    if let Some(problem) = settings::too_old(server.version) {
        return Err(Box::new(problem));
    }
    let slot = super::slot::state(client, request.slot).await?;
    settings::check(client, &server, request, slot.is_some(), &mut findings).await?;
    let mut catalog = catalog::read_selected(client, request.tables, request.publication).await?;
    conditions::check(client, request.conditions, &mut catalog, &mut findings).await;
    let published = publication::check(client, &server, request, &catalog, &mut findings).await?;
    tables::check(&server, &catalog, published, request.copied, &mut findings);
    let types = binary::check(client, &server, request, &catalog, &mut findings).await?;
    two_phase::check(&server, slot.as_ref(), request, &mut findings);
    failover::check(client, &server, slot.as_ref(), request, &mut findings).await?;
    if let Some(slot) = &slot {
        slot::check(slot, &server, &mut findings);
    }
    Ok(Report {
        problems: findings.problems,
        notices: findings.notices,
        server,
        catalog,
        slot,
        types,
    })
}

#[cfg(test)]
mod tests;
