//! A server that is on another timeline than the state: promoted, or restored to a point in time.
//!
//! ```text
//!   the stored timeline   ----|--------+----x----->
//!                         position     |
//!   the server's                       +---------->
//!                                   they part
//! ```
//!
//! The position is compared with where they part before anything else (`checkpoint::compare`). But other things may be ahead of
//! it, and of that point (x):
//!
//! - *A sink's own position.* The sink would take what commits below it for what it has. It isn't known before the sink is
//!   opened, and the sink may be out of reach now. So the point is kept for each sink, until that was found not to be beyond
//!   it; and that is stored before the sink gets anything, as its positions are of the new timeline from then on.
//! - *Rows of copies under way.* They hold what their snapshots saw. What those didn't see is told by transaction ids,
//!   which the new timeline gives once more. What counts in the ledger is behind the position, but the rows beside that are at
//!   the targets, and nothing would take them away. So such copies begin anew, with their targets emptied.
//! - *Prepared transactions* that are kept until they are committed. Their ids are given once more, too: they are dropped.

use super::process::Process;
use super::two_phase;
use crate::assemble;
use crate::batch::Lsn;
use crate::checkpoint::{Identity, Stored};
use crate::postgres::QueryError;
use crate::problem::Problem;
use crate::source::replication::Connection;

/// The server's timeline.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) number: u32,
    /// `None` for the first, and where it isn't known.
    pub(super) began: Option<Lsn>,
    /// Where it parts from the stored one. `None` where it is that, or doesn't come from it.
    pub(super) parts_at: Option<Lsn>,
}

/// Asks the server for the history of its timeline.
///
/// # Errors
/// It can't be had, and is needed to tell how the timeline stands to the stored one.
pub(super) async fn look(
    connection: &mut Connection,
    stored: Option<&Stored>,
    number: u32,
) -> Result<Timeline, QueryError> {
    let stored = stored.map(|stored| &stored.identity);
    let before = stored.and_then(|stored| stored.began).map(Lsn);
    match connection.timeline_history(number).await {
        Ok(history) => Ok(Timeline {
            number,
            began: history.began(number),
            parts_at: stored.and_then(|stored| history.parts_from(stored.timeline, before)),
        }),
        // It is told by its number, as ever.
        Err(error) if !error.is_transient() && stored.is_none_or(|stored| stored.timeline >= number) => {
            tracing::warn!(timeline = number, %error, "the history of the server's timeline can't be read");
            let is_same = stored.is_some_and(|stored| stored.timeline == number);
            Ok(Timeline {
                number,
                began: before.filter(|_| is_same),
                parts_at: None,
            })
        }
        Err(error) => Err(error),
    }
}

/// Takes up a timeline that has the stored position. To be called before anything of it is.
pub(super) fn follow(process: &Process, stored: &Stored, timeline: &Timeline) -> Result<(), Problem> {
    let Some(parts_at) = timeline.parts_at else {
        return Ok(());
    };
    let identity = Identity {
        timeline: timeline.number,
        began: timeline.began.map(|began| began.0),
        ..stored.identity.clone()
    };
    let lost = process.dead_letters.forget_lost(parts_at).map_err(|problem| *problem)?;
    if !lost.is_empty() {
        tracing::warn!(letters = ?lost, "dead letters of changes that never happened on the server's new timeline are dropped");
    }
    let config = process.config();
    if config.source.two_phase {
        let ledger = two_phase::ledger(process).map_err(|problem| *problem)?;
        let lost = assemble::drop_lost(&config.state_dir, parts_at, ledger);
        let lost = lost.map_err(|error| two_phase::unusable(&error))?;
        if !lost.is_empty() {
            tracing::warn!(xids = ?lost, "prepared transactions that never happened on the server's new timeline are dropped");
        }
    }
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    for table in process.store.take_up_timeline(&identity, parts_at, &sinks)? {
        let why = "what it has brought may never have happened on the server's new timeline";
        tracing::warn!(table, why, "the table's copy begins anew, with its targets emptied");
    }
    Ok(())
}
