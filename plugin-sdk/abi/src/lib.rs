//! The contract between Rowmill and a plugin, as numbers and names that host and guest share.
//!
//! docs/reference/plugin-abi.md explains them.

#![no_std]

extern crate alloc;

mod reader;
mod writer;

pub use reader::{Malformed, Reader, Token, plain_end, short_f64, short_int, short_str};
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
    pub const ABI: &str = "abi";
    pub const MIN_MINOR: &str = "min_minor";
    pub const NAME: &str = "name";
    pub const VERSION: &str = "version";
    pub const KIND: &str = "kind";
    pub const FEATURES: &str = "features";
    pub const CONFIG_SCHEMA: &str = "config_schema";
    pub const STATE_VERSION: &str = "state_version";
    pub const STATE_SCOPE: &str = "state_scope";
    pub const KIND_FILTER: &str = "filter";
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
    pub const DONE: u8 = 0;
    pub const RETRYABLE: u8 = 1;
    pub const FATAL: u8 = 2;
}

/// `mode` of `rowmill_init`.
pub mod mode {
    pub const LIVE: u8 = 0;
    pub const CANDIDATE: u8 = 1;
    pub const TEST: u8 = 2;
}

/// `action` of the reply to `rowmill_schema`.
pub mod schema_action {
    pub const USE: u8 = 0;
    pub const PASS_BY: u8 = 1;
    pub const DROP: u8 = 2;
    pub const REFUSE: u8 = 3;
}

/// `op` of a row.
pub mod op {
    pub const INSERT: u8 = 0;
    pub const UPDATE: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const TRUNCATE: u8 = 3;
    pub const READ: u8 = 4;
    pub const MESSAGE: u8 = 5;
}

/// `flags` of a truncate, as Postgres sends them.
pub mod truncate {
    pub const CASCADE: u8 = 1;
    pub const RESTART_IDENTITY: u8 = 2;
}

/// `image` of a row.
pub mod image {
    pub const NEW: u8 = 0;
    pub const OLD: u8 = 1;
    pub const OLD_KEY: u8 = 2;
}

/// MessagePack extension types of values that are neither NULL nor there.
pub mod ext {
    pub const UNCHANGED: i8 = 1;
    pub const ABSENT: i8 = 2;
}

/// `part` of a transaction.
pub mod part {
    pub const WHOLE: u8 = 0;
    pub const FIRST: u8 = 1;
    pub const MIDDLE: u8 = 2;
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
    pub const PASS: u8 = 0;
    pub const DROP: u8 = 1;
}

/// Actions of a transform's reply.
pub mod action {
    pub const PASS: u8 = 0;
    pub const DROP: u8 = 1;
    pub const PATCH: u8 = 2;
    pub const REPLACE: u8 = 3;
    pub const FAN_OUT: u8 = 4;
    pub const ROUTE: u8 = 5;
    pub const REJECT: u8 = 6;
    pub const STOP: u8 = 7;
}

/// Rows that one change may be fanned out into.
pub const FAN_OUT_MAX: usize = 1_000;
/// How deep a reply may nest.
pub const REPLY_DEPTH_MAX: usize = 8;

/// `images` of the reply to `rowmill_schema`.
pub mod images {
    pub const ANY: u8 = 0;
    pub const FULL_OLD: u8 = 1;
}

/// `level` of the import `log`.
pub mod level {
    pub const ERROR: i32 = 1;
    pub const WARN: i32 = 2;
    pub const INFO: i32 = 3;
    pub const DEBUG: i32 = 4;
    pub const TRACE: i32 = 5;
}

/// `kind` of the import `metric`.
pub mod metric {
    pub const COUNTER: i32 = 0;
    pub const GAUGE: i32 = 1;
    pub const HISTOGRAM: i32 = 2;
}

#[cfg(test)]
mod tests;
