//! Copies that the running session begins: of a table that is to be copied again, and of one that has come or comes back.
//!
//! ```text
//!   resync, a new table --> ledger --> planned --> the receiving loop --> queue --> intake: joins at a commit's end
//!                             |           |              |                            |
//!                          durable     durable      the decoder knows          from here on the tables are under copy,
//!                                                    the table                 and only now they are read
//! ```
//!
//! The way through the receiving loop is that of the bytes: what was decoded before joins before, and what is decoded
//! later knows the table as the catalog has it. The ledger has the copy before anything of it happens, so a session that
//! ends anywhere in between leaves it to the next.
//!
//! A session ends for a copy only where it lacks what the copy needs: see [`Joining::lacks`].

use super::copies;
use super::process::Process;
use super::receive::Joined;
use super::source::Streamed;
use super::{late_sinks, membership, tables, types};
use crate::checkpoint::TableCopy;
use crate::failpoint;
use crate::problem::Problem;
use crate::sink::UserTypes;
use crate::snapshot::{Copier, Merger};
use crate::source::catalog::{self, Catalog};
use crate::source::preflight::{self, Report, Request, codes};
use crate::source::publication;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// How often a session looks for tables that have come: soon enough for people, seldom enough for the catalog.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Looks after which a table that was refused is tried again.
const LOOKS_PER_TRY: u32 = 12;
/// Copies under way in one session. Each has connections of its own, as many as `snapshot.connections`: those that come
/// beyond share them, in another session.
const COPIES_MAX: usize = 4;

/// The tasks that read what is copied, which end with the session.
#[derive(Debug, Default)]
pub(super) struct Copiers(Arc<Mutex<Vec<Copier>>>);

impl Copiers {
    pub(super) fn new(first: Copier) -> Self {
        Self(Arc::new(Mutex::new(vec![first])))
    }

    fn added_to(&self) -> Weak<Mutex<Vec<Copier>>> {
        Arc::downgrade(&self.0)
    }
}

/// What a session has that a copy needs to join it.
pub(super) struct Joining {
    streamed: HashSet<u32>,
    /// The settings that the session has taken up, see [`Process::settings`].
    settings: u64,
    types: Arc<UserTypes>,
    /// Tables whose copied rows go to some of their sinks alone.
    only: Vec<u32>,
    /// Gone with the session.
    copiers: Weak<Mutex<Vec<Copier>>>,
    joins: mpsc::Sender<Joined>,
}

impl Joining {
    pub(super) fn new(
        catalog: &Catalog,
        settings: u64,
        types: Arc<UserTypes>,
        only: Vec<u32>,
        copiers: &Copiers,
        joins: mpsc::Sender<Joined>,
    ) -> Self {
        Self {
            streamed: oids(catalog),
            settings,
            types,
            only,
            copiers: copiers.added_to(),
            joins,
        }
    }

