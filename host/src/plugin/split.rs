//! Where the time of a plugin's calls goes, for its author. Nothing is measured unless somebody asks.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// What calls took, and the bytes that crossed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub calls: u64,
    /// Rows to bytes.
    pub encode: Duration,
    /// Into the guest's memory, and the guest itself.
    pub call: Duration,
    /// Reply read, checked and applied.
    pub reply: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl AddAssign for Split {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.encode += other.encode;
        self.call += other.call;
        self.reply += other.reply;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// A clock beside the calls of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<Instant>,
    split: Split,
}

impl Clock {
    pub fn start(&mut self) {
        self.last = Some(Instant::now());
    }

    /// Since the last time.
    pub fn take(&mut self) -> Split {
        std::mem::take(&mut self.split)
    }

    /// A call begins here.
    #[inline]
    pub fn begin(&mut self) {
        if self.last.is_some() {
            self.start();
        }
    }

    #[inline]
    pub fn encoded(&mut self) {
        if let Some(lap) = self.lap() {
            self.split.encode += lap;
        }
    }

    #[inline]
    pub fn called(&mut self, bytes_in: usize, bytes_out: usize) {
        if let Some(lap) = self.lap() {
            self.split.call += lap;
            self.split.calls += 1;
            self.split.bytes_in += bytes_in as u64;
            self.split.bytes_out += bytes_out as u64;
        }
    }

    #[inline]
    pub fn applied(&mut self) {
        if let Some(lap) = self.lap() {
            self.split.reply += lap;
        }
    }

    fn lap(&mut self) -> Option<Duration> {
        let last = self.last?;
        let now = Instant::now();
        self.last = Some(now);
        Some(now.saturating_duration_since(last))
    }
}
