//! How a stream ends that was not meant to.

use crate::batch::Lsn;
use crate::postgres::QueryError;
use std::io;
use std::time::Duration;

const UNDEFINED_OBJECT: &str = "42704";
const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";

/// Why no more can be received, by what has to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Connect again and go on from the acknowledged position.
    #[error("{0}")]
    Transient(TransientCause),
    /// The server ended the stream with an error that a retry alone doesn't cure.
    #[error("{0}")]
    Server(QueryError),
    /// A change was made while the publication wasn't there. The server reads its catalog as of the change: no retry and
    /// no new publication cures it.
    #[error("{0}")]
    Unpublished(QueryError),
    /// A row or message is larger than what is taken in. Nothing of it was kept.
    #[error("{bytes} bytes at {lsn}, at most {max_bytes} are taken in")]
    TooLarge {
        /// OID; `None` where it is no row's.
        table: Option<u32>,
        bytes: usize,
        max_bytes: usize,
        lsn: Lsn,
    },
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

    /// Whether bytes that were changed on the way can be the reason, a length among them.
    pub fn may_be_of_the_way(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::TooLarge { .. })
    }

    /// The server's SQLSTATE, where it gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Transient(TransientCause::Server(error)) | Self::Server(error) | Self::Unpublished(error) => {
                Some(&error.sqlstate)
            }
            _ => None,
        }
    }

    pub(super) fn server(error: QueryError) -> Self {
        match error.sqlstate.as_str() {
            _ if error.is_transient() => Self::Transient(TransientCause::Server(error)),
            // The slot was there when the stream began.
            UNDEFINED_OBJECT => Self::Unpublished(error),
            _ => Self::Server(error),
        }
    }

    /// A notice between the data. From PostgreSQL 18 on a publication that is missing is a warning, and its changes are
    /// left out.
    pub(super) fn notice(notice: QueryError) -> Result<(), Self> {
        match notice.sqlstate == OBJECT_NOT_IN_PREREQUISITE_STATE {
            true => Err(Self::Unpublished(notice)),
            false => Ok(()),
        }
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        Self::Transient(TransientCause::Link(error))
    }
}
