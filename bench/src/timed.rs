//! A program run to its end, with what it took.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Instant;

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub seconds: f64,
    /// User and system time of the process and its threads.
    pub cpu_seconds: f64,
    pub peak_memory_kib: i64,
}

/// Runs `command` and waits for it with `wait4`, which tells the child's own use of the machine.
pub fn timed(command: &mut Command) -> Result<Taken> {
    let started = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("{:?}", command.get_program()))?;
    let mut status = 0;
    // SAFETY: zero is a valid `rusage`; the child is ours and nobody else waits for it; both pointers outlive the call.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (
            libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage),
            usage,
        )
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        ended == child.id().cast_signed(),
        "wait4: {}",
        std::io::Error::last_os_error()
    );
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "{command:?}: status {status}"
    );
    let of = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu_seconds = of(usage.ru_utime) + of(usage.ru_stime);
    Ok(Taken {
        seconds,
        cpu_seconds,
        peak_memory_kib: usage.ru_maxrss,
    })
}
