//! pipeline.yaml: typed, loaded, checked, reported with line and column; secrets.
//!
//! ```text
//!   text --node--> tree with places --walk, scalar, convert--> typed values --refer, routes--> checked --resolve--> Pipeline
//!                                        |
//!                      keys, shape: the table of keys, which the JSON Schema is made from too
//! ```
//!
//! No step ends at the first mistake: what is wrong is reported and left out, and the next step passes over what is
//! missing.

mod codes;
mod convert;
mod expand;
mod idle;
mod item;
mod keys;
mod load;
mod mask;
mod model;
mod node;
mod refer;
#[cfg(test)]
mod reference;
mod report;
mod resolve;
mod routes;
mod scalar;
mod schema;
mod secret;
mod shape;
mod table_pattern;
mod units;
mod walk;

pub use codes::CODES;
#[cfg(feature = "engine")]
pub(crate) use expand::expand_stored;
pub use load::{DEFAULT_FILE, load, load_all, load_text, load_with};
pub use model::*;
pub use schema::schema;
pub use secret::Secret;
pub use units::{ByteSize, Duration, UnitError};
