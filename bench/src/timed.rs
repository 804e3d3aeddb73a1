//! A program run to its end, with what it and the server took.

use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub seconds: f64,
    /// User and system time of the process and its threads.
    pub cpu_seconds: f64,
    /// The same of all of the server's processes meanwhile.
    pub server_cpu_seconds: f64,
    pub peak_memory_kib: i64,
    /// Bytes that came out, where they are kept.
    pub bytes: u64,
}

/// Runs `command` to its end, beside the server that it reads from.
pub fn timed(command: &mut Command, server: &Cluster) -> Result<Taken> {
    let before = server_cpu_seconds(server)?;
    let started = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("{:?}", command.get_program()))?;
    let mut taken = wait(child).with_context(|| format!("{command:?}"))?;
    taken.seconds = started.elapsed().as_secs_f64();
    let_go(server)?;
    taken.server_cpu_seconds = server_cpu_seconds(server)? - before;
    Ok(taken)
}

/// Waits with `wait4`, which tells the child's own use of the machine.
pub fn wait(child: Child) -> Result<Taken> {
    let id = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: zero is a valid `rusage`; the child is ours and nobody else waits for it; both pointers outlive the call.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(id, &raw mut status, 0, &raw mut usage), usage)
    };
    ensure!(ended == id, "wait4: {}", std::io::Error::last_os_error());
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "status {status}"
    );
    let of = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Taken {
        cpu_seconds: of(usage.ru_utime) + of(usage.ru_stime),
        peak_memory_kib: usage.ru_maxrss,
        ..Taken::default()
    })
}

/// Waits until the server has seen that its reader is gone: only then is its slot free and its time counted.
fn let_go(server: &Cluster) -> Result<()> {
    for _ in 0..500 {
        if server.sql("postgres", "SELECT count(*) FROM pg_stat_replication")? == "0" {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the walsender is still there")
}

/// CPU seconds of both servers so far.
pub fn servers_cpu_seconds((source, target): (&Cluster, &Cluster)) -> Result<f64> {
    Ok(server_cpu_seconds(source)? + server_cpu_seconds(target)?)
}

/// User and system time of the server's processes so far, those that have ended included.
fn server_cpu_seconds(server: &Cluster) -> Result<f64> {
    let pid = std::fs::read_to_string(server.data().join("postmaster.pid"))?;
    let postmaster: u32 = pid.lines().next().context("the file begins with a pid")?.parse()?;
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        ticks += ticks_of(&stat, postmaster).unwrap_or(0);
    }
    // SAFETY: no memory is involved.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / per_second as f64)
}

/// Of a line of /proc/PID/stat (proc(5)): a child of `postmaster`, or itself with the children that it has waited for.
fn ticks_of(stat: &str, postmaster: u32) -> Option<u64> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let pid: u32 = head.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let own = field(11)? + field(12)?;
    if pid == postmaster {
        return Some(own + field(13)? + field(14)?);
    }
    (field(1)? == u64::from(postmaster)).then_some(own)
}
