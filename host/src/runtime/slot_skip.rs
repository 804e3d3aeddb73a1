//! Moves slot and state on, past changes that can't be streamed.

use super::source::connect_source;
use crate::batch::Lsn;
use crate::checkpoint::{LastCommit, StateStore};
use crate::config::Pipeline;
use crate::problem::{Exit, Problem};
use crate::source::server_text;
use crate::source::slot;
use std::collections::HashSet;
use tokio_postgres::Client;
use tokio_postgres::types::{PgLsn, Type};

pub(crate) const NOT_SKIPPED: &str = "E0519";

/// What isn't streamed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSkipped {
    pub from: Lsn,
    pub to: Lsn,
}

/// Moves the pipeline's slot to `to`, or to where the server's WAL ends now, and its stored position with it. Run again
/// after a failure it goes on where it was.
///
/// # Errors
/// A host at work, a pipeline that has never run, another cluster, a position that lies behind or in the future, a slot
/// that is lost, gone or in use.
pub async fn skip_slot(config: &Pipeline, to: Option<Lsn>) -> Result<SlotSkipped, Box<Problem>> {
    let name = config.slot_name();
    let refuse = |cause: String, help: &str| {
        let headline = format!("slot {name} can't be moved on");
        Box::new(Problem::new(NOT_SKIPPED, Exit::Usage, headline, help).with_cause(cause))
    };
    let file = config.state_dir.join(StateStore::FILE);
    if !file.exists() {
        let cause = format!("there is no {}: the pipeline has never run here", file.display());
        return Err(refuse(cause, "`rowmill run` begins where the slot is"));
    }
    let store = StateStore::open(&config.state_dir, &config.name)?;
    let Some(stored) = store.stored()? else {
        let cause = "the state has no position yet".to_owned();
        return Err(refuse(cause, "`rowmill run` begins where the slot is"));
    };
    let client = connect_source(config, "slot").await?;
    let refused = |error: tokio_postgres::Error| refuse(server_text(&error), "do what the server's message says");
    let (system, end) = server(&client).await.map_err(refused)?;
    let expected = stored.identity.system_identifier;
    if system.is_some_and(|found| found != expected) {
        let cause = format!("the state belongs to another cluster: system identifier {expected}");
        return Err(refuse(cause, "correct `source.postgres.url` in pipeline.yaml"));
    }
    let (from, to) = (stored.lsn, to.unwrap_or(end));
    if to <= from || to > end {
        let cause = format!("the position is {from}, the server's WAL ends at {end}: {to} isn't between them");
        return Err(refuse(cause, "name a position in between, or `now`"));
    }
    let Some(found) = slot::state(&client, &name).await? else {
        let help = format!("go on without what is missing: `rowmill run --accept-gap {from}`");
        return Err(refuse("it isn't there".to_owned(), &help));
    };
    if config.source.two_phase || found.two_phase {
        let kept = store.prepared()?.into_iter().collect();
        match prepared(&client, &kept).await.map_err(refused)? {
            Prepared::Missed(gid) => {
                let cause = format!("`{gid}` is prepared: committed behind that, it would come without its rows");
                let help = "COMMIT PREPARED or ROLLBACK PREPARED those of pg_prepared_xacts, then skip again";
                return Err(refuse(cause, help));
            }
            // What was committed since the end was looked at is met in the stream.
            Prepared::NoneUntil(now) => store.set_foreign_until(now.max(store.foreign_until()?))?,
        }
    }
    let to = match found.confirmed_flush_lsn.map(Lsn) {
        // An earlier try has moved it.
        Some(confirmed) if confirmed >= to => confirmed,
        _ => advance(&client, &name, to).await.map_err(refused)?,
    };
    store.advance_behind(Some(to), &[], LastCommit::Unknown)?;
    Ok(SlotSkipped { from, to })
}

/// The system identifier, where this role may know it, and where the WAL ends.
async fn server(client: &Client) -> Result<(Option<u64>, Lsn), tokio_postgres::Error> {
    const END: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";
    const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let end: PgLsn = client.query_typed_one(END, &[]).await?.get(0);
    let system = client.query_typed_one(SYSTEM, &[]).await.ok();
    let system = system.map(|row| row.get::<_, i64>(0).cast_unsigned());
    Ok((system, Lsn(u64::from(end))))
}

/// Returns where it stands then: at the end of the record that holds `to`.
async fn advance(client: &Client, slot: &str, to: Lsn) -> Result<Lsn, tokio_postgres::Error> {
    let sql = "SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance($1, $2)";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&slot, Type::NAME), (&PgLsn::from(to.0), Type::PG_LSN)];
    let row = client.query_typed_one(sql, &parameters).await?;
    Ok(Lsn(u64::from(row.get::<_, PgLsn>(0))))
}

/// What is prepared in the source's database beside what is kept here.
enum Prepared {
    Missed(String),
    NoneUntil(Lsn),
}

/// A slot sends the rows of a prepared transaction once, where it is prepared.
async fn prepared(client: &Client, kept: &HashSet<u32>) -> Result<Prepared, tokio_postgres::Error> {
    const PREPARED: &str = "SELECT p.gid, p.transaction::text AS xid, now.lsn \
        FROM (SELECT pg_catalog.pg_current_wal_insert_lsn() AS lsn) now \
        LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.database = pg_catalog.current_database()";
    let mut until = Lsn(0);
    for row in client.query_typed(PREPARED, &[]).await? {
        until = Lsn(u64::from(row.get::<_, PgLsn>("lsn")));
        let xid = row.get::<_, Option<String>>("xid").and_then(|xid| xid.parse().ok());
        if xid.is_some_and(|xid| !kept.contains(&xid))
            && let Some(gid) = row.get("gid")
        {
            return Ok(Prepared::Missed(gid));
        }
    }
    Ok(Prepared::NoneUntil(until))
}
