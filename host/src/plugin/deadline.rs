//! The time that a guest's call may take.
//!
//! What counts is the CPU time of the thread, so that a loaded machine is no fault; the wall clock may take
//! [`WALL_FACTOR`] times that. A ticker thread advances the engine's epoch; guests look at it in every loop, and when a
//! call's deadline is reached the clocks are read and the deadline moved, or the call trapped. A compiler has no such
//! places to look: who waits for it reads the clock of its thread.

use std::time::{Duration, Instant};
use wasmtime::UpdateDeadline;

/// How often the epoch advances: also how exactly limits are kept.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// How much longer than its CPU limit a call may take by the wall clock.
pub(crate) const WALL_FACTOR: u32 = 10;

#[derive(Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    cpu_start: Duration,
    wall_start: Instant,
    /// Whether the call at hand ran into it.
    pub expired: bool,
}

impl Deadline {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            cpu_start: Duration::ZERO,
            wall_start: Instant::now(),
            expired: false,
        }
    }

    /// Begins a call. Returns the ticks until the clocks are looked at.
    pub fn begin(&mut self) -> u64 {
        self.cpu_start = thread_cpu_time();
        self.wall_start = Instant::now();
        self.expired = false;
        ticks(self.limit)
    }

    /// The ticks are over: is the time?
    pub fn look(&mut self) -> UpdateDeadline {
        let spent = self.spent();
        if spent.reaches(self.limit) {
            self.expired = true;
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(ticks(self.limit - spent.cpu))
    }

    /// Since the call began.
    pub fn spent(&self) -> Spent {
        Spent {
            cpu: thread_cpu_time().saturating_sub(self.cpu_start),
            wall: self.wall_start.elapsed(),
        }
    }
}

/// Time by both clocks: of the thread's CPU, so that a loaded machine is no fault, and on the wall.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Spent {
    /// Whether so much CPU time is used up, or [`WALL_FACTOR`] times that by the clock on the wall.
    pub fn reaches(self, limit: Duration) -> bool {
        self.cpu >= limit || self.wall >= limit * WALL_FACTOR
    }
}

impl std::ops::Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            wall: self.wall + other.wall,
        }
    }
}

fn ticks(time: Duration) -> u64 {
    (time.as_millis() / TICK.as_millis()).max(1) as u64
}

/// CPU time of this thread. Where the clock can't be read, zero: the wall clock then decides alone.
pub(crate) fn thread_cpu_time() -> Duration {
    ThreadClock(libc::CLOCK_THREAD_CPUTIME_ID).read()
}

/// The CPU time of one thread, which others may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// The clock of the thread that asks; none where the system has none.
    pub fn of_this_thread() -> Option<Self> {
        let mut clock = 0;
        #[allow(
            unsafe_code,
            reason = "no safe way to this clock in std; a thread that asks for itself is alive, and `clock` is a valid place"
        )]
        let status = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        (status == 0).then_some(Self(clock))
    }

    /// Zero where it can't be read, as when its thread has ended.
    pub fn read(self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        #[allow(
            unsafe_code,
            reason = "no safe way to this clock in std; `time` is a valid place for the whole call"
        )]
        let status = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        if status != 0 {
            return Duration::ZERO;
        }
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}
