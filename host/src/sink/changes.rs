//! What has become of tables' columns while the pipeline ran, where routes take it up: targets may follow.

use crate::batch::Relation;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A column that has another name, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The names that it had before, none of which another column has now.
    pub before: Vec<String>,
    pub now: String,
    /// The first version of its table, in this process, that has the name.
    pub version: u32,
}

/// What has become of a table's columns, in all that the pipeline knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    added: BTreeSet<String>,
    pub retyped: BTreeSet<String>,
    pub dropped: BTreeSet<String>,
    pub renamed: Vec<Renamed>,
}

/// By the table's name: what plugins make of a relation still has that, and its columns' names.
#[derive(Debug, Default)]
pub struct ColumnChanges {
    tables: Mutex<HashMap<String, TableChanges>>,
    renames: AtomicU64,
}

impl ColumnChanges {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, TableChanges>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A column that has come.
    pub fn add(&self, relation: &Relation, column: &str) {
        let mut tables = self.lock();
        let changes = tables.entry(relation.full_name()).or_default();
        changes.added.insert(column.to_owned());
    }

    pub fn has(&self, relation: &Relation, column: &str) -> bool {
        let tables = self.lock();
        let changes = tables.get(&relation.full_name());
        changes.is_some_and(|changes| changes.added.contains(column))
    }

    /// Whether any of the relation's columns has come.
    pub fn has_any(&self, relation: &Relation) -> bool {
        relation.columns.iter().any(|column| self.has(relation, &column.name))
    }

    /// Everything else that is known of the table's columns by now.
    pub fn note(&self, table: &str, seen: TableChanges) {
        if seen == TableChanges::default() {
            return;
        }
        let mut tables = self.lock();
        let changes = tables.entry(table.to_owned()).or_default();
        changes.retyped.extend(seen.retyped);
        changes.dropped.extend(seen.dropped);
        for renamed in seen.renamed {
            match changes.renamed.iter_mut().find(|known| known.now == renamed.now) {
                Some(known) => known.before = renamed.before,
                None => changes.renamed.push(renamed),
            }
        }
    }

    /// `None` where there is nothing but columns that have come.
    pub fn of(&self, relation: &Relation) -> Option<TableChanges> {
        let tables = self.lock();
        let changes = tables.get(&relation.full_name())?;
        let any = !changes.retyped.is_empty() || !changes.dropped.is_empty() || !changes.renamed.is_empty();
        any.then(|| changes.clone())
    }

    /// Grows with every column that is renamed at a target: what was looked up there before may have another name.
    pub fn renames(&self) -> u64 {
        self.renames.load(Ordering::Acquire)
    }

    pub fn count_rename(&self) {
        self.renames.fetch_add(1, Ordering::AcqRel);
    }
}

impl TableChanges {
    /// What a column of a relation is called at a target that has followed: a version from before knows the old name.
    pub fn name_now<'a>(&'a self, relation: &Relation, column: &'a str) -> &'a str {
        let is_it = |renamed: &&Renamed| {
            relation.version < renamed.version && renamed.before.iter().any(|before| before == column)
        };
        self.renamed.iter().find(is_it).map_or(column, |renamed| &renamed.now)
    }
}
