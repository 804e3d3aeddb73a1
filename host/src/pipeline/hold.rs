//! Positions and marks that wait for what the plugins keep.
//!
//! ```text
//!   batches     1 ------ 2 ------ 3 ------ 4 ------ 5          rows of a stateful plugin in 2 and 4
//!   held        -        2        2,3      -        -
//!   checkpoint                             state of 1..4
//!   may be      1                          4        5          5 has changed no state: it needs no checkpoint
//!   acknowledged
//! ```
//!
//! What is stored must fit together: a start hands the plugins their state and lets the stream begin at the position, so
//! state and position have to speak of the same batches. Therefore once a batch has met a plugin that keeps state, no
//! position is acknowledged and no mark stored until the state that all batches so far have made travels with it. A
//! batch that changes no state while none is held goes straight through.
//!
//! A checkpoint is taken where a transaction ends, and where all copied rows are counted: a start copies the others
//! again, and they must not be in the state already.

use super::state_stats::StateStats;
use crate::batch::{Batch, Lsn};
use crate::checkpoint::Mark;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The shortest time between two checkpoints while rows flow: what has to be run again after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of batches after which one is taken at the next commit all the same.
const CHECKPOINT_BATCH_BYTES: usize = 64 << 20;
/// Large states are given less often: so many bytes of state per second at most.
const STATE_BYTES_PER_SECOND: u64 = 32 << 20;
/// How long a held position waits for further rows before it is stored.
pub(super) const CHECKPOINT_IDLE: Duration = Duration::from_millis(50);
/// Checkpoints that wait for the sinks; each holds a whole state in memory.
const CHECKPOINTS_WAITING_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Hold {
    /// The names under which each route's state is stored; empty where no plugin keeps any.
    names: Arc<[String]>,
    /// Since when there is state that no checkpoint has.
    since: Option<Instant>,
    bytes: usize,
    position: Lsn,
    marks: Vec<Mark>,
}

/// What may go with a batch.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub position: Lsn,
    pub marks: Vec<Mark>,
    pub checkpoint: Option<Arc<[String]>>,
}

impl Hold {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self {
            names: names.into(),
            since: None,
            bytes: 0,
            position: Lsn(0),
            marks: Vec::new(),
        }
    }

    /// Whether something waits for a checkpoint.
    pub(super) fn is_held(&self) -> bool {
        self.since.is_some()
    }

    /// A batch. `stateful` where it has rows for a plugin that keeps state; `waiting` checkpoints haven't
    /// reached the store yet, and `may` says whether one can be taken behind this batch.
    pub(super) fn pass(
        &mut self,
        batch: &Batch,
        stateful: bool,
        may: bool,
        waiting: usize,
        stats: &StateStats,
    ) -> Released {
        self.position = self.position.max(batch.end);
        if stateful {
            self.since.get_or_insert_with(Instant::now);
        }
        if self.since.is_none() {
            return self.release(None);
        }
        self.bytes += batch.size_bytes();
        if may && waiting < CHECKPOINTS_WAITING_MAX && self.is_due(stats) {
            return self.checkpoint();
        }
        Released::default()
    }

    /// What is kept has changed without a batch.
    pub(super) fn expect(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Marks without a batch; what may be stored of them at once.
    pub(super) fn mark(&mut self, marks: Vec<Mark>) -> Vec<Mark> {
        if self.is_held() {
            self.marks.extend(marks);
            return Vec::new();
        }
        marks
    }

    /// All that is held, for a job that takes the state.
    pub(super) fn checkpoint(&mut self) -> Released {
        let names = Arc::clone(&self.names);
        self.release(Some(names))
    }

    fn release(&mut self, checkpoint: Option<Arc<[String]>>) -> Released {
        self.since = None;
        self.bytes = 0;
        Released {
            position: std::mem::take(&mut self.position),
            marks: std::mem::take(&mut self.marks),
            checkpoint,
        }
    }

    /// Whether it is time for a checkpoint, where one is wanted.
    pub(super) fn is_due(&self, stats: &StateStats) -> bool {
        let state_bytes = stats.bytes.load(Ordering::Relaxed);
        let interval = CHECKPOINT_INTERVAL.max(Duration::from_millis(
            state_bytes.saturating_mul(1000) / STATE_BYTES_PER_SECOND,
        ));
        self.bytes >= CHECKPOINT_BATCH_BYTES || self.since.is_some_and(|since| since.elapsed() >= interval)
    }
}
