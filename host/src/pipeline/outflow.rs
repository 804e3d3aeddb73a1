//! The ordered end of the lanes: what went through the plugins is numbered and handed to the sinks.

use super::intake::{Input, LaneEnd, Tap};
use super::job::Done;
use super::queue::Queue;
use super::stats::LaneStats;
use crate::batch::{Batch, Delivery, Lsn, Row};
use crate::checkpoint::{Frontier, Mark};
use crate::sink::driver::SinkHandle;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where deliveries for one sink go.
pub struct Outlet {
    pub handle: SinkHandle,
    /// Whether it was given a part of a transaction that hasn't ended.
    inside: bool,
}

impl Outlet {
    pub fn new(handle: SinkHandle) -> Self {
        Self { handle, inside: false }
    }
}

pub(super) struct Outflow {
    /// Closed when nothing can be delivered any more, so that the intake ends too.
    pub(super) queue: Arc<Queue<Input>>,
    /// Indexes of each route's sinks.
    pub(super) sinks: Vec<Vec<usize>>,
    pub(super) outlets: Vec<Outlet>,
    pub(super) frontier: Arc<Frontier<Mark>>,
    pub(super) stats: Arc<LaneStats>,
    /// Called with what each sink is about to get, while somebody watches.
    pub(super) tap: Tap,
    pub(super) sequence: u64,
}

impl Outflow {
    pub(super) fn deliver(&mut self, done: Done) -> Result<(), LaneEnd> {
        let Done {
            batch,
            mut rows,
            marks,
            position,
        } = done;
        self.stats.states.checkpointed(&marks);
        self.sequence += 1;
        let sequence = self.sequence;
        let inside = !batch.ends_at_commit();
        let batch = Arc::new(batch);
        let mut deliveries = Vec::with_capacity(self.outlets.len());
        for (sink, outlet) in self.outlets.iter_mut().enumerate() {
            let rows = rows_for(sink, &self.sinks, &mut rows);
            // The end of a transaction is told to whoever has seen its beginning, with or without rows.
            if rows.is_empty() && !outlet.inside {
                continue;
            }
            outlet.inside = inside;
            self.stats
                .rows_delivered
                .fetch_add(rows.len() as u64, Ordering::Relaxed);
            (self.tap)(&batch, &rows);
            deliveries.push((sink, delivery(sequence, &batch, rows)));
        }
        let to = deliveries.iter().map(|(sink, _)| *sink);
        self.frontier.sent(sequence, to, position, marks);
        for (sink, delivery) in deliveries {
            let sent = self.outlets[sink].handle.send(delivery);
            sent.map_err(|_| LaneEnd::SinkGone)?;
        }
        Ok(())
    }

    /// Marks without a batch, to be stored behind what was sent before.
    pub(super) fn mark(&mut self, marks: Vec<Mark>) {
        self.sequence += 1;
        self.frontier.sent(self.sequence, [], Lsn(0), marks);
    }
}

/// However it ends, by a panic too: nobody waits for it any more.
impl Drop for Outflow {
    fn drop(&mut self) {
        self.queue.close();
        for outlet in &self.outlets {
            outlet.handle.close();
        }
    }
}

fn delivery(sequence: u64, batch: &Arc<Batch>, rows: Vec<Row>) -> Delivery {
    let batch = Arc::clone(batch);
    Delivery { sequence, batch, rows }
}

/// What a sink gets: the rows of its routes, in the order of the changes.
fn rows_for(sink: usize, sinks: &[Vec<usize>], rows: &mut [Vec<Row>]) -> Vec<Row> {
    let own: Vec<usize> = (0..sinks.len()).filter(|route| sinks[*route].contains(&sink)).collect();
    let [route] = own[..] else {
        let mut merged: Vec<Row> = own.iter().flat_map(|route| rows[*route].iter().copied()).collect();
        merged.sort_by_key(|row| (row.transaction, row.ordinal));
        return merged;
    };
    let last_reader = sinks[route].iter().max() == Some(&sink);
    if last_reader {
        std::mem::take(&mut rows[route])
    } else {
        rows[route].clone()
    }
}
