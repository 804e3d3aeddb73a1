//! Tables that were renamed since the last start: none may fall out of all routes without a word.

use super::process::Process;
use crate::checkpoint::RoutedTable;
use crate::pipeline::{RENAMED, renamed, takes_table};
use crate::problem::Problem;
use crate::source::catalog::Catalog;

/// Compares the names that tables have now with those that they had, and remembers the new ones.
///
/// # Errors
/// A table has a name that no route takes, while the file still has the old one.
pub(super) fn follow(process: &Process, catalog: &Catalog) -> Result<(), Problem> {
    let config = process.config();
    let is_taken = |schema: &str, table: &str| {
        let mut routes = config.routes.iter();
        routes.any(|route| takes_table(route, schema, table))
    };
    let known = process.store.routed_tables()?;
    for before in &known {
        let is_other = (before.schema.as_str(), before.table.as_str());
        let now = catalog
            .tables
            .iter()
            .find(|table| table.oid == before.oid && (table.schema.as_str(), table.table.as_str()) != is_other);
        let Some(now) = now else { continue };
        if is_taken(&now.schema, &now.table) {
            let (table, now) = (before.full_name(), now.full_name());
            tracing::warn!(table, now, "the table has another name: {RENAMED}");
        } else if is_taken(&before.schema, &before.table) {
            let cause = format!("it is the table with OID {}", before.oid);
            return Err(renamed(&before.full_name(), &now.full_name()).with_cause(cause));
        }
    }
    let taken = catalog
        .tables
        .iter()
        .filter(|table| is_taken(&table.schema, &table.table));
    let taken: Vec<RoutedTable> = taken
        .map(|table| RoutedTable {
            oid: table.oid,
            schema: table.schema.clone(),
            table: table.table.clone(),
        })
        .collect();
    match taken == known {
        true => Ok(()),
        false => process.store.set_routed_tables(&taken),
    }
}
