//! What ends a run for good and no stage has put into words yet.

use crate::decode::DecodeError;
use crate::problem::{Exit, Problem};
use crate::source::replication::ReceiveError;

/// The server ended the stream with an error that a retry doesn't cure.
pub(super) fn stream(error: &ReceiveError) -> Problem {
    let publication = error.sqlstate() == Some("42704");
    let help = if publication {
        "the publication was dropped: make a new slot and copy the tables again with `rowmill remove`, then `rowmill run`"
    } else {
        "do what the server's message says, then start again: the stream goes on at the stored position"
    };
    Problem::new(
        "E0260",
        Exit::Preflight,
        "the server ended the stream with an error",
        help,
    )
    .with_cause(error)
}

/// Bytes of the stream that make no sense.
pub(super) fn undecodable(error: &DecodeError) -> Problem {
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
