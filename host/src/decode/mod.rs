//! pgoutput and COPY bytes to batches; relations and their versions.
//!
//! ```text
//!   replication stream  --->  Decoder      \
//!                                            >--->  Batch (bytes kept, values indexed)
//!   COPY ... TO STDOUT  --->  CopyDecoder  /
//! ```
//!
//! Nothing is copied or parsed but COPY values with backslashes, and with `binary: true` what isn't text there. Every byte comes from outside: all access is
//! checked, and what doesn't fit ends in a [`DecodeError`] with the position, never in a panic.

mod binary;
mod copy;
mod copy_binary;
mod cursor;
mod fields;
mod open;
mod pgoutput;
mod relations;
pub mod straight;
mod tuple;
mod types;

pub use binary::{TypeEntry, Types, is_alike_everywhere};
pub(crate) use binary::{write_f32, write_f64};
pub use copy::CopyDecoder;
pub use pgoutput::Decoder;
pub use relations::{ColumnHint, TableHint};
pub use types::{builtin_type_name, builtin_type_oid};

use crate::batch::Lsn;

/// Bytes of the server that don't follow the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message at {lsn} ends before {expected}")]
    Truncated { lsn: Lsn, expected: &'static str },
    #[error("the message at {lsn} has `{}` where {expected} was expected", .found.escape_ascii())]
    Unexpected {
        lsn: Lsn,
        found: u8,
        expected: &'static str,
    },
    #[error("a row at {lsn} belongs to relation {oid}, which was not described before")]
    UnknownRelation { lsn: Lsn, oid: u32 },
    #[error("a name in the message at {lsn} is not UTF-8")]
    NotUtf8 { lsn: Lsn },
    #[error("what a COPY sent is no whole CopyData frame")]
    CopyFrame,
    #[error("a line of COPY has {found} columns where {expected} were asked for")]
    CopyColumns { expected: usize, found: usize },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: &'static str, limit: usize },
    #[error("a value of column {column} of {table} isn't what {type_name} is in binary form")]
    Value {
        table: String,
        column: String,
        type_name: String,
    },
    /// The type may be younger than what is known of the catalog.
    #[error("column {column} of {table} holds values of type {type_name}")]
    NoText {
        table: String,
        column: String,
        type_name: String,
        type_oid: u32,
    },
    #[error("a value of column {column} of {table} is 1 GiB or more as text, as no value of Postgres is")]
    TextTooLarge { table: String, column: String },
}
