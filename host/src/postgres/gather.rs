//! A TCP stream that lets bytes gather while the server is sending all it can.
//!
//! A walsender writes every message with a system call of its own and over TCP spends much of its time on segments of
//! a message each, and on waking whoever waits for them. As soon as much comes, the stream is therefore *raised*:
//!
//! - A server on the same machine has a small window to fill (`narrow_window`). While raised the socket isn't watched at
//!   all: it is read by the clock until nothing more is there. The window is full long before, what the server writes
//!   from then on is joined to long segments in its send buffer, and nobody is woken. Large transactions fill it several
//!   times in 2 ms, small ones hardly once: the clock strikes when about [`LOOK_BYTES`] have come, after 2 to 8 ms.
//! - Any other server is too far away for a window that small. While raised the socket's low-water mark is 64 KiB: the
//!   receiver is woken that seldom, and a timer of 2 ms bounds the wait.
//!
//! As soon as little comes, the stream is lowered: a lone row is read when it arrives.

use super::socket;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep};

/// Low-water mark while raised. Half of it costs 1.5 times the CPU; with more, the default receive buffer is
/// nearly full when the wake-up comes, and the server gets slower.
const RAISED_MARK: usize = 64 << 10;
/// The receive buffer for a server on the same machine; the kernel makes it twice of that, and the window about 63 KB.
/// With less, every few messages cost a read; with twice as much, four times as many segments are of one message.
const NEAR_BUFFER_BYTES: usize = 32 << 10;
/// The longest segment from a server on the same machine; the loopback's own would be longer than the window.
const NEAR_SEGMENT_BYTES: usize = 16 << 10;
/// A read of less than this found all that was there: long segments would have filled it.
const SHORT_READ_BYTES: usize = 12 << 10;
/// A server that finds room in the window has filled it again within a few microseconds, unless it has to be given its
/// core first. So long the next bytes are asked for again and again before they are waited for by the clock.
const FILL_TIME: Duration = Duration::from_micros(50);
/// The longest that bytes wait while raised.
const GATHER_TIME: Duration = Duration::from_millis(2);
/// The same from a server on the same machine that sends all it can.
const FLOOD_TIME: Duration = Duration::from_millis(8);
/// So many bytes in one look, 8 MB/s, are a server that sends all it can.
const FLOOD_BYTES: usize = 16 << 10;
/// A window with as much in it is full, or nearly so.
const FULL_BYTES: usize = NEAR_BUFFER_BYTES * 5 / 4;
/// So many bytes are to come between two looks: several times the window, whose bytes are those that come in a segment
/// of each message.
const LOOK_BYTES: usize = 192 << 10;
/// The span over which arriving bytes are counted while lowered.
const WINDOW: Duration = Duration::from_millis(2);
/// So many bytes in one window raise the stream: 8 MB/s, far above what single small transactions make.
const RAISE_BYTES: usize = 16 << 10;
/// So many reads in one window raise it too. Where every message wakes the receiver, and it the threads behind, the
/// server has too little of the machine left to send as many bytes as it could.
const RAISE_READS: u32 = 16;
/// A wait of [`GATHER_TIME`] that brings fewer bytes than this lowers the stream: it has caught up.
const LOWER_BYTES: usize = 2 << 10;

/// Opens a connection. To a server on the same machine with a small window.
pub(super) async fn connect(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let socket = match address.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    if address.ip().is_loopback() {
        socket::narrow_window(socket.as_fd(), NEAR_BUFFER_BYTES, NEAR_SEGMENT_BYTES)?;
    }
    socket.connect(address).await
}

/// Who watches the socket.
enum Tcp {
    Watched(TcpStream),
    /// Nobody: it is read by the clock.
    Clocked(std::net::TcpStream),
    /// Only while it changes hands, or when that failed.
    Gone,
}

