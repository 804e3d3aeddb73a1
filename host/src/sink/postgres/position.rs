//! The row that says how far the target has come, in the target's own transactions.

use super::target::literal;
use super::{connection, error};
use crate::batch::Lsn;
use crate::config::Secret;
use crate::problem::{Exit, Problem};
use crate::sink::standing::{COPIED_ANEW, Held, Standing};
use crate::sink::{SinkContext, SinkError};
use std::sync::Arc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

/// How long another host may take to let go of the sink.
const LOCK_WAIT: &str = "5s";

const CREATE: &str = "CREATE SCHEMA IF NOT EXISTS rowmill; \
    CREATE TABLE IF NOT EXISTS rowmill.positions (\
        pipeline text NOT NULL, \
        sink text NOT NULL, \
        slot text NOT NULL, \
        source_system_identifier text NOT NULL, \
        target_system_identifier text NOT NULL, \
        target_database oid NOT NULL, \
        lsn pg_lsn, \
        unstreamed bigint NOT NULL DEFAULT 0, \
        updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(), \
        PRIMARY KEY (pipeline, sink))";
/// Tables from before commits were counted.
const COUNT: &str = "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute \
        WHERE attrelid = 'rowmill.positions'::pg_catalog.regclass AND attname = 'unstreamed' AND NOT attisdropped) \
    THEN ALTER TABLE rowmill.positions ADD COLUMN IF NOT EXISTS unstreamed bigint NOT NULL DEFAULT 0; END IF; END$$";

/// Makes the table where it is missing, makes sure that nobody else writes and that the target is what it was, and
/// returns the position, and how many commits brought what the stream doesn't bring again. A target that lost what it had
/// gets no row: it would look like one that has just begun.
pub(super) async fn open(client: &Client, context: &SinkContext) -> Result<(Option<Lsn>, u64, Identity), SinkError> {
    let failed = |error| error::of(&error, context);
    lock(client, context).await?;
    let there = "SELECT pg_catalog.to_regclass('rowmill.positions') IS NOT NULL";
    if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        let made = client.batch_execute(CREATE).await;
        made.map_err(|error| error::of_making(&error, context))?;
    }
    let identity = Identity {
        pipeline: context.pipeline.clone(),
        sink: context.sink.clone(),
        slot: context.slot.clone(),
        source: context.system_identifier.to_string(),
        target: target_system_identifier(client, context).await?,
    };
    let Identity {
        pipeline,
        sink,
        slot,
        source,
        target,
    } = &identity;
    let select = "SELECT p.source_system_identifier, p.target_system_identifier, p.target_database = d.oid, \
        (p.lsn - '0/0')::text, (pg_catalog.to_jsonb(p) ->> 'unstreamed')::bigint \
        FROM rowmill.positions p, pg_catalog.pg_database d \
        WHERE p.pipeline = $1 AND p.sink = $2 AND d.datname = pg_catalog.current_database()";
    let row = client.query_opt(select, &[pipeline, sink]).await.map_err(failed)?;
    let position = match &row {
        Some(row) => checked(row, context, source, target)?,
        None => None,
    };
    let counted: Option<i64> = row.as_ref().and_then(|row| row.get(4));
    let unstreamed = u64::try_from(counted.unwrap_or_default()).unwrap_or_default();
    let standing = match (&row, position) {
        (None, _) => Standing::Nothing,
        (Some(_), None) => Standing::Begun,
        (Some(_), Some(position)) => Standing::At(position),
    };
    // Before anything is changed there.
    if let Some(position) = position {
        context.known.on_the_timeline(sink, position)?;
    }
    context.known.opened(sink, Held { standing, unstreamed })?;
    if counted.is_none() {
        let made = client.batch_execute(COUNT).await;
        made.map_err(|error| error::of_making(&error, context))?;
    }
    if row.is_none() {
        let insert = "INSERT INTO rowmill.positions \
            (pipeline, sink, slot, source_system_identifier, target_system_identifier, target_database) \
            SELECT $1::text, $2::text, $3::text, $4::text, $5::text, oid FROM pg_catalog.pg_database \
            WHERE datname = pg_catalog.current_database() ON CONFLICT (pipeline, sink) DO NOTHING";
        let made = client.execute(insert, &[pipeline, sink, slot, source, target]).await;
        made.map_err(failed)?;
    }
    context.known.reached(Standing::Begun);
    Ok((position, unstreamed, identity))
}

