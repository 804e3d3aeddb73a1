//! Streamed transactions are assembled on a thread of their own, between the socket and the decoder: it waits for disks
//! and for the queue behind it, and receiving never does.

use super::process::Process;
use super::receive::{Onward, ReceiveEnd, Received, decoded};
use super::two_phase;
use crate::assemble::{Assembler, Stop};
use crate::batch::Lsn;
use crate::decode::{DecodeError, Decoder};
use crate::pipeline::{Closed, Input, Popped, Queue};
use crate::problem::{Exit, Problem};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};

/// Bytes that wait to be assembled: enough to receive on while a part is written to disk.
const QUEUE_BYTES: usize = 8 << 20;
/// How long the thread sleeps at most; it is woken by bytes, and by the end.
const IDLE: Duration = Duration::from_secs(60);

/// The thread, seen from the session.
pub(super) struct Assembly {
    received: Arc<Queue<Received>>,
    /// `None` once it has been told.
    end: Option<oneshot::Receiver<ReceiveEnd>>,
}

/// Tells the session that the thread has ended, by a panic too.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Why a chunk goes no further.
enum Gone {
    Closed,
    Undecodable(DecodeError),
}

/// With an empty spill, for a stream that begins at `start`. To be called once nothing of an earlier session works with it.
pub(super) fn assembler(process: &Arc<Process>, start: Lsn) -> Result<Assembler, Box<Problem>> {
    let config = process.config();
    let assembler = Assembler::new(&config.state_dir, config.source.spill.0, Arc::clone(&process.spill));
    let assembler = assembler.map_err(|error| Box::new(unusable(&error)))?;
    if !config.source.two_phase {
        return Ok(assembler);
    }
    let told = Arc::clone(process);
    let acknowledged = move || Lsn(told.status.acknowledged.load(Ordering::Relaxed));
    let ledger = two_phase::ledger(process)?;
    let keeping = assembler.keep_prepared(&config.state_dir, start, acknowledged, ledger);
    keeping.map_err(|error| Box::new(two_phase::unusable(&error)))
}

impl Assembly {
    /// Starts the thread. `ended` is told when it ends.
    pub(super) fn start(
        process: &Process,
        assembler: Assembler,
        decoder: Decoder,
        queue: Arc<Queue<Input>>,
        ended: Arc<Notify>,
    ) -> Self {
        let received = Arc::new(Queue::new(QUEUE_BYTES));
        let (send, end) = oneshot::channel();
        let mut thread = Thread {
            assembler,
            decoder,
            received: Arc::clone(&received),
            queue,
            workers: process.workers.clone(),
        };
        let spawned = std::thread::Builder::new().name("assemble".into()).spawn(move || {
            let _tell = Tell(ended);
            let end = thread.run();
            // What is spilled is gone before the next session begins.
            drop(thread);
            let _ = send.send(end);
        });
        if let Err(error) = spawned {
            // Its sender and its teller are gone with the closure, so the session ends.
            tracing::error!(%error, "no thread for streamed transactions");
        }
        Self {
            received,
            end: Some(end),
        }
    }

    pub(super) fn onward(&self) -> Onward {
        Onward::Assemble(Arc::clone(&self.received))
    }

    /// What it has ended with, where it has.
    pub(super) fn ended(&mut self) -> Option<ReceiveEnd> {
        match self.end.as_mut()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            told => {
                self.end = None;
                told.ok()
            }
        }
    }

    /// Waits for the thread's end, once nobody takes anything from it any more.
    pub(super) async fn finish(self) {
        self.received.close();
        if let Some(end) = self.end {
            // Why it ended doesn't count any more.
            let _ = end.await;
        }
    }
}

struct Thread {
    assembler: Assembler,
    decoder: Decoder,
    received: Arc<Queue<Received>>,
    queue: Arc<Queue<Input>>,
    workers: tokio::runtime::Handle,
}

impl Thread {
    fn run(&mut self) -> ReceiveEnd {
        loop {
            let bytes = match self.received.pop(IDLE) {
                Popped::Item(Received::Bytes(bytes)) => bytes,
                Popped::Item(Received::Joined(joined)) => match joined.pass(&mut self.decoder, &self.queue) {
                    Ok(()) => continue,
                    Err(Closed) => return ReceiveEnd::Ended,
                },
                Popped::TimedOut => continue,
                Popped::Closed => return ReceiveEnd::Ended,
            };
            if let Err(stop) = self.step(&bytes) {
                return match stop {
                    Stop::Gone(Gone::Closed) => ReceiveEnd::Ended,
                    Stop::Gone(Gone::Undecodable(error)) | Stop::Undecodable(error) => ReceiveEnd::Undecodable(error),
                    Stop::Full(full) => ReceiveEnd::SpillFull(full),
                    Stop::Lost(lost) => ReceiveEnd::PreparedLost(lost),
                };
            }
        }
    }

    fn step(&mut self, bytes: &Bytes) -> Result<(), Stop<Gone>> {
        let Self {
            decoder,
            queue,
            workers,
            ..
        } = self;
        self.assembler.feed(bytes, |chunk| {
            let Some(batch) = decoded(decoder, chunk).map_err(Gone::Undecodable)? else {
                return Ok(());
            };
            let size = batch.size_bytes();
            let pushed = workers.block_on(queue.push(Input::Batch(batch), size));
            pushed.map_err(|_| Gone::Closed)
        })
    }
}

/// The folder of what is in progress.
fn unusable(error: &std::io::Error) -> Problem {
    if let Some(full) = two_phase::no_room(error, "transactions in progress") {
        return full;
    }
    let help = "let the user who runs rowmill write to the state folder, and keep its `spill` for rowmill alone";
    Problem::new(
        "E0262",
        Exit::Usage,
        "the folder for transactions in progress can't be used",
        help,
    )
    .with_cause(error)
}
