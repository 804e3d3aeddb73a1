//! The connection to the target, with the settings that values depend on.

use super::error;
use crate::config::{self, Secret, WriteMode};
use crate::postgres::{Conninfo, sql};
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use std::time::SystemTime;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What other sessions have committed is seen by each statement (`facts`). Values are text, so the session reads them the way the source wrote them. Plans for arrays of unknown length must
/// look rows up by key, whatever the statistics of a table that has just been made. A dead connection must let go of
/// its locks soon. What a commit says to be there must survive a crash of the target: where others let theirs go by
/// `synchronous_commit = off`, this session waits for the disk all the same.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET default_transaction_isolation = 'read committed'; \
    SET default_transaction_read_only = off; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; \
    SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET search_path = ''; \
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; \
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET jit = off; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'; \
    SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
        WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";
/// Where rows are found again: those that a policy hides would be passed over as missing, so a statement fails instead.
const SEES_ALL: &str = "SET row_security = off";

/// A session of ours that may still be there after its connection broke.
#[derive(Debug)]
pub(super) struct Predecessor {
    pid: i32,
    /// A process id is used again; with its start it is one session's alone.
    started: SystemTime,
}

/// Connects and ends the predecessors. Also says whether tables are independent of each other, as foreign keys and
/// ordinary triggers don't act.
pub(super) async fn connect(
    config: &config::PostgresSink,
    context: &SinkContext,
    predecessors: &mut Vec<Predecessor>,
) -> Result<(Client, bool), SinkError> {
    let client = connect_once(&config.url, context).await?;
    let failed = |error| error::of(&error, context);
    client.batch_execute(SETTINGS).await.map_err(failed)?;
    if config.mode != WriteMode::Append && config.audit.is_none() {
        client.batch_execute(SEES_ALL).await.map_err(failed)?;
    }
    for Predecessor { pid, started } in predecessors.drain(..) {
        let end = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
                   WHERE pid = $1 AND backend_start = $2 AND pid <> pg_catalog.pg_backend_pid()";
        client.execute(end, &[&pid, &started]).await.map_err(failed)?;
    }
    let independent = without_triggers(&client, context).await?;
    Ok((client, independent))
}

pub(super) async fn predecessor(client: &Client) -> Result<Predecessor, tokio_postgres::Error> {
    let own = "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";
    let row = client.query_one(own, &[]).await?;
    Ok(Predecessor {
        pid: row.get(0),
        started: row.get(1),
    })
}

/// Whether the target was reached and doesn't let this role in, as it calls itself, or not over TLS.
pub(super) fn is_of_the_login(problem: &Problem) -> bool {
    ["E0252", "E0253", "E0254", "E0255", "E0256"].contains(&problem.code)
}

/// Connects and sets nothing. What the url refers to is read again: a rotated password needs no restart.
pub(super) async fn connect_once(url: &Secret, context: &SinkContext) -> Result<Client, SinkError> {
    let url = &url.read_again().unwrap_or_else(|error| {
        tracing::warn!(sink = context.sink, error, "the sink's url can't be read again");
        url.clone()
    });
    let conninfo = Conninfo::parse(url.reveal()).map_err(|error| {
        let headline = format!("the url of sink {} can't be read", context.sink);
        let help = "write it as postgresql://user:password@host:5432/database";
        Problem::new("E0401", Exit::Sink, headline, help).with_cause(error)
    })?;
    let application = format!("rowmill {} {}", context.pipeline, context.sink);
    sql::connect(&conninfo, &application).await.map_err(|error| {
        if error.is_transient() {
            SinkError::Transient(anyhow::Error::new(error))
        } else {
            let problem = Problem::from(error);
            Problem {
                exit: Exit::Sink,
                ..problem
            }
            .into()
        }
    })
}

/// As the server's own apply does: foreign keys and ordinary triggers had their say at the source.
async fn without_triggers(client: &Client, context: &SinkContext) -> Result<bool, SinkError> {
    match client.batch_execute("SET session_replication_role = replica").await {
        Ok(()) => Ok(true),
        Err(refused) if refused.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::warn!(
                sink = context.sink,
                "triggers and foreign keys of the target act on the rows that arrive: \
                 its role may not set session_replication_role"
            );
            Ok(false)
        }
        Err(other) => Err(error::of(&other, context)),
    }
}
