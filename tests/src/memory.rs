//! How much memory a process takes, and bounds that the kernel keeps.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// A memory cgroup of version 1 or 2, which root may make.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// So many bytes, beyond which the kernel ends processes in it.
    pub fn new(name: &str, bytes: u64) -> std::io::Result<Self> {
        let first = PathBuf::from("/sys/fs/cgroup/memory");
        let is_first = first.exists();
        let folder = if is_first { first } else { "/sys/fs/cgroup".into() }.join(name);
        std::fs::create_dir(&folder)?;
        let group = Self(folder);
        let limit = if is_first {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        std::fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// What the process takes from now on counts here; what it has taken so far counts where it did.
    pub fn take(&self, pid: u32) -> std::io::Result<()> {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Memory of a process in bytes, by its line in /proc: `VmRSS:`, or `VmHWM:` for the most that it was.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find(|found| found.starts_with(line));
    let figure = found.and_then(|found| found.split_whitespace().nth(1));
    Ok(figure.context("a line of the status")?.parse::<u64>()? << 10)
}
