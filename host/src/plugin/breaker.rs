//! A plugin that breaks too often is broken as a whole: then no more of its changes are set aside.

use super::error::GaveUpReason;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// In which faults are counted: long enough that a plugin which breaks on one row in a thousand trips it under load,
/// short enough that a few bad rows an hour never do.
const WINDOW: Duration = Duration::from_secs(60);

/// Where the plugins of a chain count their faults, in their order.
#[derive(Clone, Debug)]
pub struct Faults(pub(super) Vec<Arc<Mutex<Breaker>>>);

#[derive(Debug)]
pub(crate) struct Breaker {
    most: u32,
    faults: u32,
    /// When the window began: at the first fault in it.
    since: Option<Instant>,
}

impl Breaker {
    pub fn new(most: u32) -> Self {
        Self {
            most,
            faults: 0,
            since: None,
        }
    }

    /// A fault that was counted is none, or will be counted again.
    pub fn take_back(&mut self) {
        self.faults = self.faults.saturating_sub(1);
    }

    /// Counts a fault. The error says that it was one too many.
    pub fn count(&mut self, now: Instant) -> Result<(), GaveUpReason> {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.faults = 0;
        }
        self.faults += 1;
        if self.faults <= self.most {
            return Ok(());
        }
        Err(GaveUpReason::TooManyFaults {
            faults: self.faults,
            window: WINDOW,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_count_within_a_window() {
        let mut breaker = Breaker::new(2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(breaker.count(at(0)).is_ok());
        assert!(breaker.count(at(59)).is_ok());
        let tripped = breaker.count(at(59)).unwrap_err();
        assert!(matches!(tripped, GaveUpReason::TooManyFaults { faults: 3, .. }));
        assert!(breaker.count(at(60)).is_ok());
    }
}
