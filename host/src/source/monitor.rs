//! The connection beside the stream.
//!
//! A server that shuts down ends ordinary connections at once, but waits for each walsender until its client has
//! confirmed everything, which a stuck sink can put off for ever. So this connection's end is the sign to close the
//! replication connection: Rowmill never holds up a shutdown. In the meantime it asks how the slot fares, for a slot
//! that falls behind is lost without a word on the stream.

use super::slot;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;

/// How often the slot is asked for.
pub const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// An answer that takes longer counts as none: the link or the server is stuck.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often [`until_closed`] looks. A shutdown may wait for us so much longer.
const CLOSED_INTERVAL: Duration = Duration::from_millis(100);

/// How the slot and the server's WAL stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotHealth {
    /// False before the first answer, and where the slot is gone.
    pub present: bool,
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` before version 13.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before the slot is lost; `None` without a limit.
    pub safe_wal_size: Option<i64>,
    /// Bytes of WAL that the server keeps for the slot.
    pub retained: Option<i64>,
    pub confirmed_flush_lsn: Option<u64>,
    /// Where the server writes now.
    pub wal_lsn: u64,
    /// Answers so far.
    pub polls: u64,
}

/// Why the watch is over. In every case the replication connection is to be closed and made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server said that it goes down (57P01, 57P02), or somebody ended this connection.
    ServerShutdown(String),
    /// The connection is gone.
    ConnectionLost,
    /// No answer within [`POLL_TIMEOUT`].
    Unresponsive,
    /// The server refused to answer; not a sign of a shutdown.
    Refused(String),
    /// Nobody listens to the reports any more.
    Unwatched,
}

/// Watches until the connection ends. `closed` ends with the connection: its driving future itself, the handle of
/// the task that drives it, or [`until_closed`].
pub async fn watch(client: &Client, closed: impl Future, slot: &str, report: &Sender<SlotHealth>) -> Ended {
    watch_every(client, closed, slot, report, POLL_INTERVAL).await
}

pub(super) async fn watch_every(
    client: &Client,
    closed: impl Future,
    slot: &str,
    report: &Sender<SlotHealth>,
    interval: Duration,
) -> Ended {
    tokio::select! {
        // First, so that answers are read before the end of the connection is taken for all there is to know.
        biased;
        ended = poll(client, slot, report, interval) => ended,
        () = report.closed() => Ended::Unwatched,
        _ = closed => Ended::ConnectionLost,
    }
}

/// Ends within a tenth of a second of the client's connection, for clients whose connection somebody else drives.
pub async fn until_closed(client: &Client) {
    while !client.is_closed() {
        tokio::time::sleep(CLOSED_INTERVAL).await;
    }
}

async fn poll(client: &Client, slot: &str, report: &Sender<SlotHealth>, interval: Duration) -> Ended {
    let mut clock = tokio::time::interval(interval);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut polls = 0;
    loop {
        clock.tick().await;
        polls += 1;
        match tokio::time::timeout(POLL_TIMEOUT, health(client, slot, polls)).await {
            Ok(Ok(health)) => {
                report.send_replace(health);
            }
            Ok(Err(error)) => return ended(&error),
            Err(_) => return Ended::Unresponsive,
        }
    }
}

async fn health(client: &Client, slot: &str, polls: u64) -> Result<SlotHealth, tokio_postgres::Error> {
    let (mut slots, wal) = tokio::try_join!(
        slot::query(client, Some(slot)),
        client.query_typed_one(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END",
            &[],
        ),
    )?;
    let wal_lsn = wal.get::<_, Option<PgLsn>>(0).map_or(0, u64::from);
    let Some(state) = slots.pop() else {
        return Ok(SlotHealth {
            wal_lsn,
            polls,
            ..SlotHealth::default()
        });
    };
    Ok(SlotHealth {
        present: true,
        active: state.active.is_some(),
        wal_status: state.wal_status,
        safe_wal_size: state.safe_wal_size,
        retained: state.retained,
        confirmed_flush_lsn: state.confirmed_flush_lsn,
        wal_lsn,
        polls,
    })
}

fn ended(error: &tokio_postgres::Error) -> Ended {
    match error.code() {
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN) => {
            Ended::ServerShutdown(super::failure::server_text(error))
        }
        Some(_) => Ended::Refused(super::failure::server_text(error)),
        None => Ended::ConnectionLost,
    }
}

#[cfg(test)]
mod tests;
