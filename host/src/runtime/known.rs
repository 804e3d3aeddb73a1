//! The columns that a table had when a route first met it, kept in the state store.

use crate::checkpoint::{StateStore, TableShape};
use crate::pipeline::KnownColumns;

pub(super) struct StoredColumns(pub(super) StateStore);

impl KnownColumns for StoredColumns {
    fn known(&mut self, route: &str, table: &str, present: &[String]) -> anyhow::Result<Vec<String>> {
        if let Some(known) = self.0.route_columns(route, table)? {
            return Ok(known);
        }
        self.0.set_route_columns(route, table, present)?;
        Ok(present.to_vec())
    }

    fn shapes(&mut self, route: &str, table: &str) -> anyhow::Result<Vec<TableShape>> {
        Ok(self.0.route_shapes(route, table)?)
    }

    fn set_shapes(&mut self, route: &str, table: &str, shapes: &[TableShape]) -> anyhow::Result<()> {
        Ok(self.0.set_route_shapes(route, table, shapes)?)
    }
}
