//! Asks a server that has all names right whether it has the history of our position, see `checkpoint::compare_history`.

use crate::batch::Lsn;
use crate::checkpoint::{Commit, Stored, compare_history, is_in_question};
use crate::problem::Problem;
use crate::source::history::{COMMITS_MAX, last_commits};
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
    let from = state.restart_lsn.unwrap_or(Lsn(0));
    let bytes = stored.lsn.0.saturating_sub(from.0);
    if bytes > LOOK_BYTES_MAX {
        not_told(
            slot,
            &format!("{} MiB of WAL would have to be decoded for it", bytes >> 20),
        );
        return Ok(());
    }
    if slot.active.is_some() {
        not_told(slot, "somebody streams from the slot");
        return Ok(());
    }
    let publication = &stored.identity.publication;
    match last_commits(client, &slot.name, slot.two_phase, publication, stored.lsn).await {
        Ok(found) if found.len() == COMMITS_MAX && !found.iter().any(|found| found.brings_rows) => {
            not_told(slot, "it has prepared transactions alone");
            Ok(())
        }
        Ok(found) => compare_history(stored, &state, last, &found).map_err(Box::new),
        // The stream says by itself what is wrong with the slot, or with the connection.
        Err(error) => {
            not_told(slot, &error.to_string());
            Ok(())
        }
    }
}

/// The stream begins all the same, as behind any crash of the server, and a person knows whether that was one.
fn not_told(slot: &slot::SlotState, why: &str) {
    tracing::warn!(
        slot = slot.name,
        why,
        help = "if the server was restored or is a copy, compare the targets: `rowmill verify`",
        "whether the server's history is ours can't be told"
    );
}
