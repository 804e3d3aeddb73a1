//! What a plugin costs per row: encoding, call, check and application together, as on a lane.

use super::{Subject, process};
use crate::batch::Batch;
use crate::plugin::{Aside, AsideCause, PluginError, RowError};
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Changes of one batch, and how many batches there were.
    pub rows: usize,
    pub batches: usize,
    /// End to end per row: the median batch, the quickest, and the one that nine of ten don't exceed.
    pub median_ns: f64,
    pub least_ns: f64,
    pub ninth_decile_ns: f64,
    /// Changes that left, of the batch's.
    pub rows_out: usize,
    /// Bytes that the plugin made a batch grow by, per row.
    pub written_bytes_per_row: f64,
    pub memory_bytes: usize,
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
    for relation in &batch.relations {
        chain.relation(relation)?;
    }
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
        if round >= WARM_UP {
            taken.push(elapsed);
            written = through.arena.len() - arena + (through.cells.len() - cells) * size_of::<crate::batch::Cell>();
            if begun.elapsed() >= time {
                break;
            }
        }
    }
    taken.sort_unstable();
    let count = batch.rows.len().max(1) as f64;
    let per_row = |at: usize| taken[at.min(taken.len() - 1)].as_nanos() as f64 / count;
    Ok(Measured {
        rows: batch.rows.len(),
        batches: taken.len(),
        median_ns: per_row(taken.len() / 2),
        least_ns: per_row(0),
        ninth_decile_ns: per_row(taken.len() * 9 / 10),
        rows_out: rows.len(),
        written_bytes_per_row: written as f64 / count,
        memory_bytes: chain.memory_bytes(),
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
