//! When the server has to hear from us, and what.

use crate::batch::Lsn;
use bytes::{BufMut, BytesMut};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Where the server's own patience has no end.
const INTERVAL_WITHOUT_TIMEOUT: Duration = Duration::from_secs(10);
/// An acknowledgement that moves is reported at most so often.
const ACK_INTERVAL: Duration = Duration::from_millis(100);
/// No byte for this long means a dead link, where the server has no timeout of its own to go by.
const IDLE_LIMIT_WITHOUT_TIMEOUT: Duration = Duration::from_secs(60);
/// Even where the server is less patient: a busy machine may pause.
const IDLE_LIMIT_MIN: Duration = Duration::from_secs(10);
/// 2000-01-01 in seconds since 1970.
const POSTGRES_EPOCH_S: u64 = 946_684_800;

/// The times that rule a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Between two reports: a third of `wal_sender_timeout`.
    interval: Duration,
    pub(super) idle_limit: Duration,
    reported_at: Instant,
    heard_at: Instant,
    asked: bool,
}

impl Clock {
    pub(super) fn new(wal_sender_timeout: Duration) -> Self {
        let now = Instant::now();
        let (interval, idle_limit) = if wal_sender_timeout.is_zero() {
            (INTERVAL_WITHOUT_TIMEOUT, IDLE_LIMIT_WITHOUT_TIMEOUT)
        } else {
            (wal_sender_timeout / 3, wal_sender_timeout.max(IDLE_LIMIT_MIN))
        };
        Self {
            interval,
            idle_limit,
            reported_at: now,
            heard_at: now,
            asked: false,
        }
    }

    /// Bytes came, or we weren't listening.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.asked = false;
    }

    pub(super) fn reported(&mut self) {
        self.reported_at = Instant::now();
    }

    /// When the next report is due.
    pub(super) fn due(&self, ack_moved: bool) -> Instant {
        self.reported_at
            + if ack_moved {
                ACK_INTERVAL.min(self.interval)
            } else {
                self.interval
            }
    }

    /// True once per silence: our reports keep a quiet server content, so that it says nothing unless asked.
    pub(super) fn should_ask(&mut self) -> bool {
        let ask = !self.asked && self.heard_at.elapsed() >= self.idle_limit / 3;
        self.asked |= ask;
        ask
    }

    pub(super) fn dead_at(&self) -> Instant {
        self.heard_at + self.idle_limit
    }
}

/// A standby status update as a whole CopyData frame.
///
/// <https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-STANDBY-STATUS-UPDATE>
pub(super) fn put_status(out: &mut BytesMut, received: Lsn, durable: Lsn, reply_requested: bool) {
    /// Length's own 4, then tag, three positions, time, flag.
    const LENGTH: i32 = 4 + 1 + 3 * 8 + 8 + 1;
    out.put_u8(b'd');
    out.put_i32(LENGTH);
    out.put_u8(b'r');
    out.put_u64(received.0.max(durable.0));
    out.put_u64(durable.0);
    out.put_u64(durable.0);
    out.put_i64(now_us());
    out.put_u8(u8::from(reply_requested));
}

/// µs since 2000-01-01, as Postgres counts.
fn now_us() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let since_2000 = since_1970.saturating_sub(Duration::from_secs(POSTGRES_EPOCH_S));
    i64::try_from(since_2000.as_micros()).unwrap_or(i64::MAX)
}
