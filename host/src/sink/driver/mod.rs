//! Drives one sink: takes deliveries from a bounded queue, retries, and says how far everything is durable.
//!
//! ```text
//!   send -> [ queue ] -> write -> [ retained ] -> flush -> durable(sequence)
//!                          ^           |
//!                          +-- again --+   after a transient failure, behind a new open()
//! ```
//!
//! What is written but not durable is retained, so that a failure costs a resend and nothing else. Both the queue and
//! the retained deliveries are bounded in bytes. A transaction larger than the bound can't be retained: a failure
//! inside of it ends the driver with [`Outcome::Rewind`], and the stream starts again from the stored position.
//!
//! A sink that has caught up is flushed at once; one that is behind, once per flush interval. One that asks for it
//! lingers for some milliseconds before it is flushed while rows come in numbers.

mod backoff;
mod queue;
mod refused;
mod retained;

pub use queue::{Closed, SinkHandle, SinkState};
pub(super) use refused::{refused, stopped_at};

use super::{Progress, Sink, SinkContext, SinkError};
use crate::batch::{Delivery, Lsn, Origin};
use crate::config::ByteSize;
use crate::failpoint;
use crate::problem::{COPY_ANEW, Exit, Problem};
use backoff::Backoff;
use queue::Queue;
use retained::Retained;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a delivery from which on more are likely to follow at once.
const LINGER_ROWS_MIN: usize = 16;

/// How a driver ended.
#[derive(Debug)]
pub enum Outcome {
    /// The queue was closed and everything that can be durable is.
    Done,
    /// The sink can't go on before somebody solves this.
    Stopped(Box<Problem>),
    /// What the sink lost is no longer in memory: the stream has to start again from the stored position.
    Rewind(anyhow::Error),
    /// The reader of what the sink writes has gone: a clean end of the pipeline.
    ReaderGone,
}

/// Stores something, and blocks for it.
type Settle = Box<dyn FnOnce() -> Result<(), Problem> + Send>;

/// One sink with its queue, not started yet.
pub struct Driver {
    sink: Box<dyn Sink>,
    context: SinkContext,
    queue: Arc<Queue>,
    retained: Retained,
    flush_interval: Duration,
    durable: Box<dyn Fn(u64) + Send + Sync>,
    backoff: Backoff,
    /// Why it failed last, until something becomes durable again.
    last_failure: String,
    /// Transactions that committed before it are there already.
    position: Option<Lsn>,
    /// Where the source's WAL ended before the stream began, until the sink's first position was compared with it.
    server_end: Option<Lsn>,
    /// Stores that the sink was found on the source's timeline.
    settle: Option<Settle>,
    written: u64,
    /// The last that the sink was given, in any session.
    attempted: u64,
    durable_sequence: u64,
    /// When the first delivery that isn't durable was written.
    undurable_since: Option<Instant>,
    /// When the first delivery behind the last flush was written.
    unflushed_since: Option<Instant>,
    /// Rows of the last delivery.
    last_rows: usize,
}

impl Driver {
    /// `queue` bounds the queue, and once more what is retained. `durable` is called with ascending sequences.
    pub fn new(
        sink: Box<dyn Sink>,
        context: SinkContext,
        queue: ByteSize,
        flush_interval: Duration,
        durable: impl Fn(u64) + Send + Sync + 'static,
    ) -> (SinkHandle, Self) {
        let bound = usize::try_from(queue.0).unwrap_or(usize::MAX);
        let queue = Arc::new(Queue::new(bound, Arc::clone(&context.passed_over)));
        let driver = Self {
            sink,
            context,
            queue: Arc::clone(&queue),
            retained: Retained::new(bound),
            flush_interval,
            durable: Box::new(durable),
            backoff: Backoff::default(),
            last_failure: String::new(),
            position: None,
            server_end: None,
            settle: None,
            written: 0,
            attempted: 0,
            durable_sequence: 0,
            undurable_since: None,
            unflushed_since: None,
            last_rows: 0,
        };
        (SinkHandle::new(queue), driver)
    }

