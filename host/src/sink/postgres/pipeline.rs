//! Statements sent one after the other without waiting for each other's reply.
//!
//! ```text
//!   session   window 1 encoded and sent  | window 2 joined | reply of 1 | window 2 cut, encoded and sent | ...
//!   target          takes window 1 .............................| takes window 2 ..................
//! ```
//!
//! The COPY that a window ends with may be left behind as its [`Tail`]: the target works while the next one is made ready.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use tokio_postgres::Error;

/// Replies that may be outstanding: enough to hide the way to the server and back, few enough to be little memory.
const OUTSTANDING_MAX: usize = 256;

type Reply<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// Outstanding replies in order, each with what the caller wants back with it.
pub(super) struct Pipeline<'a, M> {
    replies: VecDeque<(M, Reply<'a>)>,
}

impl<'a, M> Pipeline<'a, M> {
    pub(super) fn new() -> Self {
        Self {
            replies: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= OUTSTANDING_MAX
    }

    /// Sends a request: the client puts it on the wire when the future is polled first.
    pub(super) async fn send(&mut self, mark: M, reply: impl Future<Output = Result<u64, Error>> + Send + 'a) {
        self.replies.push_back((mark, sent(Box::pin(reply)).await));
    }

    /// The next reply; `None` when all have come. The first error is the true one: what was sent behind it fails for
    /// no reason of its own.
    pub(super) async fn receive(&mut self) -> Option<(M, Result<u64, Error>)> {
        let (mark, reply) = self.replies.pop_front()?;
        Some((mark, reply.await))
    }
}

/// A last request whose reply nobody has waited for; what was sent before it has been replied to.
pub(super) struct Tail<M> {
    mark: M,
    /// Never contended: it makes the tail one that can be held beside what others look at.
    reply: Mutex<Reply<'static>>,
}

impl<M> Tail<M> {
    pub(super) async fn send(mark: M, reply: impl Future<Output = Result<u64, Error>> + Send + 'static) -> Self {
        let reply = Mutex::new(sent(Box::pin(reply)).await);
        Self { mark, reply }
    }

    pub(super) async fn receive(self) -> (M, Result<u64, Error>) {
        let reply = self.reply.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.mark, reply.await)
    }
}

async fn sent(mut reply: Reply<'_>) -> Reply<'_> {
    let result = std::future::poll_fn(|context| Poll::Ready(reply.as_mut().poll(context))).await;
    match result {
        Poll::Ready(result) => Box::pin(std::future::ready(result)),
        Poll::Pending => reply,
    }
}
