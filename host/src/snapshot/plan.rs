//! What is to be copied, and what is known of a unit that was.

use super::visibility::Snapshot;
use crate::batch::{CopyUnit, Lsn, Relation};
use std::sync::Arc;

/// A table to copy.
#[derive(Clone, Debug)]
pub struct TableCopy {
    /// The table with the columns to copy, which are those that the stream sends; generated ones are left out.
    pub relation: Arc<Relation>,
    /// The names of the columns that identify a row, in the order of their index. All of them must be in the old
    /// image of an update that changes one: the replica identity's columns, or with REPLICA IDENTITY FULL the
    /// primary key's. Empty: the table has none, and is copied as one unit.
    pub key: Vec<String>,
    /// Whether it is the root of partitions that are published as the root.
    pub partitioned: bool,
    /// Which copy of the table this is, see [`CopyUnit::epoch`]. One that starts over counts on.
    pub epoch: u32,
}

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tables: Vec<TableCopy>,
    /// Connections that read units at the same time; at least 1. One more reads rows again.
    pub connections: usize,
    /// Rows of a unit of a table with a key, fewer where rows are large.
    pub unit_rows: usize,
}

/// A range of a key in the order of the server: behind `after`, up to and with `up_to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub after: Option<Vec<String>>,
    pub up_to: Option<Vec<String>>,
}

/// What a ledger stores of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRecord {
    pub unit: CopyUnit,
    pub range: KeyRange,
    /// S: what the copied rows show.
    pub snapshot: Snapshot,
    /// F: nothing that S sees committed behind it.
    pub finish: Lsn,
    /// No unit of this copy has a higher number.
    pub last_of_table: bool,
}

/// How far the copy of a table has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProgress {
    pub oid: u32,
    /// `schema.table`.
    pub table: String,
    /// Rows, bytes and units that have gone out.
    pub rows: u64,
    pub bytes: u64,
    pub units: u64,
    /// How often it started over because of a TRUNCATE.
    pub restarts: u32,
    /// Whether every unit has gone out.
    pub done: bool,
}
