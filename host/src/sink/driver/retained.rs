//! Deliveries that were written and aren't durable yet.

use crate::batch::{Delivery, Op, Origin, Row};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Retained {
    deliveries: VecDeque<Arc<Delivery>>,
    bytes: usize,
    bound: usize,
    /// The last delivery that was let go before it was durable.
    lost: Option<u64>,
}

impl Retained {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            deliveries: VecDeque::new(),
            bytes: 0,
            bound,
            lost: None,
        }
    }

    pub(super) fn push(&mut self, delivery: Arc<Delivery>) {
        self.bytes += delivery.batch.size_bytes();
        self.deliveries.push_back(delivery);
    }

    pub(super) fn durable(&mut self, sequence: u64) {
        while self.deliveries.front().is_some_and(|first| first.sequence <= sequence) {
            let Some(delivery) = self.deliveries.pop_front() else {
                break;
            };
            self.bytes -= delivery.batch.size_bytes();
        }
        if self.lost.is_some_and(|lost| lost <= sequence) {
            self.lost = None;
        }
    }

    pub(super) fn first_behind(&self, sequence: u64) -> Option<Arc<Delivery>> {
        self.deliveries
            .iter()
            .find(|delivery| delivery.sequence > sequence)
            .cloned()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > self.bound
    }

    /// Lets go of everything, durable or not.
    pub(super) fn give_up(&mut self) {
        self.lost = self.deliveries.back().map(|last| last.sequence).or(self.lost);
        self.deliveries.clear();
        self.bytes = 0;
    }

    /// Whether something that isn't durable can't be sent again: it was let go, or the sink has been given it, up to
    /// `attempted`, and can't know it if it comes twice.
    pub(super) fn is_lost(&self, attempted: u64) -> bool {
        let given = self.deliveries.iter().take_while(|given| given.sequence <= attempted);
        self.lost.is_some()
            || given
                .flat_map(|given| given.rows.iter().map(move |row| (given, row)))
                .any(no_key_tells)
    }
}

/// Rows of a table without a key, of its copy or behind it: neither the sink's position nor a key tells whether they are
/// there. Once the stream starts again the targets are emptied.
fn no_key_tells((delivery, row): (&Arc<Delivery>, &Row)) -> bool {
    let transaction = delivery.batch.transaction(row);
    match transaction.origin {
        Origin::Copy(_) => delivery.batch.keyless && row.op != Op::Truncate,
        Origin::Stream => transaction.is_aside() && row.op != Op::Message,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Lsn, Part};
    use crate::sink::testing::{Builder, orders, text};

    /// One insert, in its place or out of it, as what waited for the copy of a table without a key is.
    fn delivery(end: Lsn) -> Arc<Delivery> {
        let row = [text("1"), text("paid"), text("a")];
        let built = Builder::new().transaction(0x10, Part::Whole).insert(&orders(), &row);
        let mut delivery = built.delivery(7);
        let mut batch = Batch::clone(&delivery.batch);
        batch.transactions[0].end_lsn = end;
        delivery.batch = Arc::new(batch);
        Arc::new(delivery)
    }

    #[test]
    fn what_waited_for_a_copy_is_never_given_to_a_sink_twice() {
        let (mut aside, mut in_place) = (Retained::new(1 << 20), Retained::new(1 << 20));
        aside.push(delivery(Lsn(0)));
        in_place.push(delivery(Lsn(0x11)));
        assert!(!aside.is_lost(6), "the sink hasn't been given it");
        assert!(aside.is_lost(7));
        assert!(!in_place.is_lost(7), "its position tells");
        aside.durable(7);
        assert!(!aside.is_lost(7));
    }

    /// Under REPLICA IDENTITY FULL every column is called one of the key.
    #[test]
    fn copied_rows_without_a_key_are_never_given_to_a_sink_twice() {
        let copied = |keyless| {
            let mut retained = Retained::new(1 << 20);
            let row = [text("1"), text("paid"), text("a")];
            let built = Builder::new().copy(0x10, 1);
            let mut delivery = built.row(Op::Read, &orders(), Some(&row), None).delivery(7);
            Arc::make_mut(&mut delivery.batch).keyless = keyless;
            retained.push(Arc::new(delivery));
            retained
        };
        assert!(!copied(true).is_lost(6), "the sink hasn't been given it");
        assert!(copied(true).is_lost(7));
        assert!(!copied(false).is_lost(7), "its key tells");
    }
}
