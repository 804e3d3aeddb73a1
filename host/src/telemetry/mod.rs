//! Logs and metrics.
//!
//! The words for progress have one sense each: *received* from the socket, *decoded* into a batch, *transformed* by
//! the plugins, *delivered* to a sink, *durable* there, *acknowledged* to the server.

mod build;
mod guest;
mod logs;
mod metrics;
#[cfg(test)]
mod reference;

pub use build::{VERSION, VERSION_TEXT, WASM_ENGINE};
pub use logs::{LogFormat, init, log_problem};
pub use metrics::{Metrics, PluginMetrics, Registry, SinkMetrics};
