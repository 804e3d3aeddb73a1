//! Prepared transactions: what a pipeline begins with, and what ends it.

use super::process::Process;
use super::source::NotReady;
use crate::assemble::{self, Full, PreparedLost};
use crate::checkpoint::STATE_DISK_FULL;
use crate::problem::{COPY_ANEW, Exit, Problem};
use crate::source::preflight::codes;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

const PREPARED: &str = "prepared transactions";

/// Prepared transactions of this database that a slot may have handed to somebody else: only of one that has confirmed
/// nothing since it was made is it known that it hasn't, and only from version 18 on.
const HANDED_OVER: &str = "
    SELECT p.gid FROM pg_catalog.pg_prepared_xacts p
    WHERE p.database = current_database() AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots s
        WHERE s.slot_name = $1 AND (to_jsonb(s)->>'two_phase_at')::pg_lsn = s.confirmed_flush_lsn)
    ORDER BY p.prepared LIMIT 1";

/// A first run: nothing that lies in the state folder counts, and a slot that was there must not have handed over rows
/// that will be committed later.
pub(super) async fn begin(process: &Process, client: &Client, adopted: bool) -> Result<(), NotReady> {
    if adopted {
        let asked = client.query_typed(HANDED_OVER, &[(&process.slot(), Type::TEXT)]).await;
        let rows = asked.map_err(|error| NotReady::Retry(error.to_string()))?;
        if let Some(row) = rows.first() {
            return Err(NotReady::Problem(Box::new(handed_over(row.get("gid")))));
        }
    }
    let begun = assemble::begin_prepared(&process.config().state_dir);
    begun.map_err(|error| NotReady::Problem(Box::new(unusable(&error))))
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
        return gone("the folder of prepared transactions is not there").with_cause(error);
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
    gone("a prepared transaction was committed, and its rows are gone").with_cause(lost)
}

fn gone(headline: &str) -> Problem {
    Problem::new("E0268", Exit::Gap, headline, COPY_ANEW)
}
