//! What is said of a row that a sink can't take.

use crate::batch::{Batch, Delivery, Origin, Row, RowId};
use crate::problem::{Exit, Problem};
use crate::sink::SinkContext;
use std::sync::atomic::Ordering;

/// The id of a row that the sink stops at. Where it is of a dead letter that was sent again, that is noted: the letter is not
/// to stop the sink at each start.
pub(in crate::sink) fn stopped_at(context: &SinkContext, batch: &Batch, row: &Row) -> RowId {
    let transaction = batch.transaction(row);
    if let Origin::Replay(replay) = transaction.origin {
        context.passed_over.letter.store(replay.letter, Ordering::Relaxed);
    }
    RowId {
        system_identifier: context.system_identifier,
        commit_lsn: transaction.commit_lsn,
        origin: transaction.origin,
        ordinal: row.ordinal,
        fan_out: row.fan_out,
    }
}

/// Of a row that its values keep out of any sink of this kind.
pub(in crate::sink) fn refused(
    context: &SinkContext,
    delivery: &Delivery,
    row: usize,
    error: &anyhow::Error,
) -> Problem {
    let Some(row) = delivery.rows.get(row) else {
        return unknown(context, "a row", error);
    };
    let id = stopped_at(context, &delivery.batch, row);
    let table = delivery
        .batch
        .relations
        .get(row.relation as usize)
        .map_or_else(String::new, |relation| relation.full_name());
    unknown(context, &format!("row {id} of {table}"), error)
}

/// The same of a row that isn't at hand.
pub(super) fn unknown(context: &SinkContext, row: &str, error: &anyhow::Error) -> Problem {
    Problem::new(
        "E0412",
        Exit::Sink,
        format!("sink {} can't take a row", context.sink),
        "filter or change the row in a plugin, then start again",
    )
    .with_cause(format!("{row}: {error:#}"))
}
