//! pipeline.yaml: typed, loaded, checked, reported with line and column; secrets.

mod model;
mod secret;
mod units;

pub use model::*;
pub use secret::Secret;
pub use units::{ByteSize, Duration};
