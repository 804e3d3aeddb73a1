//! How long to wait before the next try: 0.2 s, doubled, at most 3 s, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
/// However long a server was away, rows pass within seconds of its return; a try costs it one connection.
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    seed: u64,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST,
            seed: u64::from(std::process::id()) | 1,
        }
    }

    /// To be called once things go well again.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait: between half of the present step and the whole of it.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        // xorshift: enough to keep two hosts from trying in step.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        whole / 2 + (whole / 2).mul_f64((self.seed % 1_000) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[11] >= LONGEST / 2 && waits[11] <= LONGEST);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
