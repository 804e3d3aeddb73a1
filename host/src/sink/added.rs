//! Columns that tables got while the pipeline ran: targets that lack them may add them.

use crate::batch::Relation;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// By the table's name and the column's: what plugins make of a relation still has those.
#[derive(Debug, Default)]
pub struct AddedColumns(Mutex<HashSet<(String, String)>>);

impl AddedColumns {
    pub fn insert(&self, relation: &Relation, column: &str) {
        let mut added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        added.insert((relation.full_name(), column.to_owned()));
    }

    pub fn has(&self, relation: &Relation, column: &str) -> bool {
        let added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        added.contains(&(relation.full_name(), column.to_owned()))
    }

    /// Whether any of the relation's columns is one.
    pub fn has_any(&self, relation: &Relation) -> bool {
        relation.columns.iter().any(|column| self.has(relation, &column.name))
    }
}
