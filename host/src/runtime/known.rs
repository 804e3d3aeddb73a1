//! The columns that a table had when a route first met it, kept in the state store.

use crate::checkpoint::{NumberedColumn, RouteShapes, StateStore, TableShape};
use crate::pipeline::{KnownColumns, Met};
use rustc_hash::FxHashMap;

pub(super) struct StoredColumns(pub(super) StateStore);

impl KnownColumns for StoredColumns {
    fn known(&mut self, met: &[Met]) -> anyhow::Result<Vec<Vec<String>>> {
        // A table may be met in two versions at once: the first of them decides.
        let mut new: FxHashMap<(&str, &str), &[String]> = FxHashMap::default();
        let mut all = Vec::with_capacity(met.len());
        for of in met {
            all.push(match self.0.route_columns(&of.route, &of.table)? {
                Some(known) => known,
                None => new.entry((&of.route, &of.table)).or_insert(&of.present).to_vec(),
            });
        }
        if !new.is_empty() {
            let new: Vec<_> = new
                .into_iter()
                .map(|((route, table), columns)| (route, table, columns))
                .collect();
            self.0.set_route_columns(&new)?;
        }
        Ok(all)
    }

    fn shapes(&mut self, route: &str, table: &str) -> anyhow::Result<Vec<TableShape>> {
        Ok(self.0.route_shapes(route, table)?)
    }

    fn set_shapes(&mut self, shapes: &[RouteShapes]) -> anyhow::Result<()> {
        Ok(self.0.set_route_shapes(shapes)?)
    }

    fn numbers(&mut self, table: u32) -> anyhow::Result<Vec<NumberedColumn>> {
        Ok(self.0.column_numbers(table)?)
    }

    fn set_numbers(&mut self, table: u32, columns: Vec<NumberedColumn>) -> anyhow::Result<()> {
        Ok(self.0.set_column_numbers(table, &columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(table: &str, present: &[&str]) -> Met {
        Met {
            route: "*".into(),
            table: table.into(),
            present: present.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_version_of_a_table_decides_also_among_those_met_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = || StateStore::open(folder.path(), "columns").unwrap();
        let mut columns = StoredColumns(store());
        let at_once = [
            met("public.a", &["id"]),
            met("public.b", &["id"]),
            met("public.a", &["id", "secret"]),
        ];
        let known = columns.known(&at_once).unwrap();
        assert_eq!(known, [["id"], ["id"], ["id"]]);
        drop(columns);
        let known = StoredColumns(store())
            .known(&[met("public.a", &["id", "secret"])])
            .unwrap();
        assert_eq!(known, [["id"]], "after a restart, too");
    }
}
