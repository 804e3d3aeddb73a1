//! What the host offers to plugins. Natively, under `cargo test`, a stand-in answers.

use rowmill_abi::{level, metric};

/// How loud a line of the log is.
///
/// ```
/// use rowmill_plugin::host::{self, Level};
///
/// host::log(Level::Warn, "a table without a key");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// A person must look.
    Error = level::ERROR,
    /// Something is odd.
    Warn = level::WARN,
    /// Of interest as it is.
    Info = level::INFO,
    /// Of interest to who looks for a fault.
    Debug = level::DEBUG,
    /// In every detail.
    Trace = level::TRACE,
}

/// Writes a line into the host's log, which limits their rate. No row values.
///
/// ```
/// use rowmill_plugin::host::{self, Level};
///
/// host::log(Level::Info, "the rates were read");
/// ```
pub fn log(level: Level, message: &str) {
    imports::log(level as i32, message);
}

/// Adds to a counter named `rowmill_plugin_<name>`.
///
/// ```
/// rowmill_plugin::host::count("masked", 1.0);
/// ```
pub fn count(name: &str, by: f64) {
    imports::metric(metric::COUNTER, name, by);
}

/// Sets a gauge named `rowmill_plugin_<name>`.
///
/// ```
/// rowmill_plugin::host::gauge("groups", 12.0);
/// ```
pub fn gauge(name: &str, value: f64) {
    imports::metric(metric::GAUGE, name, value);
}

/// Adds an observation to a histogram named `rowmill_plugin_<name>`.
///
/// ```
/// rowmill_plugin::host::observe("json_bytes", 1_024.0);
/// ```
pub fn observe(name: &str, value: f64) {
    imports::metric(metric::HISTOGRAM, name, value);
}

/// The commit time of a transaction of the batch at hand, in microseconds since 1970.
///
/// [`Row::transaction`](crate::Row::transaction) has it without a call.
///
/// ```
/// use rowmill_plugin::{Row, host};
///
/// /// Of the first transaction of the batch that the row came in.
/// fn batch_begins_us(_row: &Row) -> i64 {
///     host::now_us(0)
/// }
/// ```
pub fn now_us(transaction_index: u32) -> i64 {
    imports::now_us(transaction_index)
}

/// Random bytes that depend on the row alone, see [`Row::random`](crate::Row::random).
pub(crate) fn random(row_index: u32, bytes: &mut [u8]) {
    imports::random(row_index, bytes);
}

#[cfg(target_arch = "wasm32")]
pub(crate) use imports::panic;

#[cfg(target_arch = "wasm32")]
#[expect(
    unsafe_code,
    reason = "imports of the host; pointers and lengths come from slices that outlive the call"
)]
pub(crate) mod imports {
    mod raw {
        #[link(wasm_import_module = "rowmill")]
        unsafe extern "C" {
            pub fn log(level: i32, text: *const u8, len: usize);
            pub fn panic(text: *const u8, len: usize);
            pub fn metric(kind: i32, name: *const u8, name_len: usize, value: f64);
            pub fn now_us(transaction_index: u32) -> i64;
            pub fn random(row_index: u32, bytes: *mut u8, len: usize);
            pub fn kv_get(key: *const u8, key_len: usize, out: *mut u8, out_len: usize) -> i32;
            pub fn kv_put(key: *const u8, key_len: usize, value: *const u8, value_len: usize) -> i32;
            pub fn kv_delete(key: *const u8, key_len: usize) -> i32;
        }
    }

    pub fn log(level: i32, message: &str) {
        unsafe { raw::log(level, message.as_ptr(), message.len()) }
    }

    pub fn panic(message: &str) {
        unsafe { raw::panic(message.as_ptr(), message.len()) }
    }

    pub fn metric(kind: i32, name: &str, value: f64) {
        unsafe { raw::metric(kind, name.as_ptr(), name.len(), value) }
    }

    pub fn now_us(transaction_index: u32) -> i64 {
        unsafe { raw::now_us(transaction_index) }
    }

    pub fn random(row_index: u32, bytes: &mut [u8]) {
        unsafe { raw::random(row_index, bytes.as_mut_ptr(), bytes.len()) }
    }

    pub fn kv_get(key: &[u8], out: &mut [u8]) -> i32 {
        unsafe { raw::kv_get(key.as_ptr(), key.len(), out.as_mut_ptr(), out.len()) }
    }

    pub fn kv_put(key: &[u8], value: &[u8]) -> i32 {
        unsafe { raw::kv_put(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
    }

    pub fn kv_delete(key: &[u8]) -> i32 {
        unsafe { raw::kv_delete(key.as_ptr(), key.len()) }
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod imports {
    pub use crate::testing::stand_in::{kv_delete, kv_get, kv_put, log, metric, now_us, random};
}
