//! A queue that is bounded in bytes, between a task that pushes and a thread that pops.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The other side has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed")]
pub struct Closed;

/// What [`Queue::pop`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<T> {
    Item(T),
    TimedOut,
    Closed,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

/// Holds at most `limit_bytes`, or one item that is larger.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    drained: Notify,
    limit_bytes: usize,
    /// A pusher that waits is woken with so many bytes left, rather than for each item that is taken: where the popper is
    /// the slower one, the two threads would wake each other for every item.
    refill_bytes: usize,
}

impl<T> Queue<T> {
    pub fn new(limit_bytes: usize) -> Self {
        let inner = Inner {
            items: VecDeque::new(),
            bytes: 0,
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
            drained: Notify::new(),
            limit_bytes,
            refill_bytes: limit_bytes / 2,
        }
    }

    /// Waits for room, then pushes. Safe to be cancelled: then nothing was pushed.
    pub async fn push(&self, item: T, bytes: usize) -> Result<(), Closed> {
        loop {
            let drained = self.drained.notified();
            {
                let mut inner = self.lock();
                if inner.closed {
                    return Err(Closed);
                }
                if inner.bytes == 0 || inner.bytes + bytes <= self.limit_bytes {
                    inner.bytes += bytes;
                    inner.items.push_back((item, bytes));
                    self.filled.notify_one();
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Pushes without waiting: for what is small and rare.
    pub fn push_now(&self, item: T) -> Result<(), Closed> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Closed);
        }
        inner.items.push_back((item, 0));
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the oldest item, waiting up to `timeout`. A closed queue still gives what it holds.
    pub fn pop(&self, timeout: Duration) -> Popped<T> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            if let Some((item, bytes)) = inner.items.pop_front() {
                inner.bytes -= bytes;
                if inner.bytes <= self.refill_bytes {
                    self.drained.notify_one();
                }
                return Popped::Item(item);
            }
            if inner.closed {
                return Popped::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Popped::TimedOut;
            }
            let waited = self.filled.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_waiters();
        self.drained.notify_one();
    }

    /// Bytes that wait in it.
    pub fn len_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_full_queue_makes_the_pusher_wait() {
        let queue = Arc::new(Queue::new(10));
        queue.push(1, 8).await.unwrap();
        let pushing = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push(2, 8).await }
        });
        tokio::task::yield_now().await;
        assert!(!pushing.is_finished());
        assert_eq!(queue.pop(LONG), Popped::Item(1));
        pushing.await.unwrap().unwrap();
        assert_eq!(queue.pop(LONG), Popped::Item(2));
    }

    #[tokio::test]
    async fn a_pusher_is_woken_when_half_of_it_is_gone() {
        let queue = Arc::new(Queue::new(10));
        for item in 0..5 {
            queue.push(item, 2).await.unwrap();
        }
        let pushing = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push(5, 4).await }
        });
        tokio::task::yield_now().await;
        for (item, is_woken) in [(0, false), (1, false), (2, true)] {
            assert_eq!(queue.pop(LONG), Popped::Item(item));
            tokio::task::yield_now().await;
            assert_eq!(pushing.is_finished(), is_woken, "behind item {item}");
        }
        pushing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_item_larger_than_the_queue_goes_through_alone() {
        let queue = Queue::new(10);
        queue.push("large", 1_000).await.unwrap();
        assert_eq!(queue.pop(LONG), Popped::Item("large"));
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_holds_and_takes_nothing() {
        let queue = Queue::new(10);
        queue.push_now(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2, 1).await, Err(Closed));
        assert_eq!(queue.push_now(2), Err(Closed));
        assert_eq!(queue.pop(LONG), Popped::Item(1));
        assert_eq!(queue.pop(LONG), Popped::Closed);
    }

    #[test]
    fn popping_nothing_ends_in_time() {
        assert_eq!(Queue::<u8>::new(1).pop(Duration::ZERO), Popped::TimedOut);
    }
}
