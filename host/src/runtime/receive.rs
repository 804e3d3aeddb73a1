//! The receiving loop: socket to batches to queue, and nothing that waits.

use crate::batch::Lsn;
use crate::decode::{DecodeError, Decoder};
use crate::failpoint;
use crate::pipeline::{Input, LaneStats, Queue};
use crate::runtime::stop::{Stop, StopRequest};
use crate::source::replication::{ReceiveError, Receiver};
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
    /// Where a bounded run ends, once nothing is being copied any more.
    pub(super) bound: Option<Lsn>,
}

/// Receives until something ends it. While the queue is full it only sends feedback.
pub(super) async fn receive(
    receiver: &mut Receiver,
    decoder: &mut Decoder,
    queue: &Queue<Input>,
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
            bytes = receiver.next() => bytes,
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return ReceiveEnd::Failed(error),
        };
        stats.bytes_received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        failpoint::pass(failpoint::AFTER_RECEIVE);
        let batch = match decoder.decode(bytes) {
            Ok(batch) => batch,
            Err(error) => return ReceiveEnd::Undecodable(error),
        };
        if batch.transactions.is_empty() && batch.end == Lsn(0) {
            continue;
        }
        failpoint::pass(failpoint::AFTER_DECODE);
        let size = batch.size_bytes();
        tokio::select! {
            biased;
            pushed = queue.push(Input::Batch(batch), size) => if pushed.is_err() {
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
