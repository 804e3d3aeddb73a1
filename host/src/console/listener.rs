//! Connections with limits: how many there are, and how long one may stay silent.

use super::work::Work;
use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A scraper, a few people with a live view, and some to spare. Others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// A client that doesn't finish a request for so long, or sends no other, is let go. One whose request is worked on waits for as
/// long as that takes; live views are written to more often than that.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct GuardedListener {
    listener: TcpListener,
    silence: Duration,
    permits: Arc<Semaphore>,
}

impl GuardedListener {
    pub fn new(listener: TcpListener, silence: Duration) -> Self {
        Self::with_limits(listener, silence, MAX_CONNECTIONS)
    }

    fn with_limits(listener: TcpListener, silence: Duration, connections: usize) -> Self {
        let permits = Arc::new(Semaphore::new(connections));
        Self {
            listener,
            silence,
            permits,
        }
    }
}

impl Listener for GuardedListener {
    type Io = GuardedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (GuardedStream, SocketAddr) {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = GuardedStream {
            stream,
            limit: self.silence,
            silence: Box::pin(sleep(self.silence)),
            work: Work::default(),
            _permit: permit,
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(&self.listener)
    }
}

/// Ends when nothing has been written to it for too long and nothing is under way: what trickles in doesn't count.
pub(super) struct GuardedStream {
    stream: TcpStream,
    limit: Duration,
    silence: Pin<Box<Sleep>>,
    work: Work,
    _permit: Option<OwnedSemaphorePermit>,
}

impl GuardedStream {
    /// What tells whether its request is worked on.
    pub(super) fn work(&self) -> Work {
        self.work.clone()
    }

    fn begin_anew(&mut self) {
        let until = Instant::now() + self.limit;
        self.silence.as_mut().reset(until);
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.silence.as_mut().poll(cx).is_ready() {
            if !self.work.is_under_way() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.begin_anew();
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.begin_anew();
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.begin_anew();
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_trickles_is_let_go_and_the_next_one_gets_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let mut guarded = GuardedListener::with_limits(listener, Duration::from_millis(50), 1);
        let mut slow = TcpStream::connect(address).await.expect("it listens");
        let mut next = TcpStream::connect(address).await.expect("the kernel queues it");
        let (mut stream, _) = guarded.accept().await;
        slow.write_all(b"GET /healthz HT").await.expect("it is sent");
        let mut read = Vec::new();
        let error = stream.read_to_end(&mut read).await.expect_err("it says no more");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(read, b"GET /healthz HT");
        drop(stream);
        let (mut stream, _) = guarded.accept().await;
        stream.write_all(b"hello").await.expect("it is there");
        let mut hello = [0; 5];
        next.read_exact(&mut hello).await.expect("it hears");
    }
}
