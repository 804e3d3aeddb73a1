//! How fast a copy goes, and whether it goes on.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Shared by all that read units. It may be paused and let go on while they run.
#[derive(Debug)]
pub struct Pace {
    /// 0 where there is no limit.
    rows_per_second: AtomicU64,
    paused: watch::Sender<bool>,
    /// When the next rows may be read: each read pays for its rows in time.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub fn new(rows_per_second: Option<NonZeroU64>) -> Self {
        Self {
            rows_per_second: AtomicU64::new(rows_per_second.map_or(0, NonZeroU64::get)),
            paused: watch::Sender::new(false),
            next: Mutex::default(),
        }
    }

    pub fn set_rate(&self, rows_per_second: Option<NonZeroU64>) {
        let rate = rows_per_second.map_or(0, NonZeroU64::get);
        self.rows_per_second.store(rate, Ordering::Relaxed);
    }

    fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rows_per_second.load(Ordering::Relaxed))
    }

    /// Units that are under way are still read; no other is begun.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits while the copy is paused.
    pub(super) async fn go_on(&self) {
        // The sender is `self`'s.
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
    }

    /// The rows of a unit at most: what may be read in a second, so that a slow pace is an even one.
    pub(super) fn unit_rows(&self, wanted: usize) -> usize {
        let rate = self.rate().map(|rate| usize::try_from(rate.get()));
        rate.and_then(Result::ok).map_or(wanted, |rate| wanted.min(rate))
    }

    /// Waits until this many rows may be read.
    pub(super) async fn pay(&self, rows: u64) {
        if let Some(turn) = self.turn(rows, Instant::now()) {
            tokio::time::sleep_until(turn).await;
        }
    }

    /// When this many rows may be read; the next ones may be so later by the time that they take.
    fn turn(&self, rows: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate()?;
        let mut next = self.next();
        let turn = next.unwrap_or(now).max(now);
        *next = Some(turn + time_of(rows, rate));
        Some(turn)
    }

    /// Other than had been paid for, so many rows were there: what lacks is paid by whoever reads next.
    pub(super) fn settle(&self, paid: u64, rows: u64) {
        let Some(rate) = self.rate() else { return };
        let mut next = self.next();
        *next = next.and_then(|next| match rows.checked_sub(paid) {
            Some(more) => next.checked_add(time_of(more, rate)),
            None => next.checked_sub(time_of(paid - rows, rate)),
        });
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time_of(rows: u64, rate: NonZeroU64) -> Duration {
    Duration::from_secs_f64(rows as f64 / rate.get() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn rows_are_paid_for_in_time() {
        let pace = Pace::new(NonZeroU64::new(1000));
        let now = Instant::now();
        let turn = |rows| pace.turn(rows, now).map(|turn| turn.duration_since(now).as_millis());
        assert_eq!(turn(500), Some(0), "the first are read at once");
        assert_eq!(turn(2000), Some(500));
        pace.settle(2000, 1000);
        assert_eq!(turn(1), Some(1500), "what wasn't there costs nothing");
        pace.settle(1, 1000);
        assert_eq!(turn(1), Some(2500), "what was there beyond is paid later");
        assert_eq!((pace.unit_rows(20_000), pace.unit_rows(10)), (1000, 10));
        assert_eq!(Pace::new(None).turn(u64::MAX, now), None);
    }

    #[test]
    fn a_paused_copy_waits() {
        let pace = Pace::new(None);
        assert_eq!(pace.go_on().now_or_never(), Some(()));
        pace.pause(true);
        assert!(pace.go_on().now_or_never().is_none() && pace.is_paused());
        pace.pause(false);
        assert_eq!(pace.go_on().now_or_never(), Some(()));
    }
}
