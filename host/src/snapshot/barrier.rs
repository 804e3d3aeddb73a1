//! Waits until every transaction is visible that the stream won't bring.
//!
//! The stream begins at a position, and a transaction that committed before it is not sent. Its commit may be in the
//! WAL and still not be visible (its backend waits for the disk, or for a synchronous standby): a snapshot taken at
//! that moment doesn't see it either, and nobody would ever bring its rows. So the first snapshot waits for all that
//! ran when the position was already fixed, but for those that are idle in a transaction: they have yet to commit,
//! and will be streamed.
//!
//! Not so where a table has come into the publication while the stream ran. What a transaction changed of it before is
//! never streamed, though its commit comes later: such a table waits for the idle ones too, as a slot does when it is
//! made.

use super::fault::Fault;
use super::visibility::Snapshot;
use crate::postgres::Reader;
use anyhow::Context;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The stream stands still meanwhile; without a synchronous standby a commit is visible right behind its WAL.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long it waits before it says so.
const QUIET: Duration = Duration::from_secs(2);

/// Idle ones are looked up behind the snapshot that lists them as running: one that has committed in between and
/// begun another transaction is visible by then.
const IDLE: &str = "SELECT backend_xid::text FROM pg_catalog.pg_stat_activity \
     WHERE backend_xid IS NOT NULL AND state LIKE 'idle in transaction%'";
/// Sessions of which the server doesn't say what they do: other roles' for a role without `pg_read_all_stats`, and all
/// without `track_activities`. Idle ones among them are waited for, too.
const UNSEEN: &str = "SELECT backend_xid::text FROM pg_catalog.pg_stat_activity \
     WHERE backend_xid IS NOT NULL AND COALESCE(state, 'disabled') = 'disabled'";

/// Waits until snapshots see everything that the stream won't bring; where it is `patient`, for idle transactions too.
/// `saw` gets those that were taken on the way.
pub(super) async fn wait(reader: &mut Reader, patient: bool, saw: impl Fn(&Snapshot)) -> Result<(), Fault> {
    // A new id, as ids that run may lie beyond the end of a snapshot until a later one has ended.
    let xid = column(reader, "SELECT pg_catalog.pg_current_xact_id()::text").await?;
    let xid = xid.first().and_then(|text| text.parse::<u64>().ok());
    let xid = xid.context("no transaction id").map_err(Fault::Transient)?;
    let (begun, mut pause, mut said) = (Instant::now(), FIRST_PAUSE, false);
    loop {
        let snapshot = current(reader).await?;
        saw(&snapshot);
        let mut running: HashSet<u32> = snapshot.running_below(xid).map(|xid| xid as u32).collect();
        if !running.is_empty() && !patient {
            for idle in column(reader, IDLE).await? {
                if let Ok(xid) = idle.parse() {
                    running.remove(&xid);
                }
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > QUIET && !said {
            said = true;
            let unseen = column(reader, UNSEEN).await?.into_iter();
            let unseen = unseen.filter_map(|xid| xid.parse().ok());
            let unseen = unseen.filter(|xid| running.contains(xid)).count();
            if unseen > 0 && !patient {
                tracing::warn!(
                    transactions = running.len(),
                    unseen,
                    "the copy begins when transactions that run now have ended; it wouldn't wait for idle ones if it could see \
                     which are: `GRANT pg_read_all_stats` to the source's role, and set `track_activities = on`"
                );
            } else {
                tracing::info!(
                    transactions = running.len(),
                    "the copy begins when transactions that run now have ended"
                );
            }
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Waits until the transactions are visible: a commit may be streamed before. Says whether they are within the `limit`.
pub(super) async fn wait_for(reader: &mut Reader, xids: &HashSet<u32>, limit: Duration) -> Result<bool, Fault> {
    let (begun, mut pause) = (Instant::now(), SHORT_PAUSE);
    while !xids.is_empty() {
        let snapshot = current(reader).await?;
        if xids.iter().all(|xid| snapshot.sees(*xid)) {
            break;
        }
        if begun.elapsed() > limit {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    Ok(true)
}

/// What is visible now.
pub(super) async fn current(reader: &mut Reader) -> Result<Snapshot, Fault> {
    let text = column(reader, "SELECT pg_catalog.pg_current_snapshot()::text").await?;
    let snapshot = text.first().and_then(|text| text.parse().ok());
    snapshot.context("no snapshot").map_err(Fault::Transient)
}

pub(super) async fn column(reader: &mut Reader, sql: &str) -> Result<Vec<String>, Fault> {
    let rows = reader.rows(sql).await.map_err(|error| Fault::Transient(error.into()))?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()?).collect())
}
