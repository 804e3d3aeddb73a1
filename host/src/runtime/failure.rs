//! What ends a run for good and no stage has put into words yet.

use crate::postgres::QueryError;
use crate::problem::{Exit, Problem};
use crate::source::replication::ReceiveError;

/// The server ended the stream with an error that a retry doesn't cure, or we did. `table` names what is streamed.
pub(super) fn stream(error: &ReceiveError, table: impl Fn(u32) -> Option<String>) -> Problem {
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
            let help = "`rowmill remove`, empty the tables at the targets, then `rowmill run`: they are copied anew";
            Problem::new("E0263", Exit::Gap, headline, help).with_cause(placed(server))
        }
        ReceiveError::Server(server) if is_too_large(server) => {
            let headline = "the server can't send a row: it is too large as text";
            let help = "make its values smaller, then `rowmill remove` and `rowmill run`: the tables are copied anew";
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

/// A server makes no text of 1 GiB or more: `program_limit_exceeded`, or without a code of its own.
fn is_too_large(error: &QueryError) -> bool {
    error.sqlstate == "54000" || error.message.starts_with("invalid memory alloc request size")
}

/// With the position that the server was at, where it says so.
fn placed(error: &QueryError) -> String {
    let context = error.context.as_deref().unwrap_or_default();
    match context.lines().find(|line| line.contains("LSN")) {
        Some(place) => format!("{error}; {place}"),
        None => error.to_string(),
    }
}

/// Bytes of the stream that make no sense, twice.
pub(super) fn undecodable(error: &dyn std::fmt::Display) -> Problem {
    let help = "report it with the server's version: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html";
    Problem::new("E0261", Exit::Bug, "a message of the stream can't be decoded", help).with_cause(error)
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
