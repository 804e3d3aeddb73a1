//! The contract between Rowmill and a plugin, as numbers and names that host and guest share.
//!
//! docs/reference/plugin-abi.md explains them.

#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod digits;
mod reader;
mod writer;

pub use digits::{
    ShortDecimal, eight_digits, short_decimal, short_decimal_in, short_digits, short_digits_in, three_pairs,
};
pub use reader::{Malformed, Reader, Token, plain_end, short_block, short_f64, short_int, short_str};
pub use writer::{OpenArray, Writer};

/// Major version: host and guest must agree.
pub const ABI_MAJOR: u16 = 1;
/// Minor version: a guest may be older than the host.
pub const ABI_MINOR: u16 = 0;
/// What `rowmill_abi` returns.
pub const ABI_VERSION: i32 = ((ABI_MAJOR as i32) << 16) | ABI_MINOR as i32;

/// The custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "rowmill.plugin";
/// The module that all imports but the WASI stub come from.
pub const IMPORT_MODULE: &str = "rowmill";

/// Keys of the manifest, a MessagePack map.
pub mod manifest {
    /// The ABI that the module is built for, an integer as `rowmill_abi` returns it.
    pub const ABI: &str = "abi";
    /// The oldest minor version of a host that will do.
    pub const MIN_MINOR: &str = "min_minor";
    /// For people.
    pub const NAME: &str = "name";
    /// For people.
    pub const VERSION: &str = "version";
    /// [`KIND_FILTER`] or [`KIND_TRANSFORM`].
    pub const KIND: &str = "kind";
    /// What the plugin asks for: an array of the `FEATURE_` names.
    pub const FEATURES: &str = "features";
    /// The JSON Schema of the plugin's config, as text.
    pub const CONFIG_SCHEMA: &str = "config_schema";
    /// The version of the state that the plugin gives.
    pub const STATE_VERSION: &str = "state_version";
    /// One of the `SCOPE_` names.
    pub const STATE_SCOPE: &str = "state_scope";
    /// Says which rows belong to a set.
    pub const KIND_FILTER: &str = "filter";
    /// Changes rows.
    pub const KIND_TRANSFORM: &str = "transform";
    /// Feature: truncates are handed to the plugin.
    pub const FEATURE_TRUNCATES: &str = "truncates";
    /// Feature: logical messages are handed to the plugin.
    pub const FEATURE_MESSAGES: &str = "messages";
    /// Feature: the imports `kv_get`, `kv_put` and `kv_delete`.
    pub const FEATURE_KV: &str = "kv";
    /// State scope: no state.
    pub const SCOPE_NONE: &str = "none";
    /// State scope: all changes of one row meet the same instance.
    pub const SCOPE_KEY: &str = "key";
    /// State scope: one instance sees all rows.
    pub const SCOPE_WHOLE: &str = "whole";
}

/// First element of every reply.
pub mod reply {
    /// What follows is the answer.
    pub const DONE: u8 = 0;
    /// The same call may go well later; a message follows.
    pub const RETRYABLE: u8 = 1;
    /// It will not; a message follows.
    pub const FATAL: u8 = 2;
}

/// `mode` of `rowmill_init`.
pub mod mode {
    /// Its rows go on.
    pub const LIVE: u8 = 0;
    /// A version that is rehearsed: what it makes is thrown away.
    pub const CANDIDATE: u8 = 1;
    /// `rowmill plugin test` and its like.
    pub const TEST: u8 = 2;
}

/// `action` of the reply to `rowmill_schema`.
pub mod schema_action {
    /// The plugin wants to see the rows.
    pub const USE: u8 = 0;
    /// Rows go on without it.
    pub const PASS_BY: u8 = 1;
    /// No row goes on.
    pub const DROP: u8 = 2;
    /// The table is no good for it; a reason follows.
    pub const REFUSE: u8 = 3;
}

/// `op` of a row.
pub mod op {
    /// A row was inserted.
    pub const INSERT: u8 = 0;
    /// A row was updated.
    pub const UPDATE: u8 = 1;
    /// A row was deleted.
    pub const DELETE: u8 = 2;
    /// Tables were truncated; no row.
    pub const TRUNCATE: u8 = 3;
    /// A row that a copy has read.
    pub const READ: u8 = 4;
    /// A logical message; no row.
    pub const MESSAGE: u8 = 5;
}

