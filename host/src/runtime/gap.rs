//! Changes that the server doesn't send any more, and a person who wants to go on without them.
//!
//! `rowmill run --accept-gap POSITION` names where the gap begins, as the error has named it: the position that the state
//! has. So it counts for that one gap. A start that finds another stops, as one without it does, though the option may
//! have been left in a service's file.

use super::process::Process;
use super::supervise::RunOptions;
use crate::batch::Lsn;
use crate::checkpoint::{LastCommit, SlotState, StartAt, Stored};
use crate::problem::Problem;
use crate::source::preflight::{Report, codes};
use crate::source::slot;

/// The slot was moved on, or it is gone: behind the gap there is something to stream.
const PASSABLE: [&str; 2] = ["E0510", "E0513"];

fn is_accepted(stored: Option<&Stored>, options: RunOptions) -> bool {
    stored.is_some_and(|stored| options.accept_gap == Some(stored.lsn))
}

/// Drops a lost slot where the gap that it leaves is accepted, so that another one can be made.
pub(super) async fn drop_lost(
    client: &tokio_postgres::Client,
    report: &mut Report,
    process: &Process,
    options: RunOptions,
) -> Result<(), Box<Problem>> {
    let is_lost = |problem: &Problem| problem.code == codes::SLOT_LOST;
    let stored = process.store.stored().map_err(Box::new)?;
    let Some(lost) = report.problems.iter_mut().find(|problem| is_lost(problem)) else {
        return Ok(());
    };
    if !is_accepted(stored.as_ref(), options) {
        if let (Some(stored), Some(cause)) = (stored, &mut lost.cause) {
            // The slot's own may be behind it.
            cause.push_str(&format!("; the position here is {}", stored.lsn));
        }
        return Ok(());
    }
    slot::drop(client, &process.slot()).await?;
    report.problems.retain(|problem| !is_lost(problem));
    report.slot = None;
    Ok(())
}

/// Where to go on behind the gap that `refused` tells of, where it is accepted.
pub(super) fn accepted(
    refused: Option<&Problem>,
    stored: Option<&Stored>,
    slot: Option<&SlotState>,
    options: RunOptions,
) -> Option<StartAt> {
    let is_passable = refused.is_some_and(|problem| PASSABLE.contains(&problem.code));
    (is_passable && is_accepted(stored, options)).then(|| StartAt {
        lsn: slot.map(|slot| slot.confirmed_flush),
        first_run: false,
        warnings: Vec::new(),
    })
}

/// From now on the position is behind the gap.
pub(super) fn pass(process: &Process, to: Lsn) -> Result<(), Problem> {
    let from = process.store.position()?.unwrap_or(Lsn(0));
    tracing::warn!(
        %from,
        %to,
        help = "`rowmill resync TABLE` copies a table anew",
        "a gap is accepted: changes that were committed in between are missing at the sinks"
    );
    process.store.advance_behind(Some(to), &[], LastCommit::Unknown)
}
