//! What a plugin costs per row: encoding, call, check and application together, as on a lane.

use super::{Subject, process};
use crate::batch::Batch;
use crate::plugin::{Aside, AsideCause, PluginError, Projection, RowError};
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Changes of one batch, and how many batches there were.
    pub rows: usize,
    pub batches: usize,
    /// End to end per row: the median batch, the quickest, and the one that nine of ten don't exceed.
    pub median_ns: f64,
    pub least_ns: f64,
    pub ninth_decile_ns: f64,
    /// Of the median batch, per row: rows to bytes; the call; the reply checked and applied; all else.
    pub encode_ns: f64,
    pub call_ns: f64,
    pub reply_ns: f64,
    pub rest_ns: f64,
    /// Calls of a batch: a large one is sent in several.
    pub calls: u64,
    /// Bytes into the guest and out of it, per row.
    pub in_bytes_per_row: f64,
    pub out_bytes_per_row: f64,
    /// Changes that left, of the batch's.
    pub rows_out: usize,
    /// Bytes that the plugin made a batch grow by, per row.
    pub written_bytes_per_row: f64,
    pub memory_bytes: usize,
    /// Each table with what the plugin reads and writes of it; without where it isn't called for it.
    pub columns: Vec<(String, Option<Projection>)>,
}

/// Rounds before anything counts.
const WARM_UP: usize = 20;

/// Sends `batch` through one instance again and again for about `time`.
///
/// # Errors
///
/// A plugin that doesn't start, refuses a table or a row, or breaks.
pub fn measure(subject: &Subject, batch: &Batch, time: Duration) -> Result<Measured, PluginError> {
    let mut chain = subject.start()?;
    let mut columns = Vec::new();
    for relation in &batch.relations {
        chain.relation(relation)?;
        columns.push((relation.full_name(), chain.projections(relation).pop()));
    }
    chain.start_clocks();
    let mut through = batch.clone();
    let (cells, arena, relations) = (batch.cells.len(), batch.arena.len(), batch.relations.len());
    let (mut rows, mut taken, mut written) = (Vec::new(), Vec::new(), 0);
    let begun = Instant::now();
    for round in 0.. {
        through.cells.truncate(cells);
        through.arena.truncate(arena);
        through.relations.truncate(relations);
        rows.clear();
        rows.extend_from_slice(&batch.rows);
        let started = Instant::now();
        let aside = process(&mut chain, &mut through, &mut rows)?;
        let elapsed = started.elapsed();
        if let Some(error) = aside.iter().find_map(row_error) {
            return Err(error);
        }
        let split = chain.take_splits().next().unwrap_or_default();
        if round >= WARM_UP {
            taken.push((elapsed, split));
            written = through.arena.len() - arena + (through.cells.len() - cells) * size_of::<crate::batch::Cell>();
            if begun.elapsed() >= time {
                break;
            }
        }
    }
    taken.sort_unstable_by_key(|(elapsed, _)| *elapsed);
    let count = batch.rows.len().max(1) as f64;
    let ns = |time: Duration| time.as_nanos() as f64 / count;
    let at = |at: usize| taken[at.min(taken.len() - 1)];
    let (elapsed, split) = at(taken.len() / 2);
    Ok(Measured {
        rows: batch.rows.len(),
        batches: taken.len(),
        median_ns: ns(elapsed),
        least_ns: ns(at(0).0),
        ninth_decile_ns: ns(at(taken.len() * 9 / 10).0),
        encode_ns: ns(split.encode),
        call_ns: ns(split.call),
        reply_ns: ns(split.reply),
        rest_ns: ns(elapsed.saturating_sub(split.encode + split.call + split.reply)),
        calls: split.calls,
        in_bytes_per_row: split.bytes_in as f64 / count,
        out_bytes_per_row: split.bytes_out as f64 / count,
        rows_out: rows.len(),
        written_bytes_per_row: written as f64 / count,
        memory_bytes: chain.memory_bytes(),
        columns,
    })
}

/// A row that is rejected costs something else than one that goes through.
fn row_error(aside: &Aside) -> Option<PluginError> {
    let AsideCause::Row(kind) = &aside.cause else {
        return None;
    };
    Some(PluginError::Row(Box::new(RowError {
        plugin: aside.plugin.clone(),
        row: aside.place.clone(),
        kind: kind.clone(),
    })))
}
