//! Copies tables while the stream runs, in units that are merged into it.
mod barrier;
mod cut;
mod fault;
mod floors;
mod key;
mod merge;
#[cfg(test)]
mod merge_model;
mod merger;
mod outgoing;
mod plan;
mod read;
mod reread;
mod shared;
mod sql;
mod start;
mod table;
mod visibility;
mod waiting;
mod worker;

pub use merger::{MergedUnit, Merger};
pub use plan::{KeyRange, Plan, TableCopy, TableProgress, UnitRecord};
pub use start::{Copier, start};
pub use visibility::{NotASnapshot, Snapshot};