    /// Refuses a sink that has a position beyond where the source's WAL ended before the stream began: it would drop
    /// whatever commits below that.
    #[must_use]
    pub fn with_server_end(self, end: Lsn) -> Self {
        Self {
            server_end: Some(end),
            ..self
        }
    }

    /// Refuses a sink that has a position beyond where the source's timeline parts from the one that the sink was on, as far as
    /// `known` says that. `settle` is called once it has none, before it gets anything: from then on its positions are of the new one.
    #[must_use]
    pub fn with_parting(self, settle: impl FnOnce() -> Result<(), Problem> + Send + 'static) -> Self {
        Self {
            settle: Some(Box::new(settle)),
            ..self
        }
    }

    /// Runs until the queue is closed and empty, or the sink can't go on. Whoever is blocked in
    /// [`SinkHandle::send`] then gets [`Closed`].
    pub async fn run(mut self) -> Outcome {
        // Also where the task is aborted: senders must not wait for a driver that is gone.
        let _abandon = queue::Abandon(Arc::clone(&self.queue));
        loop {
            self.queue.set_state(SinkState::Opening);
            let error = match self.deliver().await {
                Ok(()) => return Outcome::Done,
                Err(SinkError::Transient(error)) => error,
                Err(SinkError::Definite(problem)) => {
                    // What came before is there: dead letters that were sent again would come twice.
                    self.report(self.sink.durable());
                    return Outcome::Stopped(problem);
                }
                Err(SinkError::ReaderGone) => return Outcome::ReaderGone,
                Err(SinkError::Row { row, error }) => {
                    let problem = refused::unknown(&self.context, &format!("row {row}"), &error);
                    return Outcome::Stopped(Box::new(problem));
                }
            };
            if self.retained.is_lost(self.attempted) || self.context.known.has_gone_back() {
                return Outcome::Rewind(error);
            }
            let delay = self.backoff.next();
            self.queue.set_state(SinkState::Retrying);
            self.queue.count_retry();
            self.tell(format!("{error:#}"), delay);
            tokio::time::sleep(delay).await;
        }
    }

    /// The same failure again and again is one line, not a flood.
    fn tell(&mut self, failure: String, delay: Duration) {
        let (sink, retry_in_ms) = (&self.context.sink, delay.as_millis() as u64);
        if failure == self.last_failure {
            tracing::debug!(sink, retry_in_ms, "the sink fails still: {failure}");
        } else {
            tracing::warn!(sink, retry_in_ms, "the sink failed and is opened again: {failure}");
            self.last_failure = failure;
        }
    }

    /// One session with the target, from open to close.
    async fn deliver(&mut self) -> Result<(), SinkError> {
        self.position = self.sink.open(&self.context).await?;
        self.settle().await?;
        // What it gets from now on may lie beyond it.
        if let (Some(end), Some(position)) = (self.server_end.take(), self.position)
            && position > end
        {
            return Err(beyond(&self.context, position, end).into());
        }
        self.queue.set_state(SinkState::Running);
        self.report(self.sink.durable());
        self.written = self.durable_sequence;
        self.undurable_since = None;
        self.unflushed_since = None;
        // A write may make earlier ones durable and let go of them, so the next one is told by its sequence.
        while let Some(delivery) = self.retained.first_behind(self.written) {
            self.write(delivery).await?;
        }
        loop {
            let delivery = match self.queue.try_pop() {
                Some(delivery) => delivery,
                None => match self.linger().await {
                    Some(delivery) => delivery,
                    None => {
                        self.flush().await?;
                        match self.next().await? {
                            Some(delivery) => delivery,
                            None => break,
                        }
                    }
                },
            };
            let delivery = Arc::new(delivery);
            self.retained.push(Arc::clone(&delivery));
            self.write(delivery).await?;
            self.flush_if_due().await?;
        }
        self.sink.close().await
    }

    /// Compares what was opened with where the timelines part, once.
    async fn settle(&mut self) -> Result<(), SinkError> {
        let known = &self.context.known;
        if !known.is_parted() {
            return Ok(());
        }
        if let Some(position) = self.position {
            known.on_the_timeline(&self.context.sink, position)?;
        }
        if let Some(settle) = self.settle.take() {
            let stored = tokio::task::spawn_blocking(settle).await;
            stored.map_err(|error| SinkError::Transient(error.into()))??;
        }
        self.context.known.settled();
        Ok(())
    }

