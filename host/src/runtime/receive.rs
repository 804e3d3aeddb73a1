//! The receiving loop: socket to batches to queue, and nothing that waits.

use crate::assemble::{Full, PreparedLost};
use crate::batch::{Batch, Lsn};
use crate::decode::{DecodeError, Decoder, TableHint};
use crate::failpoint;
use crate::pipeline::{Closed, Input, LaneStats, Queue};
use crate::runtime::stop::{Stop, StopRequest};
use crate::snapshot::Merger;
use crate::source::replication::{ReceiveError, Receiver};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// How often a bounded run looks whether it has caught up while nothing comes in.
const CAUGHT_UP_POLL: Duration = Duration::from_millis(20);

/// Why receiving has ended.
#[derive(Debug)]
pub(super) enum ReceiveEnd {
    Stopped,
    /// A bounded run has reached its end.
    CaughtUp,
    /// The server is shutting down: it waits for us to let go.
    ServerGone(String),
    /// Another session is to begin, with other tables or settings.
    Again,
    /// The lane or a sink has ended by itself; it says why.
    Ended,
    Failed(ReceiveError),
    Undecodable(DecodeError),
    /// Transactions in progress, or prepared ones, need more room than there is.
    SpillFull(Full),
    /// A transaction was prepared before, and its rows aren't here.
    PreparedLost(PreparedLost),
}

/// A copy that begins between what was received before and what comes next.
pub(super) struct Joined {
    /// Tables that the stream describes from here on, as the catalog has them now.
    pub(super) hints: Vec<TableHint>,
    /// `None` where nothing is copied.
    pub(super) merger: Option<Box<Merger>>,
}

impl Joined {
    /// It stands before what `decoder` decodes next.
    pub(super) fn pass(self, decoder: &mut Decoder, queue: &Queue<Input>) -> Result<(), Closed> {
        self.hints.into_iter().for_each(|hint| decoder.hint(hint));
        self.merger.map_or(Ok(()), |merger| queue.push_now(Input::Copy(merger)))
    }
}

/// Where received bytes go.
pub(super) enum Onward {
    /// They are decoded here, which costs less than to hand them over.
    Decode(Box<Decoder>, Arc<Queue<Input>>),
    /// Blocks of transactions in progress are among them: they are assembled first, see [`super::assembly`].
    Assemble(Arc<Queue<Received>>),
}

/// What is assembled, in its order.
pub(super) enum Received {
    Bytes(Bytes),
    Joined(Box<Joined>),
}

/// What was received, ready to be pushed.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, moved once: a box would cost an allocation for each batch"
)]
enum Step {
    Batch(Batch),
    Bytes(Bytes),
}

impl Onward {
    /// `None` where there is nothing to be pushed.
    fn take(&mut self, bytes: Bytes) -> Result<Option<Step>, DecodeError> {
        match self {
            Self::Decode(decoder, _) => Ok(decoded(decoder, bytes)?.map(Step::Batch)),
            Self::Assemble(_) => Ok(Some(Step::Bytes(bytes))),
        }
    }

    fn join(&mut self, joined: Joined) -> Result<(), Closed> {
        match self {
            Self::Decode(decoder, queue) => joined.pass(decoder, queue),
            Self::Assemble(queue) => queue.push_now(Received::Joined(Box::new(joined))),
        }
    }

    async fn push(&self, step: Step) -> Result<(), Closed> {
        match (self, step) {
            (Self::Decode(_, queue), Step::Batch(batch)) => {
                let size = batch.size_bytes();
                queue.push(Input::Batch(batch), size).await
            }
            (Self::Assemble(queue), Step::Bytes(bytes)) => {
                let size = bytes.len();
                queue.push(Received::Bytes(bytes), size).await
            }
            (_, _) => Err(Closed),
        }
    }
}

/// Decodes whole frames. `None` where they hold neither rows nor a position.
pub(super) fn decoded(decoder: &mut Decoder, bytes: Bytes) -> Result<Option<Batch>, DecodeError> {
    let batch = decoder.decode(bytes)?;
    if batch.transactions.is_empty() && batch.end == Lsn(0) {
        return Ok(None);
    }
    failpoint::pass(failpoint::AFTER_DECODE);
    Ok(Some(batch))
}

/// What ends the loop besides the stream itself.
pub(super) struct Until<'a> {
    pub(super) stop: &'a mut StopRequest,
    /// Tells when the server is seen to shut down.
    pub(super) server_gone: &'a mut mpsc::Receiver<String>,
    /// Told when the lane or a sink has ended.
    pub(super) ended: &'a Notify,
    /// Changes where another session is to begin.
    pub(super) again: &'a mut watch::Receiver<u64>,
    /// Copies that begin while it runs.
    pub(super) joins: &'a mut mpsc::Receiver<Joined>,
    /// Where a bounded run ends, once nothing is being copied any more.
    pub(super) bound: Option<Lsn>,
}

/// Receives until something ends it. While the queue is full it only sends feedback.
pub(super) async fn receive(
    receiver: &mut Receiver,
    onward: &mut Onward,
    stats: &LaneStats,
    until: &mut Until<'_>,
) -> ReceiveEnd {
    let mut look = tokio::time::interval(CAUGHT_UP_POLL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let bytes = tokio::select! {
            biased;
            () = until.stop.requested(Stop::Drain) => return ReceiveEnd::Stopped,
            Some(reason) = until.server_gone.recv() => return ReceiveEnd::ServerGone(reason),
            () = until.ended.notified() => return ReceiveEnd::Ended,
            Ok(()) = until.again.changed() => return ReceiveEnd::Again,
            _ = look.tick(), if until.bound.is_some() => {
                if caught_up(until.bound, stats) {
                    return ReceiveEnd::CaughtUp;
                }
                continue;
            }
            Some(joined) = until.joins.recv() => {
                if onward.join(joined).is_err() {
                    return ReceiveEnd::Ended;
                }
                continue;
            }
            bytes = receiver.next() => bytes,
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return ReceiveEnd::Failed(error),
        };
        stats.bytes_received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        failpoint::pass(failpoint::AFTER_RECEIVE);
        let step = match onward.take(bytes) {
            Ok(Some(step)) => step,
            Ok(None) => continue,
            Err(error) => return ReceiveEnd::Undecodable(error),
        };
        tokio::select! {
            biased;
            pushed = onward.push(step) => if pushed.is_err() {
                return ReceiveEnd::Ended;
            },
            Some(reason) = until.server_gone.recv() => return ReceiveEnd::ServerGone(reason),
            () = until.stop.requested(Stop::Drain) => return ReceiveEnd::Stopped,
            // One sink's end counts though the lane waits for another.
            () = until.ended.notified() => return ReceiveEnd::Ended,
            Ok(()) = until.again.changed() => return ReceiveEnd::Again,
            error = receiver.tend() => return ReceiveEnd::Failed(error),
        }
    }
}

fn caught_up(bound: Option<Lsn>, stats: &LaneStats) -> bool {
    let position = Lsn(stats.position.load(Ordering::Acquire));
    bound.is_some_and(|bound| position >= bound) && !stats.copying.load(Ordering::Acquire)
}
