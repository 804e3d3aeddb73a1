//! The replication slot as the server sees it. It is made on the replication connection; here it is looked at,
//! listed and, on request only, dropped.

use super::failure::{headline, refused, server_text, shown};
use super::preflight::codes;
use crate::problem::{Exit, Problem};
use std::fmt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{PgLsn, Type};
use tokio_postgres::{Client, Row};

/// How many transactions [`blockers`] names; the oldest is the one to wait for.
const BLOCKERS_SHOWN: i64 = 5;

/// How long a consumer that was ended may take to let go: a walsender looks for it while it decodes, too.
const FREE_TRIES: u32 = 100;
const FREE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// What the server says of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    pub name: String,
    /// `None` for a physical slot.
    pub plugin: Option<String>,
    /// `logical` or `physical`.
    pub slot_type: String,
    /// `None` for a physical slot.
    pub database: Option<String>,
    /// The connection's own database, to compare with.
    pub current_database: String,
    /// The process that streams from it now, and what is known of its client.
    pub active: Option<Consumer>,
    /// Bytes into the WAL, from where it is kept; `None` once lost.
    pub restart_lsn: Option<u64>,
    pub confirmed_flush_lsn: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` before version 13.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before the slot is lost; `None` without a limit or before version 13.
    pub safe_wal_size: Option<i64>,
    /// Bytes of WAL that the server keeps for the slot; `None` on a standby or once lost.
    pub retained: Option<i64>,
    pub two_phase: bool,
    /// Whether standbys keep it; version 17 and later say it.
    pub failover: Option<bool>,
    /// Why the slot was invalidated; version 17 and later say it.
    pub invalidation_reason: Option<String>,
}

/// Who streams from a slot. All but the process id needs the rights of pg_monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    pub pid: i32,
    pub client_address: Option<String>,
    pub application_name: Option<String>,
}

/// A transaction that the making of a slot waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// `None` for a prepared transaction, which no process holds.
    pub pid: Option<i32>,
    /// The global id of a prepared transaction.
    pub prepared: Option<String>,
    pub user: Option<String>,
    pub application_name: Option<String>,
    pub seconds_open: i64,
}

/// Bytes of WAL below which a slot with a limit is close to being lost: a bulk load writes them in a minute.
const SAFE_WAL_SIZE_LOW: i64 = 64 << 20;
/// What has the server keep a slot's WAL, however much of it there is.
pub const KEEP_MORE: &str = "`ALTER SYSTEM SET max_slot_wal_keep_size = -1;`, then `SELECT pg_reload_conf();`";

/// Whether the server is about to give a slot's WAL away.
pub fn is_at_risk(wal_status: Option<&str>, safe_wal_size: Option<i64>) -> bool {
    wal_status == Some("unreserved") || safe_wal_size.is_some_and(|size| size < SAFE_WAL_SIZE_LOW)
}

impl SlotState {
    /// Whether the server no longer has the WAL that the slot stood for.
    pub fn lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PID {}", self.pid)?;
        if let Some(address) = &self.client_address {
            write!(f, ", client {address}")?;
        }
        match &self.application_name {
            Some(name) if !name.is_empty() => write!(f, ", application_name `{name}`"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pid, &self.prepared) {
            (Some(pid), _) => write!(f, "PID {pid}")?,
            (None, Some(gid)) => write!(f, "prepared transaction `{gid}`")?,
            (None, None) => f.write_str("a transaction")?,
        }
        if let Some(name) = self.application_name.as_deref().filter(|name| !name.is_empty()) {
            write!(f, ", application_name `{name}`")?;
        }
        if let Some(user) = &self.user {
            write!(f, ", role `{user}`")?;
        }
        write!(f, ", open for {} s", self.seconds_open)
    }
}

/// Columns that came with later versions are read out of the row as JSON, where an absent one is null.
const SLOTS: &str = r"
SELECT s.slot_name::text AS name, s.plugin::text AS plugin, s.slot_type, s.database::text AS database,
       current_database()::text AS current_database, s.active_pid,
       COALESCE(host(a.client_addr), CASE WHEN a.backend_start IS NOT NULL THEN 'local' END) AS client_address,
       a.application_name, s.restart_lsn, s.confirmed_flush_lsn,
       j->>'wal_status' AS wal_status, (j->>'safe_wal_size')::bigint AS safe_wal_size,
       COALESCE((j->>'two_phase')::bool, false) AS two_phase, (j->>'failover')::bool AS failover, j->>'invalidation_reason' AS invalidation_reason,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint END
           AS retained
FROM pg_catalog.pg_replication_slots s
CROSS JOIN LATERAL to_jsonb(s) AS j
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
WHERE $1::text IS NULL OR s.slot_name = $1
ORDER BY s.slot_name";

/// Logical decoding starts where every transaction that ran before has ended, in whichever database it runs.
const BLOCKERS: &str = r"
SELECT * FROM (
    SELECT a.pid, NULL::text AS prepared, a.usename::text AS usename, a.application_name,
           COALESCE(extract(epoch FROM now() - a.xact_start), 0)::bigint AS seconds_open, age(a.backend_xid) AS age
    FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
    UNION ALL
    SELECT NULL, p.gid, p.owner::text, NULL, extract(epoch FROM now() - p.prepared)::bigint, age(p.transaction)
    FROM pg_catalog.pg_prepared_xacts p
) AS t ORDER BY t.age DESC LIMIT $1";

/// The state of one slot; `None` where there is none of that name.
pub async fn state(client: &Client, slot: &str) -> Result<Option<SlotState>, Box<Problem>> {
    Ok(read(client, Some(slot)).await?.pop())
}

/// Every slot of the server, other databases' too.
pub async fn list(client: &Client) -> Result<Vec<SlotState>, Box<Problem>> {
    read(client, None).await
}

pub(super) async fn read(client: &Client, slot: Option<&str>) -> Result<Vec<SlotState>, Box<Problem>> {
    query(client, slot)
        .await
        .map_err(|error| refused("read the replication slots", &error))
}

pub(super) async fn query(client: &Client, slot: Option<&str>) -> Result<Vec<SlotState>, tokio_postgres::Error> {
    let rows = client.query_typed(SLOTS, &[(&slot, Type::TEXT)]).await?;
    Ok(rows.iter().map(from_row).collect())
}

fn from_row(row: &Row) -> SlotState {
    let lsn = |column| row.get::<_, Option<PgLsn>>(column).map(u64::from);
    SlotState {
        name: row.get("name"),
        plugin: row.get("plugin"),
        slot_type: row.get("slot_type"),
        database: row.get("database"),
        current_database: row.get("current_database"),
        active: row.get::<_, Option<i32>>("active_pid").map(|pid| Consumer {
            pid,
            client_address: row.get("client_address"),
            application_name: row.get("application_name"),
        }),
        restart_lsn: lsn("restart_lsn"),
        confirmed_flush_lsn: lsn("confirmed_flush_lsn"),
        wal_status: row.get("wal_status"),
        safe_wal_size: row.get("safe_wal_size"),
        retained: row.get("retained"),
        two_phase: row.get("two_phase"),
        failover: row.get("failover"),
        invalidation_reason: row.get("invalidation_reason"),
    }
}

/// Drops a slot, for good: what it stood for can't be streamed again.
pub async fn drop(client: &Client, slot: &str) -> Result<(), Box<Problem>> {
    let dropped = client
        .query_typed("SELECT pg_drop_replication_slot($1)", &[(&slot, Type::NAME)])
        .await;
    let Err(error) = dropped else { return Ok(()) };
    let problem = match error.code() {
        Some(&SqlState::OBJECT_IN_USE) => {
            let consumer = state(client, slot).await?.and_then(|state| state.active);
            active(slot, consumer.as_ref())
        }
        Some(&SqlState::UNDEFINED_OBJECT) => Problem::new(
            codes::SLOT_MISSING,
            Exit::Preflight,
            headline(format!("replication slot {} does not exist", shown(slot))),
            "list the slots that there are: `rowmill slot list`",
        ),
        _ => return Err(refused(&format!("drop the replication slot {}", shown(slot)), &error)),
    };
    Err(Box::new(problem.with_cause(server_text(&error))))
}

/// Ends whoever streams from a slot, and waits until it is free; tells who that was, `None` where nobody did.
pub async fn take_over(client: &Client, slot: &str) -> Result<Option<Consumer>, Box<Problem>> {
    let mut ended = None;
    for _ in 0..FREE_TRIES {
        let Some(consumer) = state(client, slot).await?.and_then(|state| state.active) else {
            return Ok(ended);
        };
        let end = client
            .query_typed("SELECT pg_terminate_backend($1)", &[(&consumer.pid, Type::INT4)])
            .await;
        if let Err(error) = end {
            let help = format!(
                "`GRANT pg_signal_backend TO CURRENT_USER;`, or {}",
                stop_consumer(&consumer)
            );
            let headline = headline(format!("can't take replication slot {} over", shown(slot)));
            let problem = Problem::new(codes::SLOT_ACTIVE, Exit::Preflight, headline, help);
            return Err(Box::new(problem.with_cause(server_text(&error))));
        }
        ended.get_or_insert(consumer);
        tokio::time::sleep(FREE_INTERVAL).await;
    }
    Ok(ended)
}

/// A slot that somebody else streams from.
pub(super) fn active(slot: &str, consumer: Option<&Consumer>) -> Problem {
    let help = match consumer {
        Some(consumer) => stop_consumer(consumer),
        None => "start it again: the slot is free by now".to_owned(),
    };
    let by = consumer.map(ToString::to_string).unwrap_or_default();
    Problem::new(
        codes::SLOT_ACTIVE,
        Exit::Preflight,
        headline(format!(
            "replication slot {} is in use by another consumer",
            shown(slot)
        )),
        help,
    )
    .with_cause(format!("replication slot \"{slot}\" is active for {by}"))
}

fn stop_consumer(consumer: &Consumer) -> String {
    format!(
        "stop the consumer that has it: `SELECT pg_terminate_backend({});`",
        consumer.pid
    )
}

/// The transactions that the making of a slot waits for, the oldest first.
pub async fn blockers(client: &Client) -> Result<Vec<Blocker>, Box<Problem>> {
    let rows = client
        .query_typed(BLOCKERS, &[(&BLOCKERS_SHOWN, Type::INT8)])
        .await
        .map_err(|error| refused("read the running transactions", &error))?;
    Ok(rows
        .iter()
        .map(|row| Blocker {
            pid: row.get("pid"),
            prepared: row.get("prepared"),
            user: row.get("usename"),
            application_name: row.get("application_name"),
            seconds_open: row.get("seconds_open"),
        })
        .collect())
}
