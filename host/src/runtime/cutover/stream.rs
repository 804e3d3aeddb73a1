//! How far the stream is, and whether the source is quiet.

use super::{failed, still_written};
use crate::batch::Lsn;
use crate::problem::{Exit, Problem};
use crate::runtime::codes;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, Row};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long nobody may stream: a host that has lost its connection is back by then.
const ABSENCE_MAX: Duration = Duration::from_secs(20);
/// The prefix of the message that the source gets.
const PREFIX: &str = "rowmill.cutover";

fn lsn(row: &Row, at: usize) -> Option<Lsn> {
    row.get::<_, Option<&str>>(at)?.parse().ok().map(Lsn)
}

/// A position behind everything that is committed now. A message of a transaction of its own marks it: what was
/// acknowledged before, even on a source where nothing happens, is less.
pub(super) async fn mark(source: &Client) -> Result<Lsn, Box<Problem>> {
    let emit = "SELECT (pg_catalog.pg_logical_emit_message(true, $1::text, '') - '0/0')::text";
    let row = source.query_one(emit, &[&PREFIX]).await;
    let row = row.map_err(|error| failed("the source", &error))?;
    Ok(lsn(&row, 0).unwrap_or_default())
}

/// The end of the WAL that is safe on disk, which a stream comes to without anything happening.
pub(super) async fn end(source: &Client) -> Result<Lsn, Box<Problem>> {
    let select = "SELECT (pg_catalog.pg_current_wal_flush_lsn() - '0/0')::text";
    let row = source.query_one(select, &[]).await;
    let row = row.map_err(|error| failed("the source", &error))?;
    Ok(lsn(&row, 0).unwrap_or_default())
}

/// Waits until all that commits before `to` is durable at every sink and acknowledged.
pub(super) async fn passed(source: &Client, slot: &str, to: Lsn, wait: Duration) -> Result<(), Box<Problem>> {
    let select = "SELECT active, (confirmed_flush_lsn - '0/0')::text FROM pg_catalog.pg_replication_slots \
        WHERE slot_name = $1::text";
    let begun = Instant::now();
    let mut seen = begun;
    loop {
        let row = source.query_opt(select, &[&slot]).await;
        let row = row.map_err(|error| failed("the source", &error))?;
        let Some(row) = row else {
            let headline = format!("slot {slot} isn't there");
            let help = "start the pipeline: `rowmill run`";
            return Err(Box::new(Problem::new(
                codes::NOT_READY,
                Exit::Preflight,
                headline,
                help,
            )));
        };
        let confirmed = lsn(&row, 1).unwrap_or_default();
        if confirmed >= to {
            return Ok(());
        }
        if row.get(0) {
            seen = Instant::now();
        }
        let headline = format!("the stream isn't at {to} yet");
        if seen.elapsed() > ABSENCE_MAX {
            let cause = format!("it is at {confirmed}, and nobody streams from slot {slot}");
            let help = "start the host: `rowmill run`";
            let problem = Problem::new(codes::NOT_READY, Exit::Preflight, headline, help);
            return Err(Box::new(problem.with_cause(cause)));
        }
        if begun.elapsed() >= wait {
            let behind = to.0 - confirmed.0;
            let cause = format!("after {} s it is at {confirmed}, {behind} bytes behind", wait.as_secs());
            let help = "let it catch up, and give it longer: `rowmill cutover --wait 600`";
            let problem = Problem::new(codes::NOT_CAUGHT_UP, Exit::Preflight, headline, help);
            return Err(Box::new(problem.with_cause(cause)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The last transaction whose rows came to the target.
pub(super) async fn delivered(target: &Client, pipeline: &str, sink: &str) -> Result<Option<Lsn>, Box<Problem>> {
    let side = format!("sink {sink}");
    let select = "SELECT (lsn - '0/0')::text FROM rowmill.positions WHERE pipeline = $1 AND sink = $2";
    let row = target.query_opt(select, &[&pipeline, &sink]).await;
    match row.map_err(|error| failed(&side, &error))? {
        Some(row) => Ok(lsn(&row, 0)),
        None => {
            let headline = format!("sink {sink} has no position at its target");
            let problem = Problem::new(
                codes::NOT_READY,
                Exit::Preflight,
                headline,
                "start the host: `rowmill run`",
            );
            Err(Box::new(problem.with_cause("no host has delivered there yet")))
        }
    }
}

/// Transactions in progress that write the tables, or may at once: their locks tell, to whatever role.
pub(super) async fn no_writers(source: &Client, tables: &[u32]) -> Result<(), Box<Problem>> {
    match writer(source, tables)
        .await
        .map_err(|error| failed("the source", &error))?
    {
        None => Ok(()),
        Some((who, table)) => Err(still_written(format!("{who} is in a transaction that writes {table}"))),
    }
}

async fn writer(source: &Client, tables: &[u32]) -> Result<Option<(String, String)>, Error> {
    let select = "SELECT l.pid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_locks l \
        JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', \
            'ExclusiveLock', 'AccessExclusiveLock') \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
        AND (l.relation = ANY ($1::oid[]) OR l.relation IN (SELECT (pg_catalog.pg_partition_tree(o)).relid \
            FROM pg_catalog.unnest($1::oid[]) o)) ORDER BY l.pid LIMIT 1";
    let row = source.query_opt(select, &[&tables]).await?;
    Ok(row.map(|row| {
        let who = match row.get::<_, Option<i32>>(0) {
            Some(pid) => format!("the process {pid} of the server"),
            None => "a prepared transaction".to_owned(),
        };
        (who, row.get(1))
    }))
}