    /// Looks for copies that are wanted and tables that have come, and takes up those that can be. Never returns.
    pub(super) async fn watch(mut self, process: &Arc<Process>, client: &Client) {
        let mut refused = HashSet::new();
        for look in 1_u32.. {
            let asked = tokio::select! {
                () = process.asked_for_copies.notified() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let missing = match self.missing(process, client).await {
                Ok(missing) => missing,
                Err(problem) => {
                    tracing::debug!(cause = problem.cause, "{}", problem.headline);
                    continue;
                }
            };
            let is_known = !asked && missing.iter().all(|oid| refused.contains(oid));
            if missing.is_empty() || is_known && !look.is_multiple_of(LOOKS_PER_TRY) {
                continue;
            }
            match self.take_up(process, client).await {
                Ok(None) => refused.clear(),
                Ok(Some(_)) if is_known => {}
                Ok(Some(problem)) => {
                    tracing::warn!(
                        code = problem.code,
                        cause = problem.cause,
                        help = problem.help,
                        "a table has come that can't be streamed: {}",
                        problem.headline
                    );
                    refused.extend(missing);
                }
                Err(problem) => tracing::debug!(cause = problem.cause, "{}", problem.headline),
            }
        }
    }

    /// The tables that have come, or come back, those that our publication lacks, and those that are to be copied again.
    async fn missing(&self, process: &Process, client: &Client) -> Result<Vec<u32>, Box<Problem>> {
        let config = process.config();
        if !self.has_settings_of(process) {
            // Another session is about to begin, with other tables.
            return Ok(Vec::new());
        }
        let adopted = config.source.publication.as_deref();
        let found = catalog::selected(client, &config.source.tables, adopted).await?;
        let mut missing: HashSet<u32> = copies::fresh(process)?.iter().map(|copy| copy.table_oid).collect();
        missing.extend(found.iter().filter(|oid| !self.streamed.contains(*oid)));
        // Changes that are made while it isn't there end the session.
        if let Some(state) = publication::state(client, &publication::name(&config.name, adopted)).await? {
            let found: HashSet<u32> = found.into_iter().collect();
            membership::follow(process, &state, &found)?;
            let published: HashSet<u32> = state.tables.iter().map(|table| table.oid).collect();
            let returning = tables::returning(process)?;
            let is_back = |oid: &&u32| match published.contains(*oid) {
                true => returning.contains(*oid),
                // One that was adopted is altered by its owner alone.
                false => adopted.is_none(),
            };
            missing.extend(found.iter().filter(is_back));
        }
        Ok(missing.into_iter().collect())
    }

    /// Has the copies join, or lets another session begin that has what they need. Returns what stands in the way of the
    /// tables: another session would end by it, and with it all other tables.
    async fn take_up(&mut self, process: &Arc<Process>, client: &Client) -> Result<Option<Problem>, Box<Problem>> {
        let report = look(process, client).await?;
        let in_the_way = |problem: &&Problem| !codes::OF_RUNNING.contains(&problem.code);
        if let Some(problem) = report.problems.iter().find(in_the_way) {
            return Ok(Some(problem.clone()));
        }
        if !self.has_settings_of(process) {
            // Another session is about to begin, and will find them.
            return Ok(None);
        }
        let user_types = types::load(client, &process.config()).await;
        let user_types = user_types.map_err(|error| Box::new(unreadable(&error)))?;
        if let Some(reason) = self.lacks(process, &report.catalog, &user_types)? {
            process.begin_again(reason);
            return Ok(None);
        }
        let publication = match membership::ensure(process, client, &report.catalog.tables, false).await {
            Ok((publication, _)) => publication,
            // Its help is the statement for who may.
            Err(problem) if problem.code == codes::PUBLICATION_DIFFERS => return Ok(Some(*problem)),
            Err(problem) => return Err(problem),
        };
        self.join(process, report, publication.updates).await?;
        Ok(None)
    }

    /// Why another session has to begin for these tables.
    fn lacks(
        &self,
        process: &Process,
        catalog: &Catalog,
        user_types: &UserTypes,
    ) -> Result<Option<&'static str>, Problem> {
        let found = oids(catalog);
        let mut wanted = tables::returning(process)?;
        wanted.extend(copies::fresh(process)?.iter().map(|copy| copy.table_oid));
        wanted.retain(|oid| found.contains(oid));
        let is_new = |oid: &u32| wanted.contains(oid) || !self.streamed.contains(oid);
        let mut tables = catalog.tables.iter().filter(|table| is_new(&table.oid));
        let are_known = *self.types == *user_types;
        let is_known = |oid: &u32| are_known || !user_types.0.contains_key(oid);
        let under_way = self.copiers.upgrade().map_or(0, |copiers| under_way(&copiers));
        Ok(match () {
            () if self.streamed.iter().any(|oid| !found.contains(oid)) => Some("tables have come and others have gone"),
            // Where their rows go is fixed for a session.
            () if wanted.iter().any(|oid| self.only.contains(oid)) => {
                Some("a table is copied again that is being copied for sinks that have come")
            }
            () if !tables.all(|table| table.columns.iter().all(|column| is_known(&column.type_oid))) => {
                Some("a table has types that the sinks don't know yet")
            }
            () if under_way >= COPIES_MAX => Some("many copies are under way: they go on as one"),
            () => None,
        })
    }