/// One host at a time. The lock is the session's: it ends with the connection, however that ends.
async fn lock(client: &Client, context: &SinkContext) -> Result<(), SinkError> {
    let name = literal(&format!("rowmill {} {}", context.pipeline, context.sink));
    let wait = format!(
        "SET lock_timeout = '{LOCK_WAIT}'; \
         SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended({name}, 0)); \
         SET lock_timeout = 0"
    );
    match client.batch_execute(&wait).await {
        Ok(()) => Ok(()),
        Err(refused) if refused.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let headline = format!("sink {} is in use by another host", context.sink);
            let cause = format!("another session at the target holds its lock, waited {LOCK_WAIT}");
            Err(Problem::new("E0405", Exit::Sink, headline, "stop the other host")
                .with_cause(cause)
                .into())
        }
        Err(other) => Err(error::of(&other, context)),
    }
}

/// Where the server doesn't tell, nothing can be compared.
async fn target_system_identifier(client: &Client, context: &SinkContext) -> Result<String, SinkError> {
    let select = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    match client.query_one(select, &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(refused) if refused.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(String::new()),
        Err(other) => Err(error::of(&other, context)),
    }
}

fn checked(row: &Row, context: &SinkContext, source: &str, target: &str) -> Result<Option<Lsn>, SinkError> {
    let (stored_source, stored_target): (&str, &str) = (row.get(0), row.get(1));
    let same_database: bool = row.get(2);
    let refuse = |code, headline: String, cause: String| {
        let problem = Problem::new(code, Exit::Sink, headline, COPIED_ANEW).with_cause(cause);
        Err(SinkError::from(problem))
    };
    if stored_source != source {
        let headline = format!("the target of sink {} follows another source", context.sink);
        return refuse(
            "E0407",
            headline,
            format!("its position is of system {stored_source}, this source is {source}"),
        );
    }
    if stored_target != target || !same_database {
        let headline = format!("the target of sink {} is a copy", context.sink);
        return refuse(
            "E0406",
            headline,
            format!("its position was stored at system {stored_target} in another database or cluster than this"),
        );
    }
    let bytes: Option<&str> = row.get(3);
    Ok(bytes.and_then(|bytes| bytes.parse().ok()).map(Lsn))
}

/// The statement that moves the position to `$1`, in bytes, if it moves, and says how many commits brought what the stream
/// doesn't bring again. It inserts where somebody has deleted the row meanwhile, and never goes back: where the other sinks
/// are behind, transactions that are here come again, without their rows.
pub(super) const UPDATE: &str = "INSERT INTO rowmill.positions \
    (pipeline, sink, slot, source_system_identifier, target_system_identifier, target_database, lsn, unstreamed) \
    SELECT $2::text, $3::text, $4::text, $5::text, $6::text, oid, '0/0'::pg_catalog.pg_lsn + ($1::text)::numeric, \
    ($7::text)::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database() \
    ON CONFLICT (pipeline, sink) DO UPDATE SET lsn = greatest(EXCLUDED.lsn, positions.lsn), \
    unstreamed = EXCLUDED.unstreamed, updated_at = pg_catalog.now()";

/// What identifies the row: the parameters of [`UPDATE`] between the position and the count.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) pipeline: String,
    pub(super) sink: String,
    pub(super) slot: String,
    pub(super) source: String,
    pub(super) target: String,
}

