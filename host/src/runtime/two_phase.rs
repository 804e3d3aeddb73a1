//! Prepared transactions: what a pipeline begins with, and what ends it.

use super::process::Process;
use super::source::NotReady;
use crate::assemble::{self, Full, Ledger, PreparedLost};
use crate::batch::Lsn;
use crate::checkpoint::STATE_DISK_FULL;
use crate::problem::{COPY_ANEW, Exit, Problem};
use crate::source::preflight::codes;
use tokio_postgres::Client;
use tokio_postgres::types::{PgLsn, Type};

const PREPARED: &str = "prepared transactions";

/// Prepared transactions of this database that a slot may have handed to somebody else: only of one that has confirmed
/// nothing since it was made is it known that it hasn't, and only from version 18 on.
const HANDED_OVER: &str = "
    SELECT pg_catalog.pg_current_wal_insert_lsn() AS now, (
        SELECT p.gid FROM pg_catalog.pg_prepared_xacts p
        WHERE p.database = current_database() ORDER BY p.prepared LIMIT 1) AS gid
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots s
        WHERE s.slot_name = $1 AND (to_jsonb(s)->>'two_phase_at')::pg_lsn = s.confirmed_flush_lsn)";

/// A first run: nothing that lies in the state folder counts, and a slot that `hands_over` since before must not have
/// handed over rows that will be committed later. Those that were committed before now are met in the stream.
pub(super) async fn begin(process: &Process, client: &Client, hands_over: bool) -> Result<(), NotReady> {
    let mut foreign_until = Lsn(0);
    if hands_over {
        let asked = client.query_typed(HANDED_OVER, &[(&process.slot(), Type::TEXT)]).await;
        let rows = asked.map_err(|error| NotReady::Retry(error.to_string()))?;
        if let Some(row) = rows.first() {
            if let Some(gid) = row.get("gid") {
                return Err(NotReady::Problem(Box::new(handed_over(gid))));
            }
            foreign_until = Lsn(u64::from(row.get::<_, PgLsn>("now")));
        }
    }
    let store = &process.store;
    let stored = store
        .set_prepared(&[])
        .and_then(|()| store.set_foreign_until(foreign_until));
    stored.map_err(|problem| NotReady::Problem(Box::new(problem)))?;
    let begun = assemble::begin_prepared(&process.config().state_dir);
    begun.map_err(|error| NotReady::Problem(Box::new(unusable(&error))))
}

/// What the state has of them, and where it is kept.
pub(super) fn ledger(process: &Process) -> Result<Ledger, Box<Problem>> {
    let store = process.store.clone();
    let recorded = store.prepared().map_err(Box::new)?;
    let foreign_until = store.foreign_until().map_err(Box::new)?;
    let record = move |xids: &[u32]| {
        let recorded = store.set_prepared(xids);
        recorded.map_err(|problem| match problem.code {
            STATE_DISK_FULL => std::io::Error::new(std::io::ErrorKind::StorageFull, problem.headline),
            _ => std::io::Error::other(problem.headline),
        })
    };
    Ok(Ledger {
        recorded,
        record: Box::new(record),
        foreign_until,
    })
}

fn handed_over(gid: &str) -> Problem {
    let headline = "the slot may have handed a prepared transaction to somebody else";
    let help = "COMMIT PREPARED or ROLLBACK PREPARED those of pg_prepared_xacts, then start again";
    let cause = format!("`{gid}` is prepared, and a slot sends the rows of such a transaction once");
    Problem::new(codes::PREPARED_BEFORE, Exit::Preflight, headline, help).with_cause(cause)
}

/// What a retry cures as soon as somebody makes room: `None` of any other error.
pub(super) fn no_room(error: &std::io::Error, what: &str) -> Option<Problem> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let help = "make room on the disk of the state folder";
    let problem = || Problem::new(STATE_DISK_FULL, Exit::Usage, format!("no room for {what}"), help).with_cause(error);
    matches!(error.kind(), StorageFull | QuotaExceeded).then(problem)
}

/// The folder of prepared transactions. Where it isn't there any more, neither is what the server won't send again.
pub(super) fn unusable(error: &std::io::Error) -> Problem {
    if error.kind() == std::io::ErrorKind::NotFound {
        return gone("prepared transactions are not in the state folder").with_cause(error);
    }
    if let Some(full) = no_room(error, PREPARED) {
        return full;
    }
    let help = "let the user who runs rowmill write to the state folder, and keep its `prepared` for rowmill alone";
    Problem::new(
        "E0267",
        Exit::Usage,
        "the folder of prepared transactions can't be used",
        help,
    )
    .with_cause(error)
}

/// A prepared transaction needs more room than there is: `spill` is used up, or the disk is, which is waited for.
pub(super) fn full(full: &Full) -> Problem {
    if let Full::Disk(error) = full
        && let Some(full) = no_room(error, PREPARED)
    {
        return full;
    }
    let help = "set a larger `spill` under source.postgres, on a disk that has it, then start again";
    let headline = "prepared transactions can't be kept: there is no room for them";
    Problem::new("E0266", Exit::Preflight, headline, help).with_cause(full)
}

pub(super) fn lost(lost: &PreparedLost) -> Problem {
    if !lost.foreign {
        return gone("a prepared transaction was committed, and its rows are gone").with_cause(lost);
    }
    let headline = "the slot may have handed a prepared transaction to somebody else";
    let cause = format!(
        "transaction {} was committed at {}, before the first start, and the slot doesn't send its rows",
        lost.xid, lost.lsn
    );
    Problem::new(codes::PREPARED_BEFORE, Exit::Gap, headline, COPY_ANEW).with_cause(cause)
}

fn gone(headline: &str) -> Problem {
    Problem::new("E0268", Exit::Gap, headline, COPY_ANEW)
}
