//! Statements sent one after the other without waiting for each other's reply.

use std::collections::VecDeque;
use std::pin::Pin;
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

    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= OUTSTANDING_MAX
    }

    /// Sends a request: the client puts it on the wire when the future is polled first.
    pub(super) async fn send(&mut self, mark: M, reply: impl Future<Output = Result<u64, Error>> + Send + 'a) {
        let mut reply: Reply<'a> = Box::pin(reply);
        let result = std::future::poll_fn(|context| Poll::Ready(reply.as_mut().poll(context))).await;
        if let Poll::Ready(result) = result {
            reply = Box::pin(std::future::ready(result));
        }
        self.replies.push_back((mark, reply));
    }

    /// The next reply; `None` when all have come. The first error is the true one: what was sent behind it fails for
    /// no reason of its own.
    pub(super) async fn receive(&mut self) -> Option<(M, Result<u64, Error>)> {
        let (mark, reply) = self.replies.pop_front()?;
        Some((mark, reply.await))
    }
}
