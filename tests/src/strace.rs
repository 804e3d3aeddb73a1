//! Calls of the system that fail: strace stands in front of a process that runs, and answers some of them itself.

use crate::{LONG, wait_until};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Attached until it is dropped.
#[derive(Debug)]
pub struct Injection {
    strace: Child,
    trace: PathBuf,
}

impl Injection {
    /// Has calls of `pid` fail as `what` says, such as `fsync,fdatasync:error=EIO`: those that have to do with `path`
    /// alone, where there is one. Returns once it is attached; `None` where this user may not trace. The calls are
    /// written down in `trace`.
    pub fn attach(pid: u32, what: &str, path: Option<&Path>, trace: &Path) -> Result<Option<Self>> {
        let calls = what.split(':').next().context("names of calls")?;
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-y", "-p", &pid.to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={what}"), "-o"])
            .arg(trace)
            .stderr(Stdio::null());
        if let Some(path) = path {
            strace.arg("-P").arg(path);
        }
        let Ok(mut strace) = strace.spawn() else {
            return Ok(None);
        };
        let is_there = wait_until("it is traced", LONG, || {
            if strace.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok((!status.contains("TracerPid:\t0\n")).then_some(true))
        })?;
        let trace = trace.to_path_buf();
        Ok(is_there.then_some(Self { strace, trace }))
    }

    /// The calls so far, one a line.
    pub fn calls(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        trace.lines().map(str::to_owned).collect()
    }

    /// Those that were answered in the system's place.
    pub fn injected(&self) -> usize {
        self.calls().iter().filter(|call| call.contains("(INJECTED)")).count()
    }

    /// Once the process has ended by itself: the calls that it made.
    pub fn ended(mut self) -> Result<Vec<String>> {
        self.strace.wait()?;
        Ok(self.calls())
    }
}

/// The process goes on without it.
impl Drop for Injection {
    fn drop(&mut self) {
        // SAFETY: no memory is involved; the pid is that of a child that hasn't been waited for. SIGTERM has strace let go.
        unsafe { libc::kill(self.strace.id().cast_signed(), libc::SIGTERM) };
        let _ = self.strace.wait();
    }
}
