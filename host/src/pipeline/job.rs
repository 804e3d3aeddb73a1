//! A batch on its way through the lanes, before and behind them.

use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::Mark;
use crate::dead_letter::{Held, ReplayBatch};
use crate::plugin::{Aside, Counts};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// A batch whose rows know their routes, for one lane.
#[derive(Debug)]
pub(super) struct Job {
    pub batch: Batch,
    /// The rows of each route, as it lets them out.
    pub rows: Vec<Vec<Row>>,
    /// By route: changes that are known to wait behind dead letters. The plugins don't see them.
    pub waiting: Vec<Held>,
    /// OIDs of the batch's tables that are being copied.
    pub copying: Vec<u32>,
    /// Those of them where the copy brings what an update lacks, and the row itself where it isn't there yet.
    pub spared: Vec<u32>,
    /// Whether the outflow may have to look at the rows as they went into the plugins.
    pub keep_rows: bool,
    /// Stored once the batch is durable everywhere.
    pub marks: Vec<Mark>,
    /// The position that may be acknowledged then; `Lsn(0)` where it doesn't move.
    pub position: Lsn,
    /// Whether what the plugins keep is to be stored with it; the names under which, by route.
    pub checkpoint: Option<Arc<[String]>>,
    /// Where the batch is a round of dead letters that are sent again.
    pub replay: Option<Box<ReplayBatch>>,
}

/// A batch that went through every chain.
#[derive(Debug)]
pub(super) struct Done {
    pub batch: Batch,
    /// What is left of each route's rows.
    pub rows: Vec<Vec<Row>>,
    /// By route.
    pub sides: Vec<Side>,
    /// As in [`Job`].
    pub copying: Vec<u32>,
    pub spared: Vec<u32>,
    pub marks: Vec<Mark>,
    pub position: Lsn,
    pub counts: Counts,
    pub replay: Option<Box<ReplayBatch>>,
    /// Let go of once the letters have what was set aside: the lane goes on behind that.
    pub noted: Option<Sender<Infallible>>,
}

/// What came of a route's rows besides those that go on.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The rows as they came, in order; none where nobody has to look at them.
    pub before: Vec<Row>,
    /// Changes that no plugin has, as they wait behind dead letters.
    pub waiting: Held,
    pub asides: Vec<Aside>,
}
