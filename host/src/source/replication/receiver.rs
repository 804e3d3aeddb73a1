//! The stream itself: reads large, answers in time, never waits for what comes after it.

use super::error::{ReceiveError, TransientCause};
use super::feedback::{self, Clock};
use super::frames;
use crate::batch::Lsn;
use crate::failpoint;
use crate::postgres::startup::Stream;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

/// One buffer holds thousands of rows; it is given away in pieces and made anew, or reclaimed, when used up.
const BUFFER_BYTES: usize = 1 << 20;
/// With less room than this left a new buffer is made: a short read is a wasted one.
const MIN_READ_BYTES: usize = 128 << 10;
/// Handed out at latest when so much has gathered.
const MAX_HAND_OUT_BYTES: usize = 512 << 10;
/// How long the server may take to end the stream when we do.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// A replication stream. Both [`next`](Self::next) and [`tend`](Self::tend) can be dropped at any point without
/// losing a byte: whatever is under way is kept in `self`.
pub struct Receiver {
    stream: Stream,
    buffer: BytesMut,
    /// Bytes of the frame that `buffer` begins with, where it is known and not all there.
    wanted_bytes: usize,
    /// Status reports on their way out.
    out: BytesMut,
    out_flushed: bool,
    received: Lsn,
    reported: Lsn,
    acks: watch::Receiver<Lsn>,
    clock: Clock,
    /// The server wants an answer.
    asked: bool,
    /// Nobody was reading: silence means nothing.
    deaf: bool,
    /// A longer frame ends the stream before it is taken in.
    frame_bytes_max: usize,
}

impl Receiver {
    pub(super) fn new(stream: Stream, buffer: BytesMut, from: Lsn, acks: watch::Receiver<Lsn>, clock: Clock) -> Self {
        Self {
            stream,
            buffer,
            wanted_bytes: 0,
            out: BytesMut::new(),
            out_flushed: true,
            received: from,
            reported: Lsn(0),
            acks,
            clock,
            asked: false,
            deaf: false,
            frame_bytes_max: usize::MAX,
        }
    }

    /// A row or message of more bytes ends the stream with [`ReceiveError::TooLarge`].
    pub fn limit_rows(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes;
    }

    /// The next bytes: whole CopyData frames with their headers, at least one. Keepalives are among them, and have
    /// been answered. The bytes share one large buffer: whoever keeps a part for long keeps all of it.
    pub async fn next(&mut self) -> Result<Bytes, ReceiveError> {
        if std::mem::take(&mut self.deaf) {
            self.clock.heard();
        }
        loop {
            if let Some(bytes) = self.cut()? {
                self.report_if_due();
                self.send_what_goes().await;
                return Ok(bytes);
            }
            self.step(true).await?;
        }
    }

    /// Reports and nothing else, for as long as the queue behind is full. Returns only when the connection fails.
    pub async fn tend(&mut self) -> ReceiveError {
        self.deaf = true;
        loop {
            if let Err(error) = self.step(false).await {
                return error;
            }
        }
    }

    /// The furthest position that the server has told.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// How often the socket was read, for measuring; 0 on a Unix socket.
    pub fn reads(&self) -> u64 {
        self.stream.reads()
    }

    #[cfg(test)]
    pub(super) fn set_idle_limit(&mut self, limit: Duration) {
        self.clock.idle_limit = limit;
    }

    /// Reports the last acknowledgement, ends the stream in order and closes. What still arrives is thrown away: it
    /// comes again with the next start.
    pub async fn finish(mut self) -> Result<(), ReceiveError> {
        self.report(false);
        frontend::copy_done(&mut self.out);
        let end = async {
            poll_fn(|context| self.poll_send(context)).await?;
            while self.read_and_drop().await? {}
            self.out.clear();
            frontend::terminate(&mut self.out);
            self.out_flushed = false;
            // The server may be gone already.
            let _ = poll_fn(|context| self.poll_send(context)).await;
            Ok(())
        };
        tokio::time::timeout(FINISH_TIME, end)
            .await
            .unwrap_or(Err(ReceiveError::Transient(TransientCause::Idle(FINISH_TIME))))
    }

