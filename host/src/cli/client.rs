//! Asks the console of a running host: one GET over plain HTTP/1.0, whose answer ends with the connection.

use super::codes;
use super::output::Failure;
use crate::problem::{Exit, Problem, escape};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A console on this machine answers at once; one that doesn't is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where plugins are compiled, and servers asked that may be far away.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of an answer's head.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// Bytes of a status: pipelines, tables, plugins.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the console of the running host listens.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub console: SocketAddr,
}

pub(super) type Body = BufReader<TcpStream>;

/// Sends the request and reads the head; the body is still to come.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Body, Failure> {
    let asked = timeout(PATIENCE, request(address, path)).await;
    let mut stream = match asked {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(no_host(address, &error.to_string())),
        Err(_) => return Err(no_host(address, "no connection in time")),
    };
    match timeout(PATIENCE, head(&mut stream)).await {
        Ok(Ok(200)) => Ok(stream),
        Ok(Ok(code)) => Err(unusable(address, &format!("HTTP status {code} for {path}"))),
        Ok(Err(error)) => Err(unusable(address, &error)),
        Err(_) => Err(unusable(address, "no answer in time")),
    }
}

/// The whole body as JSON.
pub(super) async fn get_json(address: SocketAddr, path: &str) -> Result<serde_json::Value, Failure> {
    let mut body = Vec::new();
    let stream = get(address, path).await?;
    let read = async { stream.take(MAX_BODY_BYTES).read_to_end(&mut body).await };
    match timeout(PATIENCE, read).await {
        Ok(Ok(_)) => serde_json::from_slice(&body).map_err(|error| unusable(address, &error.to_string())),
        Ok(Err(error)) => Err(unusable(address, &error.to_string())),
        Err(_) => Err(unusable(address, "no answer in time")),
    }
}

/// What a console answered to a POST, whatever its code: `null` where it isn't JSON.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: serde_json::Value,
}

/// Sends JSON as a program of this machine does.
pub(super) async fn post_json(address: SocketAddr, path: &str, body: &serde_json::Value) -> Result<Answer, Failure> {
    post_within(PATIENCE, address, path, body).await
}

/// The same for what takes its time.
pub(super) async fn post_patiently(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
) -> Result<Answer, Failure> {
    post_within(LONG_PATIENCE, address, path, body).await
}

async fn post_within(
    patience: Duration,
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
) -> Result<Answer, Failure> {
    let stream = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(no_host(address, &error.to_string())),
        Err(_) => return Err(no_host(address, "no connection in time")),
    };
    let answer = timeout(patience, post(stream, address, path, &body.to_string())).await;
    match answer {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(unusable(address, &error)),
        Ok(Err(error)) => Err(unusable(address, &error.to_string())),
        Err(_) => Err(late(address, patience)),
    }
}

async fn post(
    mut stream: TcpStream,
    address: SocketAddr,
    path: &str,
    body: &str,
) -> std::io::Result<Result<Answer, String>> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nX-Rowmill: 1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut stream = BufReader::new(stream);
    let code = match head(&mut stream).await {
        Ok(code) => code,
        Err(error) => return Ok(Err(error)),
    };
    let mut body = Vec::new();
    stream.take(MAX_BODY_BYTES).read_to_end(&mut body).await?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Ok(Answer { code, body }))
}

async fn request(address: SocketAddr, path: &str) -> std::io::Result<Body> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(BufReader::new(stream))
}

/// The status code, after the whole head.
async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<u16, String> {
    let mut stream = stream.take(MAX_HEAD_BYTES);
    let mut first = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        let length = stream.read_line(&mut line).await.map_err(|error| error.to_string())?;
        if length == 0 {
            return Err("the answer ends before its head does".to_owned());
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().and_then(|code| code.trim().parse().ok());
    match code {
        Some(code) if version.starts_with("HTTP/1.") => Ok(code),
        _ => Err(format!("not HTTP: `{}`", escape(first.trim_end()))),
    }
}

fn no_host(address: SocketAddr, cause: &str) -> Failure {
    Problem::new(
        codes::NO_HOST.code,
        Exit::Usage,
        format!("no running host answers on {address}"),
        "start one: `rowmill run`",
    )
    .with_cause(cause)
    .into()
}

/// The host has been asked.
fn late(address: SocketAddr, patience: Duration) -> Failure {
    Problem::new(
        codes::HOST_ANSWER.code,
        Exit::Usage,
        format!("{address} hasn't answered within {} s", patience.as_secs()),
        "look what has come of it before asking again: `rowmill status`",
    )
    .with_cause("what was asked for may still take effect")
    .into()
}

pub(super) fn unusable(address: SocketAddr, cause: &str) -> Failure {
    Problem::new(
        codes::HOST_ANSWER.code,
        Exit::Usage,
        format!("the answer of {address} can't be used"),
        "name the host's console: `--console 127.0.0.1:7070`",
    )
    .with_cause(cause)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_late_is_told_as_such_and_not_as_no_host() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let asked = post_within(Duration::from_millis(20), address, "/", &serde_json::json!({})).await;
        let Err(Failure::Problems(problems)) = asked else {
            panic!("nobody answers")
        };
        assert_eq!(problems[0].code, codes::HOST_ANSWER.code);
        assert!(problems[0].headline.contains("hasn't answered"), "{problems:?}");
        assert!(
            problems[0]
                .cause
                .as_ref()
                .is_some_and(|cause| cause.contains("may still take effect")),
            "{problems:?}"
        );
    }
}
