//! stub
mod floors;
mod merge;
#[cfg(test)]
mod merge_model;
mod visibility;
pub use visibility::Snapshot;
