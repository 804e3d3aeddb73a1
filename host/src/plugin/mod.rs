//! Plugins: WebAssembly modules that rows go through on their way to the sinks.
//!
//! ```text
//!   Engine --load--> Module --+
//!                             +--> PluginVersion --+
//!   pipeline.yaml ------------+                    +--> Chain (one per lane and route)
//!                                                         |
//!   rows --> fill in --> [ stage: encode -> guest call -> check and apply ] --> [ stage ] --> rows
//! ```
//!
//! A stage asks each plugin once per relation what it wants ([`plan`]), ships only those columns ([`encode`]), and takes
//! back a bitmap or patches ([`filter`], [`transform`]). Whatever comes back from a guest is hostile until [`cursor`]
//! has read it. Nothing of a batch goes on before the whole reply is checked; rows are indexes into a batch whose
//! tuples stay as they are, or are put back where a call fails that has changed them in place, so its rows can be tried
//! again in parts until the one that is to blame is found ([`stage`]).
//!
//! Only `engine`, `compiled`, `host`, `wasi`, `deadline` and `instance` know the WebAssembly runtime; all the rest builds
//! without it.

#![cfg_attr(
    not(feature = "engine"),
    allow(
        dead_code,
        reason = "what the engine calls; kept in the build for fuzzing and quick tests"
    )
)]

pub mod error;
pub mod reload;

mod aside;
mod codes;
mod config_schema;
mod cursor;
mod encode;
mod fill;
mod filter;
mod manifest;
mod membership;
pub mod metrics;
mod module_file;
mod plan;
mod refused;
mod schema_reply;
mod shapes;
mod short_values;
mod transform;
mod values;
mod wire;
mod write;

#[cfg(feature = "engine")]
mod breaker;
#[cfg(feature = "engine")]
mod chain;
#[cfg(feature = "engine")]
mod chain_state;
#[cfg(feature = "engine")]
mod code_cache;
#[cfg(feature = "engine")]
mod compile_work;
#[cfg(feature = "engine")]
mod compiled;
#[cfg(feature = "engine")]
mod deadline;
#[cfg(feature = "engine")]
mod divided;
#[cfg(feature = "engine")]
mod engine;
mod entries;
#[cfg(feature = "engine")]
mod host;
#[cfg(feature = "engine")]
mod instance;
#[cfg(feature = "engine")]
mod kv;
#[cfg(feature = "engine")]
mod pieces;
#[cfg(feature = "engine")]
mod split;
#[cfg(feature = "engine")]
mod stage;
#[cfg(feature = "engine")]
mod stage_state;
#[cfg(feature = "engine")]
mod state;
#[cfg(feature = "engine")]
mod wasi;
#[cfg(feature = "engine")]
pub(crate) mod measuring;

#[cfg(all(test, feature = "engine"))]
pub(crate) mod tests;

pub use aside::{Aside, AsideCause, Counts, NoneWaits, Processed, Waits};
/// What the fuzz targets reach into.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    pub(crate) use super::encode::{Encoder, Images};
    pub(crate) use super::filter::apply as apply_filter;
    pub(crate) use super::manifest::{Kind, Manifest};
    pub(crate) use super::module_file::ModuleFile;
    pub(crate) use super::plan::{Entry, InUse, Plan, build};
    pub(crate) use super::refused::Refused;
    pub(crate) use super::schema_reply::{SchemaReply, parse as parse_schema};
    pub(crate) use super::shapes::Shapes;
    pub(crate) use super::transform::{Scratch, apply as apply_transform};
}

#[cfg(feature = "engine")]
pub use breaker::Faults;
#[cfg(feature = "engine")]
pub use chain::{Chain, ChainOutcome, PluginVersion, Projection};
#[cfg(feature = "engine")]
pub use chain_state::{KeptState, Names};
pub use codes::CODES;
#[cfg(feature = "engine")]
pub use compiled::Module;
#[cfg(feature = "engine")]
pub use divided::{DIVISIONS, PluginKept};
#[cfg(feature = "engine")]
pub use engine::Engine;
#[cfg(feature = "engine")]
pub use entries::SharedEntries;
pub use error::{Fault, FaultKind, GaveUp, GaveUpReason, PluginError, RowError, RowErrorKind, RowPlace};
#[cfg(feature = "engine")]
pub use instance::Mode;
pub use manifest::{Kind, Manifest};
pub use metrics::{GuestMetrics, Metric};
#[cfg(feature = "engine")]
pub use split::Split;
#[cfg(feature = "engine")]
pub use state::{Kept, State};
