//! Our own replication client: CopyBoth over the session that [`crate::postgres`] opens.
//!
//! [`Connection`] talks commands (IDENTIFY_SYSTEM, slots, SQL) until [`Connection::start`] turns it into a
//! [`Receiver`], which hands out large buffers of whole frames and keeps the server informed. No row is allocated for,
//! parsed or copied here; a frame is looked at as far as its header, and a little further to find keepalives.

mod command;
mod error;
mod feedback;
mod frames;
mod history;
mod receiver;

/// What benchmarks reach into.
#[cfg(feature = "engine")]
pub(crate) mod measuring {
    /// Bytes of the whole frames at the head of `bytes`; none where the server wouldn't send such bytes.
    pub fn frame_bytes(bytes: &[u8]) -> usize {
        super::frames::scan(bytes, usize::MAX).map_or(0, |scan| scan.data_bytes)
    }
}

#[cfg(test)]
mod tests;

pub use crate::postgres::QueryError;
pub use command::{Connection, ProtocolOptions, SystemIdentity};
pub use error::{ReceiveError, TransientCause};
pub use history::History;
pub use receiver::Receiver;
