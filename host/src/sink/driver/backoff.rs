//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
/// However long a target was away, rows pass within seconds of its return; a try costs it one connection.
const MOST: Duration = Duration::from_secs(3);

/// Doubled after each failure, with up to a quarter off so that hosts that failed together don't return together.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::starting_with(FIRST)
    }
}

impl Backoff {
    pub(super) fn starting_with(first: Duration) -> Self {
        Self { first, next: first }
    }

    pub(super) fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(MOST);
        let random = RandomState::new().hash_one(0_u8) % 256;
        delay.mul_f64(1.0 - random as f64 / 1024.0)
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_most_and_starts_again() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..12).map(|_| backoff.next()).collect();
        assert!(delays[0] <= FIRST && delays[0] >= FIRST * 3 / 4);
        assert!(delays[3] > FIRST * 5);
        assert!(delays[11] <= MOST && delays[11] >= MOST * 3 / 4);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
