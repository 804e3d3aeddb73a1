//! A batch on its way through the lanes, before and behind them.

use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::Mark;
use std::sync::Arc;

/// A batch whose rows know their routes, for one lane.
#[derive(Debug)]
pub(super) struct Job {
    pub batch: Batch,
    /// The rows of each route, as it lets them out.
    pub rows: Vec<Vec<Row>>,
    /// OIDs of the batch's tables that are being copied: what an update of theirs lacks, the copy brings.
    pub copying: Vec<u32>,
    /// Stored once the batch is durable everywhere.
    pub marks: Vec<Mark>,
    /// The position that may be acknowledged then; `Lsn(0)` where it doesn't move.
    pub position: Lsn,
    /// Whether what the plugins keep is to be stored with it; the names under which, by route.
    pub checkpoint: Option<Arc<[String]>>,
}

/// A batch that went through every chain.
#[derive(Debug)]
pub(super) struct Done {
    pub batch: Batch,
    /// What is left of each route's rows, and what became of them.
    pub rows: Vec<Vec<Row>>,
    pub marks: Vec<Mark>,
    pub position: Lsn,
}
