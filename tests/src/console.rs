//! What the console answers, over plain TCP.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The status code and the body of one GET from a port of this machine.
pub fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let code = head.split(' ').nth(1).context("a status line has a code")?;
    Ok((code.parse()?, body.to_owned()))
}

/// Whether no table is under copy (any more), as the metrics at this port tell.
pub fn is_copied(port: u16) -> Result<bool> {
    let metrics = get(port, "/metrics")?.1;
    let copying = metrics.lines().find(|line| line.starts_with("rowmill_copying"));
    Ok(copying.is_some_and(|line| line.ends_with(" 0")))
}
