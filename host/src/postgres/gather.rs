//! A TCP stream that lets bytes gather while the server is sending all it can.
//!
//! A walsender writes every message with a system call of its own and over TCP spends most of its time waking the
//! receiver. While the stream is saturated the socket's low-water mark is therefore raised, so that the receiver is
//! woken once per 64 KiB. A timer bounds the wait; what it finds is read from the socket itself, since the runtime
//! only knows that the mark has not been reached. As soon as little comes, the mark is 1 again: a lone row is read
//! when it arrives.

use super::socket;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Low-water mark while saturated. Half of it costs 1.5 times the CPU; with more, the default receive buffer is
/// nearly full when the wake-up comes, and the server gets slower.
const RAISED_MARK: usize = 64 << 10;
/// The longest that bytes wait below the mark.
const GATHER_TIME: Duration = Duration::from_millis(2);
/// The span over which arriving bytes are counted while the mark is 1.
const WINDOW: Duration = Duration::from_millis(2);
/// So many bytes in one window raise the mark: 8 MB/s, far above what single small transactions make.
const RAISE_BYTES: usize = 16 << 10;
/// So many reads in one window raise it too. Where every message wakes the receiver, and it the threads behind, the
/// server has too little of the machine left to send as many bytes as it could.
const RAISE_READS: u32 = 16;
/// A timer that finds fewer bytes than this lowers the mark: the stream has caught up.
const LOWER_BYTES: usize = 2 << 10;

pub(crate) struct Gathering {
    tcp: TcpStream,
    raised: bool,
    /// While raised: set when a wait began.
    timer: Pin<Box<Sleep>>,
    timing: bool,
    window_start: Instant,
    window_bytes: usize,
    window_reads: u32,
    reads: u64,
}

impl Gathering {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            raised: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timing: false,
            window_start: Instant::now(),
            window_bytes: 0,
            window_reads: 0,
            reads: 0,
        }
    }

    /// Reads that returned bytes.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    fn set_mark(&mut self, raised: bool) -> io::Result<()> {
        let bytes = if raised { RAISED_MARK } else { 1 };
        socket::set_low_water_mark(self.tcp.as_fd(), bytes)?;
        self.raised = raised;
        self.begin_window(0);
        Ok(())
    }

    fn begin_window(&mut self, bytes: usize) {
        self.window_start = Instant::now();
        self.window_bytes = bytes;
        self.window_reads = u32::from(bytes > 0);
    }

    /// While the mark is 1: raises it when much came in a short time.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        if self.window_start.elapsed() > WINDOW {
            self.begin_window(bytes);
            return Ok(());
        }
        self.window_bytes += bytes;
        self.window_reads += 1;
        if self.window_bytes >= RAISE_BYTES || self.window_reads >= RAISE_READS {
            return self.set_mark(true);
        }
        Ok(())
    }

    /// The wait is over: whatever is there, asked of the kernel.
    fn read_below_mark(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        // Hardly more than the mark is there, and all of it has to be initialised first.
        let length = buffer.remaining().min(RAISED_MARK);
        let read = match socket::receive_now(self.tcp.as_fd(), buffer.initialize_unfilled_to(length)) {
            Ok(read) => read,
            // The kernel reports what arrives in between as soon as the mark is lowered.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.set_mark(false)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        buffer.advance(read);
        if read < LOWER_BYTES {
            self.set_mark(false)?;
        }
        Ok(read)
    }
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if Pin::new(&mut this.tcp).poll_read(context, buffer)?.is_ready() {
            this.timing = false;
            this.reads += 1;
            let read = buffer.filled().len() - before;
            if !this.raised {
                this.count(read)?;
            }
            return Poll::Ready(Ok(()));
        }
        if !this.raised {
            return Poll::Pending;
        }
        if !this.timing {
            this.timing = true;
            this.timer.as_mut().reset(Instant::now() + GATHER_TIME);
        }
        ready!(this.timer.as_mut().poll(context));
        this.timing = false;
        match this.read_below_mark(buffer) {
            // The poll above has left a waker for the mark, which is 1 now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => {
                this.reads += 1;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, Gathering) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        far.set_nodelay(true).unwrap();
        (far, Gathering::new(near))
    }

    #[tokio::test]
    async fn bytes_below_a_raised_mark_arrive_after_the_timer_and_lower_it() {
        let (mut far, mut near) = pair().await;
        near.set_mark(true).unwrap();
        far.write_all(b"lone").await.unwrap();
        let mut buffer = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(5), near.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&buffer[..read], b"lone");
        assert!(!near.raised);
    }

    #[tokio::test]
    async fn an_empty_wait_lowers_the_mark_and_the_next_byte_wakes() {
        let (mut far, mut near) = pair().await;
        near.set_mark(true).unwrap();
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 16];
            let read = near.read(&mut buffer).await.unwrap();
            (near.raised, buffer[..read].to_vec())
        });
        // Longer than the wait: not a race but the case under test.
        tokio::time::sleep(GATHER_TIME * 5).await;
        far.write_all(b"x").await.unwrap();
        let (raised, bytes) = tokio::time::timeout(Duration::from_secs(5), reader)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(bytes, b"x");
        assert!(!raised);
    }

    #[tokio::test]
    async fn a_flood_raises_the_mark_and_every_byte_arrives_in_order() {
        const BYTES: usize = 8 << 20;
        let (mut far, mut near) = pair().await;
        let writer = tokio::spawn(async move {
            let all: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
            far.write_all(&all).await.unwrap();
        });
        let (mut buffer, mut at, mut raised) = (vec![0; 1 << 20], 0_usize, false);
        loop {
            let read = near.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            raised |= near.raised;
            for byte in &buffer[..read] {
                assert_eq!(usize::from(*byte), at % 251);
                at += 1;
            }
        }
        writer.await.unwrap();
        assert_eq!(at, BYTES);
        assert!(raised);
    }
}
