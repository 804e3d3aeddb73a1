//! How much goes through the lanes at the same time.
//!
//! Few batches would do to keep all lanes busy, were it not for what waking a thread costs: where the result of one lane is
//! waited for, the others have to have enough to do meanwhile. Batches of a quiet stream are small, those of a first copy are
//! not, so what is beyond the few is bounded in bytes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Batches for each lane, whatever their size: one in it and one that waits.
const FEW: usize = 2;
/// Batches for each lane at most.
pub(super) const MANY: usize = 8;
/// Bytes for each lane, beyond which there are only few.
const BYTES: usize = 2 << 20;

#[derive(Default)]
struct Inner {
    jobs: usize,
    bytes: usize,
    /// Whether the outflow has gone.
    closed: bool,
}

pub(super) struct UnderWay {
    inner: Mutex<Inner>,
    changed: Condvar,
    lanes: usize,
}

impl UnderWay {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            inner: Mutex::default(),
            changed: Condvar::new(),
            lanes,
        }
    }

    /// Waits until a batch of so many bytes may begin its way. `false` where nobody takes it at its end.
    pub(super) fn begin(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        while !inner.closed && self.is_full(&inner, bytes) {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.jobs += 1;
        inner.bytes += bytes;
        !inner.closed
    }

    /// One has come to its end.
    pub(super) fn end(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.jobs -= 1;
        inner.bytes -= bytes;
        drop(inner);
        self.changed.notify_one();
    }

    /// Nothing will come to its end any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn is_full(&self, inner: &Inner, bytes: usize) -> bool {
        let few = inner.jobs < FEW * self.lanes;
        let many = inner.jobs < MANY * self.lanes && inner.bytes + bytes <= BYTES * self.lanes;
        !(few || many)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn small_batches_are_many_and_large_ones_few() {
        let small = UnderWay::new(2);
        for _ in 0..2 * MANY {
            assert!(!small.is_full(&small.lock(), 1000));
            assert!(small.begin(1000));
        }
        assert!(small.is_full(&small.lock(), 1000));
        let large = UnderWay::new(2);
        for _ in 0..2 * FEW {
            assert!(large.begin(BYTES));
        }
        assert!(large.is_full(&large.lock(), BYTES));
        large.end(BYTES);
        assert!(!large.is_full(&large.lock(), BYTES));
    }

    #[test]
    fn whoever_waits_is_told_that_nobody_takes_it() {
        let under_way = Arc::new(UnderWay::new(1));
        for _ in 0..MANY {
            assert!(under_way.begin(0));
        }
        let waiting = std::thread::spawn({
            let under_way = Arc::clone(&under_way);
            move || under_way.begin(0)
        });
        under_way.close();
        assert!(!waiting.join().unwrap());
    }
}