impl Tcp {
    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match self {
            Self::Watched(tcp) => Ok(Pin::new(tcp)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn handle(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Watched(tcp) => Ok(tcp.as_fd()),
            Self::Clocked(tcp) => Ok(tcp.as_fd()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

pub(crate) struct Gathering {
    tcp: Tcp,
    /// The server is on the same machine.
    near: bool,
    raised: bool,
    /// While raised: set when a wait began.
    timer: Pin<Box<Sleep>>,
    timing: bool,
    /// While clocked: the last read found all that was there.
    drained: bool,
    /// Bytes of the first read since the clock struck.
    first: usize,
    /// How long the wait is, and when it began.
    wait: Duration,
    wait_start: Instant,
    /// Bytes since the clock struck, and while lowered since the window began.
    bytes: usize,
    window_start: Instant,
    window_reads: u32,
    reads: u64,
}

impl Gathering {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            near: tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
            tcp: Tcp::Watched(tcp),
            raised: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timing: false,
            drained: true,
            first: 0,
            wait: GATHER_TIME,
            wait_start: Instant::now(),
            bytes: 0,
            window_start: Instant::now(),
            window_reads: 0,
            reads: 0,
        }
    }

    /// Reads that returned bytes.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    fn raise(&mut self) -> io::Result<()> {
        if !self.near {
            socket::set_low_water_mark(self.tcp.handle()?, RAISED_MARK)?;
        } else if let Tcp::Watched(tcp) = std::mem::replace(&mut self.tcp, Tcp::Gone) {
            self.tcp = Tcp::Clocked(tcp.into_std()?);
        }
        self.raised = true;
        self.timing = false;
        self.drained = true;
        self.bytes = 0;
        self.first = 0;
        Ok(())
    }

    fn lower(&mut self) -> io::Result<()> {
        if !self.near {
            socket::set_low_water_mark(self.tcp.handle()?, 1)?;
        } else if let Tcp::Clocked(tcp) = std::mem::replace(&mut self.tcp, Tcp::Gone) {
            self.tcp = Tcp::Watched(TcpStream::from_std(tcp)?);
        }
        self.raised = false;
        self.begin_window(0);
        Ok(())
    }

    fn begin_window(&mut self, bytes: usize) {
        self.window_start = Instant::now();
        self.bytes = bytes;
        self.window_reads = u32::from(bytes > 0);
    }

    /// While lowered: raises the stream when much came in a short time.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        if self.window_start.elapsed() > WINDOW {
            self.begin_window(bytes);
            return Ok(());
        }
        self.bytes += bytes;
        self.window_reads += 1;
        if self.bytes >= RAISE_BYTES || self.window_reads >= RAISE_READS {
            return self.raise();
        }
        Ok(())
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.timing {
            self.timing = true;
            self.wait_start = Instant::now();
            self.timer.as_mut().reset(self.wait_start + self.wait);
        }
        ready!(self.timer.as_mut().poll(context));
        self.timing = false;
        Poll::Ready(())
    }

    fn poll_watched(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.tcp.watched()?.poll_read(context, buffer)?.is_ready() {
            self.timing = false;
            self.reads += 1;
            if !self.raised {
                self.count(buffer.filled().len() - before)?;
            }
            return Poll::Ready(Ok(()));
        }
        if !self.raised {
            return Poll::Pending;
        }
        ready!(self.poll_timer(context));
        match self.read_below_mark(buffer) {
            // The poll above has left a waker for the mark, which is 1 now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    /// The wait is over: whatever is there, asked of the kernel.
    fn read_below_mark(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let read = match socket::receive_now(self.tcp.handle()?, buffer, usize::MAX) {
            Ok(read) => read,
            // The kernel reports what arrives in between as soon as the mark is lowered.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.lower()?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.reads += 1;
        if read < LOWER_BYTES {
            self.lower()?;
        }
        Ok(())
    }

    /// What is there, or comes within [`FILL_TIME`] where the read before made room for it.
    fn receive_soon(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut begun = None;
        loop {
            match socket::receive_now(self.tcp.handle()?, buffer, usize::MAX) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.bytes > 0 => {
                    let begun = *begun.get_or_insert_with(std::time::Instant::now);
                    if begun.elapsed() >= FILL_TIME {
                        return Err(error);
                    }
                    std::thread::yield_now();
                }
                other => return other,
            }
        }
    }

    /// Reads all that is there each time that the clock strikes.
    fn poll_clocked(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.drained {
                if !self.timing {
                    self.wait = next_wait(self.first, self.bytes, self.wait_start.elapsed());
                }
                ready!(self.poll_timer(context));
                self.drained = false;
                (self.first, self.bytes) = (0, 0);
            }
            let length = buffer.remaining();
            match self.receive_soon(buffer) {
                Ok(read) => {
                    self.reads += 1;
                    if self.bytes == 0 {
                        self.first = read;
                    }
                    self.bytes += read;
                    self.drained = read < length.min(SHORT_READ_BYTES);
                    if self.drained && self.bytes < LOWER_BYTES {
                        self.lower()?;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.bytes < LOWER_BYTES => {
                    self.lower()?;
                    return self.poll_watched(context, buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// How long it takes until [`LOOK_BYTES`] have come, where `bytes` have in the time since the last wait began, the `first`
/// of them in one read. A server that had filled the window then and sent next to nothing more waits for us: it isn't
/// kept waiting longer.
fn next_wait(first: usize, bytes: usize, time: Duration) -> Duration {
    let held_up = first >= FULL_BYTES && bytes - first < first / 2;
    match bytes < FLOOD_BYTES || held_up {
        true => GATHER_TIME,
        false => time
            .mul_f64(LOOK_BYTES as f64 / bytes as f64)
            .clamp(GATHER_TIME, FLOOD_TIME),
    }
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.tcp {
            Tcp::Clocked(_) => self.poll_clocked(context, buffer),
            _ => self.poll_watched(context, buffer),
        }
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Tcp::Clocked(tcp) = &mut self.tcp {
            match tcp.write(bytes) {
                // Only a socket that is watched tells when there is room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.lower()?,
                other => return Poll::Ready(other),
            }
        }
        self.tcp.watched()?.poll_write(context, bytes)
    }

    /// Nothing is held back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tcp {
            Tcp::Clocked(tcp) => Poll::Ready(tcp.shutdown(Shutdown::Write)),
            tcp => tcp.watched()?.poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests;