    /// False once the server has ended the stream too.
    async fn read_and_drop(&mut self) -> Result<bool, ReceiveError> {
        loop {
            match self.cut() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(ReceiveError::Transient(TransientCause::Ended)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        poll_fn(|context| self.poll_receive(context)).await?;
        Ok(true)
    }

    /// All whole frames that are there, if any.
    fn cut(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            let scan = frames::scan(&self.buffer, self.frame_bytes_max)?;
            self.received = self.received.max(scan.received);
            self.asked |= scan.reply_requested;
            if scan.data_bytes > 0 {
                return Ok(Some(self.buffer.split_to(scan.data_bytes).freeze()));
            }
            if scan.skip_bytes == 0 {
                self.wanted_bytes = scan.wanted_bytes;
                return Ok(None);
            }
            self.buffer.advance(scan.skip_bytes);
        }
    }

    /// Waits until bytes have come or a report has been due.
    async fn step(&mut self, reading: bool) -> Result<(), ReceiveError> {
        self.report_if_due();
        let due = self.clock.due(self.ack_moved());
        let dead_at = self.clock.dead_at();
        let mut acks = self.acks.clone();
        tokio::select! {
            biased;
            result = poll_fn(|context| self.poll_io(context, reading)) => return result,
            () = tokio::time::sleep_until(due) => {}
            () = tokio::time::sleep_until(dead_at), if reading => {
                return Err(ReceiveError::Transient(TransientCause::Idle(self.clock.idle_limit)));
            }
            () = moved(&mut acks) => {}
        }
        Ok(())
    }

    fn ack_moved(&self) -> bool {
        *self.acks.borrow() > self.reported
    }

    fn report_if_due(&mut self) {
        // Marks the value as seen, so that only a later one wakes the wait.
        let ack_moved = *self.acks.borrow_and_update() > self.reported;
        if self.asked || tokio::time::Instant::now() >= self.clock.due(ack_moved) {
            let ask = self.clock.should_ask();
            self.report(ask);
        }
    }

    /// Puts a report on its way. One that couldn't be sent yet is outdated by it, unless part of it is out.
    fn report(&mut self, ask: bool) {
        failpoint::pass(failpoint::BEFORE_FEEDBACK);
        let durable = *self.acks.borrow_and_update();
        feedback::put_status(&mut self.out, self.received, durable, ask);
        self.out_flushed = false;
        self.reported = durable;
        self.asked = false;
        self.clock.reported();
    }

    /// Sends without waiting. A failure shows itself with the next step.
    async fn send_what_goes(&mut self) {
        if !self.out_flushed {
            poll_fn(|context| {
                let _ = self.poll_send(context);
                Poll::Ready(())
            })
            .await;
        }
    }

    fn poll_io(&mut self, context: &mut Context<'_>, reading: bool) -> Poll<Result<(), ReceiveError>> {
        let sent = self.poll_send(context);
        // A server that hangs up has often said why: that counts for more than that it no longer listens.
        if reading && let Poll::Ready(result) = self.poll_receive(context) {
            return Poll::Ready(result);
        }
        match sent {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ReceiveError>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.out)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                Poll::Ready(written) => self.out.advance(written),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.out_flushed {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.out_flushed = true;
            failpoint::pass(failpoint::AFTER_FEEDBACK);
        }
        Poll::Ready(Ok(()))
    }

    /// Room for a read worth its while. A long frame grows the buffer once and to its own size: a last short read
    /// costs less than to copy it.
    fn make_room(&mut self) {
        let spare = self.buffer.capacity() - self.buffer.len();
        let missing = self.wanted_bytes.saturating_sub(self.buffer.len());
        let long_frame_fits = self.wanted_bytes > BUFFER_BYTES && (1..=spare).contains(&missing);
        if !long_frame_fits && spare < missing.max(MIN_READ_BYTES) {
            self.buffer.reserve(missing.max(BUFFER_BYTES));
        }
    }

    /// Reads as long as something is there, up to one hand-out.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ReceiveError>> {
        let before = self.buffer.len();
        while self.buffer.len() - before < MAX_HAND_OUT_BYTES {
            self.make_room();
            // A read that is not ready leaves nothing behind: a new one goes on where it was.
            match pin!(self.stream.read_buf(&mut self.buffer)).poll(context) {
                Poll::Ready(Ok(read)) if read > 0 => self.clock.heard(),
                // What came before is looked at first; the end shows itself again.
                Poll::Ready(_) if self.buffer.len() > before => break,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
            if self.wanted_bytes > BUFFER_BYTES && self.buffer.len() >= self.wanted_bytes {
                break;
            }
        }
        if self.buffer.len() > before {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

/// Waits for a value that hasn't been seen; for ever where there will be none.
async fn moved(acks: &mut watch::Receiver<Lsn>) {
    if acks.changed().await.is_err() {
        std::future::pending().await
    }
}
