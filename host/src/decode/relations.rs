//! The tables that the stream has described so far, by OID, each with its newest version.

use super::types::builtin_type_name;
use crate::batch::{Column, Relation, ReplicaIdentity};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What the catalog knows of a column and pgoutput doesn't say. Read once, later than the rows: never used to
/// decode.
#[derive(Clone, Debug)]
pub struct ColumnHint {
    pub name: String,
    pub type_oid: u32,
    pub type_name: String,
    pub nullable: bool,
    pub primary_key: bool,
}

/// What the catalog knows of a table.
#[derive(Clone, Debug)]
pub struct TableHint {
    pub oid: u32,
    pub columns: Vec<ColumnHint>,
}

/// A column as a Relation message has it.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) typmod: i32,
    pub(super) identity: bool,
}

/// The newest version of a table, and where the batch under way lists it.
#[derive(Debug)]
struct Known {
    relation: Arc<Relation>,
    /// The batch that lists it at `at`; another batch's number means that it isn't listed yet.
    batch: u64,
    at: u32,
}

#[derive(Debug, Default)]
pub(super) struct Relations {
    newest: FxHashMap<u32, Known>,
    /// The number of the batch under way.
    batch: u64,
    /// The OID looked up last and its index: rows of one table come in runs.
    last: Option<(u32, u32)>,
    type_names: FxHashMap<u32, String>,
    hints: FxHashMap<u32, TableHint>,
}

impl Relations {
    /// Between two batches: from the next one on the table is described by it.
    pub(super) fn hint(&mut self, hint: TableHint) {
        let oid = hint.oid;
        self.hints.insert(oid, hint);
        let Some(known) = self.newest.get(&oid) else {
            return;
        };
        let known = Arc::clone(&known.relation);
        let described = known.columns.iter().map(|column| Described {
            name: column.name.clone(),
            type_oid: column.type_oid,
            typmod: column.typmod,
            // On the wire all columns are, whatever the catalog's primary key.
            identity: column.key || known.replica_identity == ReplicaIdentity::Full,
        });
        let described = described.collect();
        self.describe(oid, &known.schema, &known.table, known.replica_identity, described);
    }

    pub(super) fn name_type(&mut self, oid: u32, schema: &str, name: &str) {
        let full = if schema.is_empty() {
            name.to_owned()
        } else {
            format!("{schema}.{name}")
        };
        self.type_names.insert(oid, full);
    }

    /// To be called before each batch: nothing is listed in it yet.
    pub(super) fn next_batch(&mut self) {
        self.batch += 1;
        self.last = None;
    }

    /// The index of the table's newest version in `listed`, the relations of the batch under way.
    #[inline]
    pub(super) fn index_in(&mut self, oid: u32, listed: &mut Vec<Arc<Relation>>) -> Option<u32> {
        if let Some((last, at)) = self.last
            && last == oid
        {
            return Some(at);
        }
        let known = self.newest.get_mut(&oid)?;
        if known.batch != self.batch {
            known.batch = self.batch;
            known.at = listed.len() as u32;
            listed.push(Arc::clone(&known.relation));
        }
        self.last = Some((oid, known.at));
        Some(known.at)
    }

