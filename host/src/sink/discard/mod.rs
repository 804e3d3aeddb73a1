//! Takes everything and keeps nothing: for benchmarks, and for plugins that are tried out.

use super::{Progress, Sink, SinkContext, SinkFuture};
use crate::batch::{Delivery, Lsn};

#[derive(Debug, Default)]
pub(super) struct DiscardSink {
    durable: u64,
    rows: u64,
}

impl Sink for DiscardSink {
    fn open<'a>(&'a mut self, _context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        Box::pin(async { Ok(None) })
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        self.rows += delivery.rows.len() as u64;
        self.durable = delivery.sequence;
        Box::pin(async { Ok(Progress::Durable(delivery.sequence)) })
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(async { Ok(self.durable) })
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        tracing::debug!(rows = self.rows, "rows discarded");
        Box::pin(async { Ok(()) })
    }
}
