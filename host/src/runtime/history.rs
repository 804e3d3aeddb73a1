//! Asks a server that has all names right whether it has the history of our position, see `checkpoint::compare_history`.

use crate::batch::Lsn;
use crate::checkpoint::{Commit, Stored, compare_history, is_in_question};
use crate::problem::Problem;
use crate::source::history::last_commits;
use crate::source::slot;
use tokio_postgres::Client;

/// WAL that the server may have to decode once more for it, mostly none: some ten seconds of a start.
const LOOK_BYTES_MAX: u64 = 1 << 30;

/// Refuses a server that is a copy of ours and went on by itself. Says so where that can't be told.
///
/// # Errors
/// The problem that it is such a copy.
pub(super) async fn compare(
    client: &Client,
    slot: Option<&slot::SlotState>,
    stored: Option<&Stored>,
    last: Option<Commit>,
) -> Result<(), Box<Problem>> {
    let (Some(slot), Some(stored), Some(last)) = (slot, stored, last) else {
        return Ok(());
    };
    let Some(state) = super::source::slot_state(Some(slot)) else {
        return Ok(());
    };
    if !is_in_question(stored, &state) {
        return Ok(());
    }
    // Its prepared transactions would have to be asked for, and the slot would remember that they were.
    let from = state.restart_lsn.unwrap_or(Lsn(0));
    let bytes = stored.lsn.0.saturating_sub(from.0);
    if slot.two_phase || slot.active.is_some() || bytes > LOOK_BYTES_MAX {
        tracing::debug!(slot = slot.name, bytes, "the server's history isn't compared");
        return Ok(());
    }
    let publication = &stored.identity.publication;
    match last_commits(client, &slot.name, publication, stored.lsn).await {
        Ok(found) => compare_history(stored, &state, last, &found).map_err(Box::new),
        // The stream says by itself what is wrong with the slot, or with the connection.
        Err(error) => {
            tracing::warn!(slot = slot.name, %error, "whether the server's history is ours can't be told");
            Ok(())
        }
    }
}
