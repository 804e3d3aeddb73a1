//! What there was in front of a call that came to nothing, or whose rows are to go on in their turn.

use super::Stage;
use crate::batch::{Batch, Extent};

/// A batch, and what was made of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    changes: usize,
    extent: Extent,
    out: usize,
    refused: usize,
    rows_left: u64,
}

impl Stage {
    pub(super) fn before(&self, batch: &Batch) -> Before {
        Before {
            changes: batch.changes(),
            extent: batch.extent(),
            out: self.out.len(),
            refused: self.refused.list.len(),
            rows_left: self.scratch.rows_left,
        }
    }

    /// Nothing has come since then: no value, no tuple, no row. Values that were written before one that is wrong stay in the
    /// batch otherwise, call by call, until it is too large for those of others.
    #[cold]
    pub(super) fn undo(&mut self, batch: &mut Batch, before: Before) {
        batch.take_back(before.changes);
        batch.cut_values(before.extent);
        self.out.truncate(before.out);
        self.refused.list.truncate(before.refused);
        self.scratch.rows_left = before.rows_left;
    }
}
