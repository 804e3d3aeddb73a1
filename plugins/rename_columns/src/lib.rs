//! Gives columns other names; their values and everything else stay as they are.

use rowmill_plugin::prelude::*;
use std::collections::BTreeMap;

/// What stands under `config:`.
#[config]
pub struct Config {
    /// From the old name to the new one. Tables that have none of the columns are passed by.
    columns: BTreeMap<String, String>,
}

/// The plugin.
pub struct RenameColumns {
    columns: BTreeMap<String, String>,
}

#[plugin(config_schema = "config.schema.json")]
impl Transform for RenameColumns {
    type Config = Config;
    type Table = Vec<(ReadColumn, WriteColumn)>;

    fn new(config: Config) -> Result<Self> {
        if config.columns.is_empty() {
            return Err(Error::new("`columns` names no column"));
        }
        Ok(Self {
            columns: config.columns,
        })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>> {
        let mut output = Output::like(relation);
        let mut renamed = Vec::new();
        for column in &mut output.columns {
            if let Some(new) = self.columns.get(&column.name) {
                renamed.push((std::mem::replace(&mut column.name, new.clone()), new));
            }
        }
        if renamed.is_empty() {
            return Ok(Projection::pass_by());
        }
        let is_taken = |name: &String| output.columns.iter().filter(|column| column.name == *name).count() > 1;
        if let Some((old, new)) = renamed.iter().find(|(_, new)| is_taken(new)) {
            let Relation { schema, table, .. } = relation;
            return Err(Error::new(format!(
                "{schema}.{table}: {old} can't become {new}, there is a column {new}"
            )));
        }
        let mut selection = Selection::of(relation);
        selection.output(output);
        let mut table = Vec::new();
        for (old, new) in renamed {
            table.push((selection.read(&old)?, selection.write(new)?));
        }
        Ok(selection.with(table))
    }

    fn transform(&mut self, row: &Row, table: &Self::Table, patch: &mut Patch) -> Result<()> {
        for (old, new) in table {
            match row.value(*old)? {
                // What isn't in this image isn't in it under the new name either.
                Value::Absent => {}
                value => patch.set(*new, value),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_plugin::testing::{self, Cell};
    use rowmill_plugin::{Op, row};
    use serde_json::json;

    #[test]
    fn the_schema_of_the_config_is_up_to_date() {
        testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn values_move_to_their_new_names() {
        let mut plugin = testing::transform_with::<RenameColumns>(json!({ "columns": { "mail": "email" } })).unwrap();
        let rows = [
            row! { id: 1, mail: "a@example.org" },
            row! { id: 2, mail: None::<&str> },
            row! { id: 3, mail: Cell::Unchanged }.updated(),
        ];
        let renamed: Vec<_> = plugin.outcomes(&rows).into_iter().map(testing::Outcome::row).collect();
        assert_eq!(renamed[0], row! { id: 1, email: "a@example.org" });
        assert_eq!(renamed[1], row! { id: 2, email: None::<&str> });
        assert_eq!(renamed[2], row! { id: 3, email: Cell::Unchanged }.updated());
    }

    #[test]
    fn names_can_be_swapped() {
        let columns = json!({ "columns": { "a": "b", "b": "a" } });
        let mut plugin = testing::transform_with::<RenameColumns>(columns).unwrap();
        assert_eq!(plugin.apply(row! { a: "1", b: "2" }).row(), row! { b: "1", a: "2" });
    }

    #[test]
    fn a_renamed_key_has_its_value_in_key_images() {
        let mut plugin = testing::transform_with::<RenameColumns>(json!({ "columns": { "id": "order_id" } })).unwrap();
        let key = plugin
            .apply(row! { id: 1, note: Cell::Absent }.old_key(Op::Delete))
            .row();
        assert_eq!(key.get("order_id"), &Cell::Int(1));
        assert_eq!(key.get("note"), &Cell::Absent);
    }

    #[test]
    fn a_name_that_is_taken_refuses_the_table() {
        let mut plugin = testing::transform_with::<RenameColumns>(json!({ "columns": { "a": "b" } })).unwrap();
        let testing::Outcome::Rejected(error) = plugin.apply(row! { a: "1", b: "2" }) else {
            panic!("not refused");
        };
        assert_eq!(error.reason(), "public.sample: a can't become b, there is a column b");
    }

    #[test]
    fn other_tables_are_passed_by() {
        let mut plugin = testing::transform_with::<RenameColumns>(json!({ "columns": { "a": "b" } })).unwrap();
        assert_eq!(plugin.apply(row! { c: "1" }).row(), row! { c: "1" });
    }
}
