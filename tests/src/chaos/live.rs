//! How slow the machine is just now: what takes a processor a while takes so many times as long by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work of this much, so often: long enough to lose the processor where others want it.
const WORK: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(40);

/// Works in a thread of its own until it is asked.
pub(super) struct Yardstick {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Yardstick {
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut worked, mut took) = (Duration::ZERO, Duration::ZERO);
            while worked.is_zero() || !until.load(Ordering::Relaxed) {
                let (began, before) = (Instant::now(), processor_time());
                while processor_time() - before < WORK {
                    std::hint::spin_loop();
                }
                worked += processor_time() - before;
                took += began.elapsed();
                std::thread::sleep(PAUSE);
            }
            took.as_secs_f64() / worked.as_secs_f64()
        });
        Self { stop, thread }
    }

    /// 1 on a machine that does nothing else.
    pub(super) fn slowness(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(1.0).max(1.0)
    }
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is of the type that is filled in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one processor with three others that want all of it.
    #[test]
    fn who_shares_a_processor_is_slower() {
        // SAFETY: all zeros are a set without processors, which gets its first one; the set is of the size that is told.
        let pinned = unsafe {
            let mut first: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut first);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const first)
        };
        if pinned != 0 {
            return println!("skipped: no first processor");
        }
        // Threads that begin now are on it, too.
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let until = Arc::clone(&stop);
                std::thread::spawn(move || while !until.load(Ordering::Relaxed) {})
            })
            .collect();
        let yardstick = Yardstick::start();
        std::thread::sleep(Duration::from_secs(1));
        let slowness = yardstick.slowness();
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(slowness > 1.3, "{slowness}");
    }
}
