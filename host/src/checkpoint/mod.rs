//! Positions, the frontier over sinks, and the state store.

mod frontier;

pub use frontier::{Advance, Frontier};
