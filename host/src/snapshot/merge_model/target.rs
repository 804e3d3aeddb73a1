//! What a target holds, and what a start goes on from.

use super::server::{Op, Table, apply};
use crate::batch::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// A target that also checks that no key ever goes back.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    pub(super) table: Table,
    pub(super) newest: BTreeMap<u8, u64>,
    /// Up to where it has the stream; what comes again of that isn't sent to it.
    pub(super) position: Lsn,
}

/// What a start goes on from.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) position: Lsn,
    /// Keys, or blocks, of counted units.
    pub(super) counted: BTreeSet<u8>,
    /// The table counts as copied.
    pub(super) is_over: bool,
    /// It is to be copied again, and the target has yet to be emptied.
    pub(super) empties: bool,
}

impl Target {
    fn saw(&mut self, key: u8, version: u64) {
        let newest = self.newest.entry(key).or_default();
        assert!(*newest <= version, "key {key}: version {version} after {newest}");
        *newest = version;
    }

    pub(super) fn deliver(&mut self, op: &Op) {
        match *op {
            Op::Put { key, row } => self.saw(key, row.version),
            Op::Touch { key, version, .. } | Op::Delete { key, version } => self.saw(key, version),
            Op::Move { old, new, row, .. } => {
                self.saw(old, row.version);
                self.saw(new, row.version);
            }
            Op::Truncate => self.newest.clear(),
        }
        apply(&mut self.table, op);
    }
}
