//! Deliveries that wait to be applied together.
//!
//! ```text
//!   delivered   | T1 T2 T3..|..T3 T4 | T5 T6..|      T3 and T6 are cut by deliveries
//!   applied     | T1 T2 T3 T4 T5 | T6..              one delivery: more rows per statement, more that is left out
//! ```

use crate::batch::{Delivery, Joined, Origin};
use rustc_hash::FxHashSet;

/// Bytes of deliveries that are applied together: enough that what a statement, a COPY and a commit cost beside their
/// rows isn't seen, little enough that a second copy of them in memory isn't either.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Window {
    deliveries: Vec<Delivery>,
    bytes: usize,
    rows: usize,
    /// Indexes of their relations.
    relations: FxHashSet<u32>,
}

/// Deliveries as one.
pub(super) struct Joint {
    pub(super) delivery: Delivery,
    /// Where each one's transactions begin, and the sequence of the one before it.
    begins: Vec<(usize, u64)>,
}

impl Window {
    /// Whether the delivery may be applied together with those that wait. `is_known` says of which relations it is
    /// certain that the target takes them: what comes before one that it may not take is applied before.
    pub(super) fn takes(&self, delivery: &Delivery, is_known: impl Fn(u32) -> bool) -> bool {
        let Some(last) = self.deliveries.last() else {
            return true;
        };
        let is_known = |index: u32| self.relations.contains(&index) || is_known(index);
        self.bytes + delivery.batch.size_bytes() <= WINDOW_BYTES
            && last.copying == delivery.copying
            && last.batch.straight == delivery.batch.straight
            && last.batch.keyless == delivery.batch.keyless
            && is_alike(last, delivery)
            && delivery.batch.relations.iter().all(|it| is_known(it.index))
    }

    pub(super) fn push(&mut self, delivery: &Delivery) {
        self.bytes += delivery.batch.size_bytes();
        self.rows += delivery.rows.len();
        self.relations
            .extend(delivery.batch.relations.iter().map(|it| it.index));
        self.deliveries.push(delivery.clone());
    }

    /// Whether there is nothing to wait for: it is enough, or it is nothing.
    pub(super) fn is_due(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.rows == 0
    }

    /// All that waits; `before` is the sequence of the delivery before it.
    pub(super) fn take(&mut self, before: u64) -> Option<Joint> {
        self.bytes = 0;
        self.rows = 0;
        self.relations.clear();
        let deliveries = std::mem::take(&mut self.deliveries);
        if deliveries.len() > 1 {
            let (delivery, begins) = Joined::of(&deliveries, before).finish();
            return Some(Joint { delivery, begins });
        }
        deliveries.into_iter().next().map(|delivery| Joint {
            delivery,
            begins: vec![(0, before)],
        })
    }
}

/// Whether all changes of both are equally strict about what they meet: one that brings its row must not be left out
/// for a later one that only finds it.
fn is_alike(one: &Delivery, other: &Delivery) -> bool {
    let mut strict = [one, other].into_iter().flat_map(|it| {
        let transactions = it.batch.transactions.iter();
        transactions.map(|transaction| transaction.origin == Origin::Stream && !transaction.is_aside())
    });
    let first = strict.next();
    strict.all(|strict| Some(strict) == first)
}

impl Joint {
    /// The last delivery that ended before the one in which a transaction begins.
    pub(super) fn before(&self, transaction: usize) -> u64 {
        let at = self.begins.partition_point(|(begin, _)| *begin <= transaction);
        // The first begins at 0.
        self.begins[at.saturating_sub(1)].1
    }
}
