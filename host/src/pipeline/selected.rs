//! What the source was told to select, held against what the stream brings.
//!
//! A server decodes what is behind with the publication as it was then: changes of a table, or values of a column, that have
//! been taken out of it meanwhile come all the same.

use crate::batch::{Lsn, Relation};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Of a schema and a table in it.
pub type IsNamed = Box<dyn Fn(&str, &str) -> bool + Send>;

/// What is selected now, and what was withheld when the session began.
pub struct Selected {
    /// Whether the source's `tables` name one of this schema and name; where none are, an adopted publication decides.
    pub names: IsNamed,
    /// By a table's OID: the columns that the publication withholds.
    pub withheld: FxHashMap<u32, Vec<String>>,
}

impl Default for Selected {
    fn default() -> Self {
        Self {
            names: Box::new(|_, _| true),
            withheld: FxHashMap::default(),
        }
    }
}

/// The same with what has been told.
pub(super) struct Selection {
    selected: Selected,
    /// Where the WAL ended when the catalog was read.
    catalog_at: Lsn,
    told: FxHashSet<u32>,
}

impl Selection {
    pub(super) fn new(selected: Selected, catalog_at: Lsn) -> Self {
        Self {
            selected,
            catalog_at,
            told: FxHashSet::default(),
        }
    }

    /// Whether rows of the table may leave at all. One that was selected under an older name `is_known`.
    pub(super) fn has(&mut self, relation: &Relation, is_known: bool) -> bool {
        if is_known || (self.selected.names)(&relation.schema, &relation.table) {
            return true;
        }
        if self.told.insert(relation.oid) {
            let table = relation.full_name();
            tracing::warn!(
                table,
                "its changes are left out: `tables` of the source doesn't name it any more"
            );
        }
        false
    }

    /// The relation without what is withheld by now. What a list lets through again behind the catalog passes.
    pub(super) fn without_withheld(&self, relation: Arc<Relation>, begins: Lsn) -> Arc<Relation> {
        let Some(withheld) = self.selected.withheld.get(&relation.oid) else {
            return relation;
        };
        let is_withheld = |name: &String| withheld.contains(name);
        if begins > self.catalog_at || !relation.columns.iter().any(|column| is_withheld(&column.name)) {
            return relation;
        }
        let mut columns = relation.columns.clone();
        columns.retain(|column| !is_withheld(&column.name));
        Arc::new(Relation {
            index: Relation::next_index(),
            columns,
            ..Relation::clone(&relation)
        })
    }
}