impl Identity {
    pub(super) fn parameters(&self, position: Option<Lsn>, unstreamed: u64) -> [Option<String>; 7] {
        let Self {
            pipeline,
            sink,
            slot,
            source,
            target,
        } = self.clone();
        let position = position.map(|position| position.0.to_string());
        let [pipeline, sink, slot, source, target] = [pipeline, sink, slot, source, target].map(Some);
        [
            position,
            pipeline,
            sink,
            slot,
            source,
            target,
            Some(unstreamed.to_string()),
        ]
    }
}

/// The statement that lets a target forget a pipeline's positions; `None` where it has none.
pub async fn forgetting(url: &Secret, pipeline: &str, sink: &str) -> Result<Option<String>, SinkError> {
    let context = context_of(pipeline, sink);
    let client = connection::connect_once(url, &context).await?;
    let failed = |error| error::of(&error, &context);
    let there = "SELECT pg_catalog.to_regclass('rowmill.positions') IS NOT NULL";
    if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        return Ok(None);
    }
    let select = "SELECT EXISTS (SELECT FROM rowmill.positions WHERE pipeline = $1 AND sink = $2)";
    let row = client.query_one(select, &[&pipeline, &sink]).await.map_err(failed)?;
    let (pipeline, sink) = (literal(pipeline), literal(sink));
    let delete = format!("DELETE FROM rowmill.positions WHERE pipeline ={pipeline} AND sink ={sink};");
    Ok(row.get::<_, bool>(0).then_some(delete))
}

/// Runs what [`forgetting`] returned.
pub async fn forget(url: &Secret, pipeline: &str, sink: &str, statement: &str) -> Result<(), SinkError> {
    let context = context_of(pipeline, sink);
    let client = connection::connect_once(url, &context).await?;
    let deleted = client.batch_execute(statement).await;
    deleted.map_err(|error| error::of(&error, &context))
}

/// As much of one as connecting and its errors need.
fn context_of(pipeline: &str, sink: &str) -> SinkContext {
    SinkContext {
        pipeline: pipeline.to_owned(),
        slot: String::new(),
        sink: sink.to_owned(),
        system_identifier: 0,
        source_database: String::new(),
        state_dir: std::path::PathBuf::new(),
        passed_over: Arc::default(),
        known: Arc::default(),
        types: Arc::default(),
        changes: Arc::default(),
    }
}

/// Moves the position behind the transaction that commits at `to`, while no host holds the sink. Returns where it was,
/// or why it can't be moved there.
pub async fn skip(url: &Secret, pipeline: &str, sink: &str, to: Lsn) -> Result<Result<Option<Lsn>, String>, SinkError> {
    let context = context_of(pipeline, sink);
    let failed = |error| error::of(&error, &context);
    let client = connection::connect_once(url, &context).await?;
    lock(&client, &context).await?;
    let there = "SELECT pg_catalog.to_regclass('rowmill.positions') IS NOT NULL";
    if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        return Ok(Err("the target has no positions yet".to_owned()));
    }
    let select = "SELECT (lsn - '0/0')::text FROM rowmill.positions WHERE pipeline = $1 AND sink = $2";
    let row = client.query_opt(select, &[&pipeline, &sink]).await.map_err(failed)?;
    let Some(row) = row else {
        return Ok(Err("the target has no position of it yet".to_owned()));
    };
    let bytes: Option<&str> = row.get(0);
    let before = bytes.and_then(|bytes| bytes.parse().ok()).map(Lsn);
    // What commits before the position isn't sent.
    let behind = Lsn(to.0.saturating_add(1));
    if before >= Some(behind) {
        return Ok(Err("its position is behind that already".to_owned()));
    }
    let update = "UPDATE rowmill.positions SET lsn = '0/0'::pg_catalog.pg_lsn + ($3::text)::numeric, \
        updated_at = pg_catalog.now() WHERE pipeline = $1 AND sink = $2";
    let moved = client.execute(update, &[&pipeline, &sink, &behind.0.to_string()]).await;
    moved.map_err(failed)?;
    Ok(Ok(before))
}
