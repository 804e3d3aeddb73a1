//! Ports for servers that start later: each is this process' own until it ends.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the system's own choice (`ip_local_port_range` begins at 32,768), so that no outgoing connection gets one.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// The locks of the ports that this process was given.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on, and that no other test process is given while this one lives.
///
/// Asking the system for any free port and letting it go again is not enough: between that and a server's start lies
/// an `initdb`, and every connection that another test opens may be given the same port meanwhile.
pub fn free_port() -> Result<u16> {
    let start = start()?;
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        let Some(lock) = reserved(port)? else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().expect("no holder panics").push(lock);
            return Ok(port);
        }
    }
    anyhow::bail!("all of {COUNT} ports from {FIRST} on are taken")
}

/// Somewhere else in each process and call, so that processes seldom ask for the same one.
fn start() -> Result<u16> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let mixed = nanoseconds.wrapping_add(std::process::id().wrapping_mul(0x9E37_79B9)) >> 4;
    Ok(u16::try_from(mixed % u32::from(COUNT))?)
}

/// The lock of one port, unless another process has it; it ends with the process, however that ends.
fn reserved(port: u16) -> Result<Option<File>> {
    let user = std::fs::metadata("/proc/self")?.uid();
    let folder = std::env::temp_dir().join(format!("rowmill-ports-{user}"));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(port.to_string());
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    Ok(file.try_lock().is_ok().then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let mut different = ports.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|&port| reserved(port).unwrap().is_none()));
    }
}
