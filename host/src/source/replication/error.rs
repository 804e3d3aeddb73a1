//! How a stream ends that was not meant to.

use crate::postgres::QueryError;
use std::io;
use std::time::Duration;

/// Why no more can be received, by what has to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Connect again and go on from the acknowledged position.
    #[error("{0}")]
    Transient(TransientCause),
    /// The server ended the stream with an error that a retry alone doesn't cure.
    #[error("{0}")]
    Server(QueryError),
    /// The bytes break the protocol.
    #[error("replication protocol: {0}")]
    Protocol(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TransientCause {
    #[error("replication connection lost: {0}")]
    Link(io::Error),
    /// The server ended the stream in order: it is shutting down.
    #[error("the server has ended the stream")]
    Ended,
    /// Nothing came for this long, not even an answer to our request for one.
    #[error("nothing received for {} s: the connection is taken for dead", .0.as_secs())]
    Idle(Duration),
    /// Terminated, crashed, shutting down: 57P0x, 08xxx, 53300.
    #[error("{0}")]
    Server(QueryError),
}

impl ReceiveError {
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }

    /// The server's SQLSTATE, where it gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Transient(TransientCause::Server(error)) | Self::Server(error) => Some(&error.sqlstate),
            _ => None,
        }
    }

    pub(super) fn server(error: QueryError) -> Self {
        if error.is_transient() {
            Self::Transient(TransientCause::Server(error))
        } else {
            Self::Server(error)
        }
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        Self::Transient(TransientCause::Link(error))
    }
}