/// `flags` of a truncate, as Postgres sends them.
pub mod truncate {
    /// `TRUNCATE .. CASCADE`
    pub const CASCADE: u8 = 1;
    /// `TRUNCATE .. RESTART IDENTITY`
    pub const RESTART_IDENTITY: u8 = 2;
}

/// `image` of a row.
pub mod image {
    /// The row as it is now.
    pub const NEW: u8 = 0;
    /// The whole row as it was.
    pub const OLD: u8 = 1;
    /// The columns of the key as they were.
    pub const OLD_KEY: u8 = 2;
}

/// MessagePack extension types of values that are neither NULL nor there.
pub mod ext {
    /// TOAST that the change left alone and the server didn't send.
    pub const UNCHANGED: i8 = 1;
    /// Not part of this image.
    pub const ABSENT: i8 = 2;
}

/// `part` of a transaction.
pub mod part {
    /// All of the transaction.
    pub const WHOLE: u8 = 0;
    /// Its beginning; more comes in later batches.
    pub const FIRST: u8 = 1;
    /// Neither its beginning nor its end.
    pub const MIDDLE: u8 = 2;
    /// Its end.
    pub const LAST: u8 = 3;
}

/// What `kv_get`, `kv_put` and `kv_delete` answer, and their bounds.
pub mod kv {
    /// `kv_get`: there is no value.
    pub const NONE: i32 = -1;
    /// `kv_put`, `kv_delete`: done.
    pub const DONE: i32 = 0;
    /// `kv_put`: over quota; `kv_put`, `kv_delete`: called outside of a batch.
    pub const REFUSED: i32 = -1;
    /// The longest key, in bytes: it becomes part of a key of the host's store.
    pub const KEY_LEN_MAX: usize = 1_024;
    /// The longest value, in bytes: what is larger belongs into several entries.
    pub const VALUE_LEN_MAX: usize = 65_536;
    /// Keys and values of one plugin together, in bytes, unless pipeline.yaml says otherwise.
    pub const QUOTA_DEFAULT_BYTES: u64 = 64 << 20;
}

/// What the global `rowmill_row` holds outside of a row.
pub const NO_ROW: i32 = -1;

/// Default of a transform's reply.
pub mod default {
    /// Rows without an action go on.
    pub const PASS: u8 = 0;
    /// Rows without an action don't go on.
    pub const DROP: u8 = 1;
}

/// Actions of a transform's reply.
pub mod action {
    /// It goes on.
    pub const PASS: u8 = 0;
    /// The change, both images, doesn't go on.
    pub const DROP: u8 = 1;
    /// Columns change.
    pub const PATCH: u8 = 2;
    /// The image becomes another.
    pub const REPLACE: u8 = 3;
    /// Several rows go on in its place.
    pub const FAN_OUT: u8 = 4;
    /// It goes on to another table or topic.
    pub const ROUTE: u8 = 5;
    /// The change is set aside.
    pub const REJECT: u8 = 6;
    /// The pipeline stops.
    pub const STOP: u8 = 7;
}

/// Rows that one change may be fanned out into.
pub const FAN_OUT_MAX: usize = 1_000;
/// How deep a reply may nest.
pub const REPLY_DEPTH_MAX: usize = 8;

/// `images` of the reply to `rowmill_schema`.
pub mod images {
    /// Whatever the server sends will do.
    pub const ANY: u8 = 0;
    /// Old rows must be whole: REPLICA IDENTITY FULL.
    pub const FULL_OLD: u8 = 1;
}

/// `level` of the import `log`.
pub mod level {
    /// A person must look.
    pub const ERROR: i32 = 1;
    /// Something is odd.
    pub const WARN: i32 = 2;
    /// Of interest as it is.
    pub const INFO: i32 = 3;
    /// Of interest to who looks for a fault.
    pub const DEBUG: i32 = 4;
    /// In every detail.
    pub const TRACE: i32 = 5;
}

/// `kind` of the import `metric`.
pub mod metric {
    /// The value is added.
    pub const COUNTER: i32 = 0;
    /// The value is what counts from now on.
    pub const GAUGE: i32 = 1;
    /// The value is one of many.
    pub const HISTOGRAM: i32 = 2;
}

#[cfg(test)]
mod tests;
