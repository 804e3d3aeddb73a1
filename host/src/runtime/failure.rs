//! What ends a run for good and no stage has put into words yet.

use crate::decode::DecodeError;
use crate::postgres::QueryError;
use crate::problem::{COPY_ANEW, Exit, Problem};
use crate::source::replication::ReceiveError;

/// The server ended the stream with an error that a retry doesn't cure, or we did. `binary` where values came in binary
/// form, `table` names what is streamed.
pub(super) fn stream(error: &ReceiveError, binary: bool, table: impl Fn(u32) -> Option<String>) -> Problem {
    match error {
        ReceiveError::TooLarge { table: of, bytes, .. } => {
            let what = match of.and_then(table) {
                Some(table) => format!("a row of {table}"),
                None => "a row or message".to_owned(),
            };
            let enough = bytes.div_ceil(1 << 20);
            let headline = format!("{what} is larger than `max_row`");
            let help = format!("set `max_row: {enough}MiB` under source.postgres, then start again");
            Problem::new("E0264", Exit::Preflight, headline, help).with_cause(error)
        }
        ReceiveError::Unpublished(server) => {
            let headline = "a change was made while the publication wasn't there";
            Problem::new("E0263", Exit::Gap, headline, COPY_ANEW).with_cause(placed(server))
        }
        ReceiveError::Server(server) if server.is_too_large() => {
            let (headline, help) = match binary {
                false => (
                    "the server can't send a row: it is too large as text",
                    "set `binary: true` under source.postgres, then start again: the stream goes on at the stored position",
                ),
                true => (
                    "the server can't send a row: it is too large",
                    "make its values smaller, then `rowmill remove` and `rowmill run`: the tables are copied anew",
                ),
            };
            Problem::new("E0265", Exit::Preflight, headline, help).with_cause(placed(server))
        }
        ReceiveError::Protocol(_) => undecodable(error),
        other => {
            let cause = match other {
                ReceiveError::Server(server) => placed(server),
                other => other.to_string(),
            };
            let help = "do what the server's message says, then start again: the stream goes on at the stored position";
            let headline = "the server ended the stream with an error";
            Problem::new("E0260", Exit::Preflight, headline, help).with_cause(cause)
        }
    }
}

/// With the position that the server was at, where it says so.
fn placed(error: &QueryError) -> String {
    let context = error.context.as_deref().unwrap_or_default();
    match context.lines().find(|line| line.contains("LSN")) {
        Some(place) => format!("{error}; {place}"),
        None => error.to_string(),
    }
}

/// A value of the stream in binary form that has no text here; the bytes are right.
pub(super) fn textless(error: &DecodeError) -> Option<Problem> {
    let (code, headline, help) = match error {
        DecodeError::NoText { table, .. } => (
            "E0269",
            format!("a value of {table} can't be read in binary form"),
            "remove `binary: true` from source.postgres, then start again: the stream goes on at the stored position",
        ),
        DecodeError::TextTooLarge { table, .. } => (
            "E0265",
            format!("a row of {table} is too large as text"),
            "make its values smaller, then `rowmill remove` and `rowmill run`: the tables are copied anew",
        ),
        _ => return None,
    };
    Some(Problem::new(code, Exit::Preflight, headline, help).with_cause(error))
}

/// Bytes of the stream that make no sense, twice.
pub(super) fn undecodable(error: &dyn std::fmt::Display) -> Problem {
    let help = "report it with the server's version: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html";
    Problem::new("E0261", Exit::Bug, "a message of the stream can't be decoded", help).with_cause(error)
}

/// The source can't be reached, and whoever started the process wants it to end then.
pub(super) fn unavailable(reason: &str) -> Box<Problem> {
    let help = "start the server, or leave out `--exit-on-unavailable` to have it waited for";
    let problem = Problem::new("E0251", Exit::Preflight, "the source can't be reached", help);
    Box::new(problem.with_cause(reason))
}

/// Something that can't happen.
pub(super) fn bug(what: &str) -> Problem {
    Problem::new(
        "E0999",
        Exit::Bug,
        "a part of rowmill ended unexpectedly",
        "report it with the log",
    )
    .with_cause(what)
}
