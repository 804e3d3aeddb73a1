//! Tables that come and go while the pipeline lives: each start compares what is streamed now with the ledger, and so does
//! a running session that has found others (`live_copies`).
//!
//! A table that has come is copied beside the stream, as on a first run. What the server sends of it begins where the
//! publication has it (it decodes with the catalog as of the change), so its copy has to show all that was committed
//! before: the publication has the table by the time the copy begins, and every snapshot of the copy is taken
//! later. A transaction that had begun by then may have changed the table before and commits afterwards, with nothing
//! of it in the stream. So the copy waits until all of those have ended (`TableCopy::joined`).
//!
//! A table that has gone is remembered: what is at the targets grows old, and when it comes back they are emptied
//! before it is copied again. `membership` has those that leave the publication alone.

use super::process::Process;
use crate::checkpoint::{CopyState, Reach, TableCopy};
use crate::config::SnapshotMode;
use crate::problem::Problem;
use crate::source::catalog::Catalog;
use std::collections::HashSet;

/// Enters in the ledger that the table isn't streamed, or wasn't for a while. Nothing counts any more of a copy that may be under way,
/// whose marks come late; and whoever asks for another one meanwhile gets one that waits as any of a table that comes.
pub(super) fn leave(process: &Process, copy: &TableCopy) -> Result<(), Problem> {
    let left = TableCopy {
        epoch: copy.epoch + 1,
        state: CopyState::Left,
        basis: String::new(),
        joined: true,
        // Nobody saw what became of its columns.
        altered: true,
        ..copy.clone()
    };
    process.store.set_copy(&left, &[])
}

/// Those that have left, and are copied anew once they are streamed again.
pub(super) fn returning(process: &Process) -> Result<HashSet<u32>, Problem> {
    if process.config().source.snapshot.mode == SnapshotMode::Never {
        return Ok(HashSet::new());
    }
    let copies = process.store.copies()?.into_iter();
    let left = copies.filter(|copy| copy.state == CopyState::Left);
    Ok(left.map(|copy| copy.table_oid).collect())
}

/// Enters in the ledger what has come and gone since the last session. The publication has the tables already.
pub(super) fn follow(process: &Process, catalog: &Catalog) -> Result<(), Problem> {
    let known = process.store.copies()?;
    for copy in &known {
        let is_there = catalog.tables.iter().any(|table| table.oid == copy.table_oid);
        if !is_there && copy.state != CopyState::Left {
            tracing::warn!(
                table = copy.table,
                "the table isn't streamed any more: what the targets have of it grows old, and is copied anew if it comes back"
            );
            leave(process, copy)?;
        }
    }
    if process.config().source.snapshot.mode == SnapshotMode::Never {
        return Ok(());
    }
    for table in &catalog.tables {
        let name = table.full_name();
        let before = known.iter().find(|copy| copy.table_oid == table.oid);
        if before.is_some_and(|copy| copy.state != CopyState::Left) {
            continue;
        }
        // It was there before, or another one of its name: the targets have rows that nothing else takes away.
        let empties = before.is_some() || known.iter().any(|copy| copy.table == name);
        tracing::info!(
            table = name,
            empties,
            "the table is new in the stream: it is copied beside it"
        );
        let copy = TableCopy {
            table_oid: table.oid,
            table: name,
            epoch: before.map_or(0, |copy| copy.epoch),
            began: before.map_or(0, |copy| copy.epoch),
            state: CopyState::Planned,
            basis: String::new(),
            empties,
            joined: true,
            // It may have been altered while it was out, and the stream may be before that.
            altered: before.is_some(),
            reach: Reach::default(),
        };
        process.store.set_copy(&copy, &[])?;
    }
    Ok(())
}
