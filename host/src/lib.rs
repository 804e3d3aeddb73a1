//! Rowmill: Postgres row changes through WebAssembly plugins to the systems that want them.
//!
//! The modules stand in the order in which the data flows. ARCHITECTURE.md has the map.

pub mod problem;
pub mod failpoint;
pub mod batch;
pub mod config;
pub mod postgres;
pub mod source;
pub mod assemble;
pub mod decode;
pub mod snapshot;
pub mod plugin;
#[cfg(feature = "engine")]
pub mod pipeline;
pub mod sink;
pub mod checkpoint;
pub mod dead_letter;
#[cfg(feature = "engine")]
pub mod runtime;
pub mod console;
pub mod telemetry;
#[cfg(feature = "engine")]
pub mod demo;
#[cfg(feature = "engine")]
pub mod plugin_tools;
#[cfg(feature = "engine")]
pub mod cli;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

#[cfg(feature = "engine")]
#[doc(hidden)]
pub mod measuring;

#[cfg(test)]
mod reference;