    /// Takes a description up: the same as before keeps its version (the server repeats itself after a reconnect and
    /// after each invalidation), a different one is the table's next version.
    pub(super) fn describe(
        &mut self,
        oid: u32,
        schema: &str,
        table: &str,
        replica_identity: ReplicaIdentity,
        described: Vec<Described>,
    ) {
        let known = self.newest.get(&oid).map(|known| &known.relation);
        let primary_key = self.hinted_primary_key(oid, replica_identity, &described);
        let columns: Vec<Column> = described
            .into_iter()
            .enumerate()
            .map(|(at, column)| Column {
                key: match &primary_key {
                    Some(names) => names.contains(&column.name),
                    None => column.identity,
                },
                nullable: match self.column_hint(oid, &column) {
                    Some(hint) => hint.nullable,
                    // A table that came while it streams isn't known yet. An identity that is an index has no NULLs.
                    None => !column.identity || replica_identity == ReplicaIdentity::Full,
                },
                type_name: self.type_name(oid, &column),
                name: column.name,
                type_oid: column.type_oid,
                typmod: column.typmod,
                slot: at as u16,
            })
            .collect();
        if known.is_some_and(|known| {
            known.schema == schema
                && known.table == table
                && known.replica_identity == replica_identity
                && known.columns == columns
        }) {
            return;
        }
        let relation = Relation {
            index: Relation::next_index(),
            version: known.map_or(1, |known| known.version + 1),
            oid,
            schema: schema.to_owned(),
            table: table.to_owned(),
            replica_identity,
            slots: columns.len() as u16,
            columns,
        };
        self.last = None;
        self.newest.insert(
            oid,
            Known {
                relation: Arc::new(relation),
                batch: 0,
                at: 0,
            },
        );
    }

    /// Under REPLICA IDENTITY FULL every column counts as identity on the wire; a row is then known by its primary
    /// key where the table has one.
    fn hinted_primary_key(&self, oid: u32, identity: ReplicaIdentity, columns: &[Described]) -> Option<Vec<String>> {
        if identity != ReplicaIdentity::Full {
            return None;
        }
        let of_table = self.hints.get(&oid)?.columns.iter().filter(|column| column.primary_key);
        let names: Vec<String> = of_table.map(|column| column.name.clone()).collect();
        let all_there = names
            .iter()
            .all(|name| columns.iter().any(|column| column.name == *name));
        (!names.is_empty() && all_there).then_some(names)
    }

    fn column_hint(&self, oid: u32, column: &Described) -> Option<&ColumnHint> {
        let columns = &self.hints.get(&oid)?.columns;
        columns
            .iter()
            .find(|hint| hint.name == column.name && hint.type_oid == column.type_oid)
    }

    fn type_name(&self, oid: u32, column: &Described) -> String {
        if let Some(name) = builtin_type_name(column.type_oid) {
            return name.to_owned();
        }
        if let Some(hint) = self.column_hint(oid, column) {
            return hint.type_name.clone();
        }
        let named = self.type_names.get(&column.type_oid);
        named.cloned().unwrap_or_else(|| format!("oid:{}", column.type_oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that streamed before the catalog was asked: from the next batch on its rows are known by the primary key.
    #[test]
    fn a_hint_that_comes_later_counts_from_the_next_batch_on() {
        let mut relations = Relations::default();
        let columns = || {
            let described = ["id", "v"].map(|name| Described {
                name: name.to_owned(),
                type_oid: 23,
                typmod: -1,
                identity: true,
            });
            described.into()
        };
        let keys = |relations: &mut Relations| {
            let mut listed = Vec::new();
            relations.next_batch();
            relations.index_in(7, &mut listed);
            let keys: Vec<String> = listed[0].key_columns().map(|column| column.name.clone()).collect();
            (keys, listed[0].index, listed[0].columns[1].nullable)
        };
        relations.describe(7, "public", "t", ReplicaIdentity::Full, columns());
        let (before, index, nullable) = keys(&mut relations);
        assert_eq!((before, nullable), (vec!["id".to_owned(), "v".to_owned()], true));
        let hint = |name: &str, primary_key| ColumnHint {
            name: name.to_owned(),
            type_oid: 23,
            type_name: "integer".to_owned(),
            nullable: false,
            primary_key,
        };
        let of_table = TableHint {
            oid: 7,
            columns: vec![hint("id", true), hint("v", false)],
        };
        relations.hint(of_table.clone());
        let (behind, newer, nullable) = keys(&mut relations);
        assert_eq!((behind, nullable), (vec!["id".to_owned()], false));
        assert_ne!(newer, index, "another version");
        // The server repeats itself, and so may a hint.
        relations.describe(7, "public", "t", ReplicaIdentity::Full, columns());
        relations.hint(of_table);
        assert_eq!(keys(&mut relations).1, newer);
    }
}