    /// The next delivery, however long it takes.
    async fn next(&mut self) -> Result<Option<Delivery>, SinkError> {
        while let Some(after) = self.sink.idle_after() {
            match tokio::time::timeout(after, self.queue.pop()).await {
                Ok(next) => return Ok(next),
                Err(_) => self.sink.idle().await?,
            }
        }
        Ok(self.queue.pop().await)
    }

    /// What comes while a flush is put off.
    async fn linger(&mut self) -> Option<Delivery> {
        if self.last_rows < LINGER_ROWS_MIN {
            return None;
        }
        let until = self.unflushed_since? + self.sink.linger();
        let next = tokio::time::timeout_at(until.into(), self.queue.pop()).await;
        next.ok().flatten()
    }

    async fn write(&mut self, delivery: Arc<Delivery>) -> Result<(), SinkError> {
        let sequence = delivery.sequence;
        let delivery = match self.position.and_then(|position| without_known(&delivery, position)) {
            Some(rest) => Arc::new(rest),
            None => delivery,
        };
        failpoint::pass(failpoint::BEFORE_SINK_WRITE);
        self.attempted = self.attempted.max(sequence);
        let progress = self.sink.write(&delivery).await.map_err(|error| match error {
            SinkError::Row { row, error } => refused(&self.context, &delivery, row, &error).into(),
            other => other,
        })?;
        failpoint::pass(failpoint::AFTER_SINK_WRITE);
        self.written = sequence;
        self.queue.count_rows(delivery.rows.len());
        self.last_rows = delivery.rows.len();
        self.undurable_since.get_or_insert_with(Instant::now);
        self.unflushed_since.get_or_insert_with(Instant::now);
        if let Progress::Durable(sequence) = progress {
            self.report(sequence);
        }
        Ok(())
    }

    async fn flush_if_due(&mut self) -> Result<(), SinkError> {
        let due = self
            .undurable_since
            .is_some_and(|since| since.elapsed() >= self.flush_interval);
        if due || self.retained.is_full() {
            self.flush().await?;
            // Still waiting: for the end of a transaction. The next look is due after another interval.
            self.undurable_since = self.undurable_since.map(|_| Instant::now());
        }
        if self.retained.is_full() {
            self.retained.give_up();
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.unflushed_since = None;
        if self.written > self.durable_sequence {
            let sequence = self.sink.flush().await?;
            failpoint::pass(failpoint::AFTER_SINK_FLUSH);
            self.report(sequence);
        }
        Ok(())
    }

    fn report(&mut self, sequence: u64) {
        if sequence <= self.durable_sequence {
            return;
        }
        self.durable_sequence = sequence;
        self.retained.durable(sequence);
        self.backoff.reset();
        self.last_failure.clear();
        self.undurable_since = (self.written > sequence).then(Instant::now);
        self.queue.set_durable(sequence);
        (self.durable)(sequence);
    }
}

/// The delivery without the rows of streamed transactions that committed before `position`; `None` where it has none
/// of them. The transactions stay: they tell where the stream is.
pub(super) fn without_known(delivery: &Delivery, position: Lsn) -> Option<Delivery> {
    let known = |row: &crate::batch::Row| {
        let transaction = delivery.batch.transaction(row);
        transaction.origin == Origin::Stream && !transaction.is_aside() && transaction.commit_lsn < position
    };
    delivery.rows.iter().any(known).then(|| Delivery {
        sequence: delivery.sequence,
        batch: Arc::clone(&delivery.batch),
        rows: delivery.rows.iter().filter(|row| !known(row)).copied().collect(),
        copying: delivery.copying.clone(),
    })
}

/// What a sink has may never have happened at the source.
fn beyond(context: &SinkContext, position: Lsn, end: Lsn) -> Problem {
    let headline = format!("sink {} is at {position}, beyond the server's WAL", context.sink);
    let cause = format!("the server's WAL ends at {end}: it was restored or has failed over");
    Problem::new("E0512", Exit::Gap, headline, COPY_ANEW).with_cause(cause)
}

#[cfg(test)]
mod tests;
