//! Streamed changes that a copied row shows already, where the copy is some sinks' alone: the others get them as ever.

use super::{Batch, Op, Row};

/// A change of a table that is copied for some sinks alone, of which these have something by a copied row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// As in [`Row`].
    pub transaction: u32,
    pub ordinal: u64,
    pub table_oid: u32,
    pub left: Left,
}

/// What of a change is left to be sent to sinks that have a copied row which shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// Of an update of the key, the delete of the old one.
    Old,
    /// Of an update of the key, the insert of the new one.
    New,
}

impl Batch {
    /// What is noted of the change that a row, whatever plugins have made of it, comes of.
    pub fn copied_of(&self, row: &Row) -> Option<&Copied> {
        let place = |of: &Copied| (of.transaction, of.ordinal);
        let at = self.copied.binary_search_by_key(&(row.transaction, row.ordinal), place);
        self.copied.get(at.ok()?)
    }
}

impl Left {
    /// What is left of a row.
    pub fn of(self, row: &Row) -> Option<Row> {
        match self {
            Self::Nothing => None,
            Self::Old => row.old.map(|_| Row {
                op: Op::Delete,
                new: None,
                ..*row
            }),
            Self::New => row.new.map(|_| Row {
                op: match row.op {
                    Op::Update => Op::Insert,
                    op => op,
                },
                old: None,
                ..*row
            }),
        }
    }
}
