//! The queue before a sink, bounded in bytes; filled from a plain thread, emptied by a task.

use crate::batch::Delivery;
use crate::sink::PassedOver;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The driver has ended or the queue was closed: nothing is taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink takes no more rows")]
pub struct Closed;

/// What a sink is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SinkState {
    Opening = 0,
    Running = 1,
    /// Failed, and waiting for the next try.
    Retrying = 2,
    /// The driver has ended.
    Ended = 3,
}

impl SinkState {
    /// The name used in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Ended => "ended",
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    bound: usize,
    room: Condvar,
    filled: Notify,
    state: AtomicU8,
    rows: AtomicU64,
    retries: AtomicU64,
    /// The last sequence that was sent here.
    sent: AtomicU64,
    durable: AtomicU64,
    passed_over: Arc<PassedOver>,
}

impl Queue {
    pub(super) fn new(bound: usize, passed_over: Arc<PassedOver>) -> Self {
        Self {
            inner: Mutex::default(),
            bound,
            room: Condvar::new(),
            filled: Notify::new(),
            state: AtomicU8::new(SinkState::Opening as u8),
            rows: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            passed_over,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn try_pop(&self) -> Option<Delivery> {
        let mut inner = self.lock();
        let delivery = inner.deliveries.pop_front()?;
        inner.bytes -= delivery.batch.size_bytes();
        self.room.notify_all();
        Some(delivery)
    }

    /// Waits for the next delivery; `None` once the queue is closed and empty.
    pub(super) async fn pop(&self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.try_pop() {
                return Some(delivery);
            }
            if self.lock().closed {
                return None;
            }
            self.filled.notified().await;
        }
    }

    pub(super) fn set_state(&self, state: SinkState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn set_durable(&self, sequence: u64) {
        self.durable.store(sequence, Ordering::Relaxed);
    }

    pub(super) fn count_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

/// Frees the senders when the driver ends, however it ends.
pub(super) struct Abandon(pub(super) Arc<Queue>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.set_state(SinkState::Ended);
        let mut inner = self.0.lock();
        inner.closed = true;
        inner.deliveries.clear();
        inner.bytes = 0;
        self.0.room.notify_all();
    }
}

/// The sending end of a sink's queue, and what there is to know of the sink.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    queue: Arc<Queue>,
}

impl SinkHandle {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// Puts a delivery into the queue; blocks the thread while the queue is full. One delivery larger than the whole
    /// bound is taken when the queue is empty. Not to be called from async code.
    pub fn send(&self, delivery: Delivery) -> Result<(), Closed> {
        let queue = &self.queue;
        queue.sent.store(delivery.sequence, Ordering::Relaxed);
        let mut inner = queue.lock();
        let bytes = delivery.batch.size_bytes();
        while !inner.closed && !inner.deliveries.is_empty() && inner.bytes + bytes > queue.bound {
            inner = queue.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return Err(Closed);
        }
        inner.bytes += bytes;
        inner.deliveries.push_back(delivery);
        drop(inner);
        queue.filled.notify_one();
        Ok(())
    }

    /// Whether the next [`Self::send`] is likely to block.
    pub fn is_full(&self) -> bool {
        let inner = self.queue.lock();
        !inner.deliveries.is_empty() && inner.bytes >= self.queue.bound
    }

    /// No more deliveries: the driver writes what is queued, flushes, closes the sink and ends.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.room.notify_all();
        self.queue.filled.notify_one();
    }

    /// Whether both are handles of the same driver: then what they count goes on, rather than beginning anew.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Bytes waiting in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    pub fn state(&self) -> SinkState {
        match self.queue.state.load(Ordering::Relaxed) {
            0 => SinkState::Opening,
            1 => SinkState::Running,
            2 => SinkState::Retrying,
            _ => SinkState::Ended,
        }
    }

    /// Rows written so far, those sent again counted again.
    pub fn rows_delivered(&self) -> u64 {
        self.queue.rows.load(Ordering::Relaxed)
    }

    /// How often the sink was opened again after a failure.
    pub fn retries(&self) -> u64 {
        self.queue.retries.load(Ordering::Relaxed)
    }

    pub fn passed_over(&self) -> &PassedOver {
        &self.queue.passed_over
    }

    /// Whether it was sent something that isn't durable yet.
    pub fn is_behind(&self) -> bool {
        self.queue.sent.load(Ordering::Relaxed) > self.durable_sequence()
    }

    /// The last sequence that is durable; 0 before the first.
    pub fn durable_sequence(&self) -> u64 {
        self.queue.durable.load(Ordering::Relaxed)
    }
}
