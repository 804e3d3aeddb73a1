//! Tables that come and go while the pipeline lives: each start compares what is streamed now with the ledger, and a
//! running session looks now and then whether there are others.
//!
//! A table that has come is copied beside the stream, as on a first run. What the server sends of it begins where the
//! publication has it (it decodes with the catalog as of the change), so its copy has to show all that was committed
//! before: the publication has the table by the time the session begins, and every snapshot of the copy is taken
//! later. A transaction that had begun by then may have changed the table before and commits afterwards, with nothing
//! of it in the stream. So the copy waits until all of those have ended (`TableCopy::joined`).
//!
//! A table that has gone is remembered: what is at the targets grows old, and when it comes back they are emptied
//! before it is copied again.

use super::process::Process;
use super::{copies, heartbeat, partitions};
use crate::checkpoint::{CopyState, Reach, TableCopy};
use crate::config::SnapshotMode;
use crate::problem::Problem;
use crate::source::catalog::{self, Catalog};
use crate::source::preflight::{self, Request, codes};
use std::collections::HashSet;
use std::time::Duration;
use tokio_postgres::Client;

/// How often a session looks for tables that have come: soon enough for people, seldom enough for the catalog.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Looks after which a table that was refused is tried again.
const LOOKS_PER_TRY: u32 = 12;

/// Enters in the ledger what has come and gone since the last session. The publication has the tables already.
pub(super) fn follow(process: &Process, catalog: &Catalog) -> Result<(), Problem> {
    let known = process.store.copies()?;
    for copy in &known {
        let is_there = catalog.tables.iter().any(|table| table.oid == copy.table_oid);
        if !is_there && copy.state != CopyState::Left {
            tracing::info!(table = copy.table, "the table isn't streamed any more");
            let left = TableCopy {
                state: CopyState::Left,
                ..copy.clone()
            };
            process.store.set_copy(&left, &[])?;
        }
    }
    if process.config().source.snapshot.mode == SnapshotMode::Never {
        return Ok(());
    }
    for table in &catalog.tables {
        let name = table.full_name();
        let before = known.iter().find(|copy| copy.table_oid == table.oid);
        if before.is_some_and(|copy| copy.state != CopyState::Left) {
            continue;
        }
        // It was there before, or another one of its name: the targets have rows that nothing else takes away.
        let empties = known.iter().any(|copy| copy.table == name);
        tracing::info!(
            table = name,
            empties,
            "the table is new in the stream: it is copied beside it"
        );
        let copy = TableCopy {
            table_oid: table.oid,
            table: name,
            epoch: before.map_or(0, |copy| copy.epoch),
            state: CopyState::Planned,
            basis: String::new(),
            empties,
            joined: true,
            altered: false,
            reach: Reach::default(),
        };
        process.store.set_copy(&copy, &[])?;
    }
    Ok(())
}

/// What is done at the source beside the stream, now and then. Never returns.
pub(super) async fn watch(process: &Process, client: &Client, streamed: &Catalog) {
    tokio::join!(look(process, client, streamed), heartbeat::beat(process, client));
}

/// Looks for tables that have come, and begins another session for those that can be streamed; tells of partitions that
/// come and go.
async fn look(process: &Process, client: &Client, streamed: &Catalog) {
    let known: HashSet<u32> = streamed.tables.iter().map(|table| table.oid).collect();
    let mut refused = HashSet::new();
    for look in 1_u32.. {
        if let Err(problem) = partitions::look(process, client, streamed).await {
            tracing::debug!(cause = problem.cause, "{}", problem.headline);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        let config = process.config();
        let source = &config.source;
        let found = catalog::selected(client, &source.tables, source.publication.as_deref()).await;
        let Ok(found) = found else { continue };
        let fresh: Vec<u32> = found.into_iter().filter(|oid| !known.contains(oid)).collect();
        let is_known = fresh.iter().all(|oid| refused.contains(oid));
        if fresh.is_empty() || is_known && !look.is_multiple_of(LOOKS_PER_TRY) {
            continue;
        }
        // Another session would end the pipeline where it can't begin, and with it all other tables.
        match stands_in_the_way(process, client).await {
            Ok(None) => process.begin_again("tables have come that are to be streamed"),
            Ok(Some(_)) if is_known => {}
            Ok(Some(problem)) => {
                tracing::warn!(
                    code = problem.code,
                    cause = problem.cause,
                    help = problem.help,
                    "a table has come that can't be streamed: {}",
                    problem.headline
                );
                refused.extend(fresh);
            }
            Err(problem) => tracing::debug!(cause = problem.cause, "{}", problem.headline),
        }
    }
}

async fn stands_in_the_way(process: &Process, client: &Client) -> Result<Option<Problem>, Box<Problem>> {
    let (config, slot) = (process.config(), process.slot());
    let copied = copies::finished(process)?;
    let request = Request {
        copied: &copied,
        adjusts: true,
        ..Request::of(&config.name, &config.source, &slot, None)
    };
    let report = preflight::run(client, &request).await?;
    let mut problems = report.problems.into_iter();
    Ok(problems.find(|problem| !codes::OF_RUNNING.contains(&problem.code)))
}