    async fn join(&mut self, process: &Arc<Process>, report: Report, sends_updates: bool) -> Result<(), Box<Problem>> {
        let streamed = oids(&report.catalog);
        let (of, before) = (Arc::clone(process), self.streamed.clone());
        let planning = tokio::task::spawn_blocking(move || plan(&of, &report, sends_updates, &before));
        let planned = planning.await;
        let planned = planned.unwrap_or_else(|error| Err(Box::new(super::failure::bug(&format!("planning: {error}")))));
        let Some((joined, copier)) = planned? else {
            // Where their rows go is fixed for a session.
            process.begin_again("a table goes to sinks that lack it");
            return Ok(());
        };
        if !self.has_settings_of(process) {
            return Ok(());
        }
        // Where the session ends, the next one finds them in the ledger.
        let Some(copiers) = self.copiers.upgrade() else {
            return Ok(());
        };
        let mut copiers = copiers.lock().unwrap_or_else(PoisonError::into_inner);
        copiers.retain(|copier| !copier.is_over());
        copiers.extend(copier);
        drop(copiers);
        if self.joins.try_send(joined).is_err() {
            process.begin_again("the session takes no copies up");
        }
        self.streamed = streamed;
        Ok(())
    }

    fn has_settings_of(&self, process: &Process) -> bool {
        process.settings.load(Ordering::Acquire) == self.settings
    }
}

/// Enters in the ledger what has come, and plans what no session has planned: `None` where that takes another session, as
/// there are tables among it whose copied rows go to some of their sinks alone. Blocks.
fn plan(
    process: &Arc<Process>,
    report: &Report,
    sends_updates: bool,
    before: &HashSet<u32>,
) -> Result<Option<(Joined, Option<Copier>)>, Box<Problem>> {
    let catalog = &report.catalog;
    tables::follow(process, catalog)?;
    late_sinks::follow(process, catalog)?;
    let wanted: Vec<TableCopy> = copies::fresh(process)?;
    // Known by now, as one that got a name which another route takes as well.
    if wanted.iter().any(|copy| !copy.reach.only.is_empty()) {
        return Ok(None);
    }
    let names: Vec<&str> = wanted.iter().map(|copy| copy.table.as_str()).collect();
    tracing::info!(tables = ?names, "copied beside the running stream");
    let is_wanted = |oid| wanted.iter().any(|copy| copy.table_oid == oid);
    let of_catalog = catalog.tables.iter();
    let new = of_catalog.filter(|table| is_wanted(table.oid) || !before.contains(&table.oid));
    let hints = new.map(copies::hint).collect();
    let streamed = Streamed {
        catalog,
        types: report.types.as_ref(),
        sends_updates,
        server_version: u32::try_from(report.server.version).unwrap_or_default(),
    };
    let (copier, merger) = match wanted.is_empty() {
        true => (None, None),
        false => {
            let (copier, merger): (Copier, Merger) = copies::beside(process, wanted, &streamed)?;
            (Some(copier), Some(Box::new(merger)))
        }
    };
    failpoint::pass(failpoint::AFTER_COPY_PLANNED);
    process.streams(catalog);
    Ok(Some((Joined { hints, merger }, copier)))
}

/// All that a start would look at.
async fn look(process: &Process, client: &Client) -> Result<Report, Box<Problem>> {
    let (config, slot) = (process.config(), process.slot());
    let copied = copies::finished(process)?;
    let request = Request {
        copied: &copied,
        adjusts: true,
        ..Request::of(&config.name, &config.source, &slot, None)
    };
    preflight::run(client, &request).await
}

fn oids(catalog: &Catalog) -> HashSet<u32> {
    catalog.tables.iter().map(|table| table.oid).collect()
}

fn under_way(copiers: &Mutex<Vec<Copier>>) -> usize {
    let copiers = copiers.lock().unwrap_or_else(PoisonError::into_inner);
    copiers.iter().filter(|copier| !copier.is_over()).count()
}

fn unreadable(error: &tokio_postgres::Error) -> Problem {
    super::failure::bug(&format!("the source's types can't be read: {error}"))
}
