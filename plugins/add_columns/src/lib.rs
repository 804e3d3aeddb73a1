//! Adds columns: constants, or texts put together from other columns.

mod template;

use rowmill_plugin::prelude::*;
use rowmill_plugin::types;
use std::collections::BTreeMap;
use template::{Part, Template};

/// What stands under `config:`.
#[config]
pub struct Config {
    /// From the new column's name to its text, in which `{name}` stands for the value of another column and `{{`, `}}`
    /// for braces.
    columns: BTreeMap<String, String>,
}

/// The plugin.
pub struct AddColumns {
    columns: Vec<(String, Template)>,
    /// Kept from row to row.
    text: String,
}

/// A new column, and what its text is made of.
pub struct Added {
    column: WriteColumn,
    parts: Vec<Part<ReadColumn>>,
}

#[plugin(config_schema = "config.schema.json")]
impl Transform for AddColumns {
    type Config = Config;
    type Table = Vec<Added>;

    fn new(config: Config) -> Result<Self> {
        if config.columns.is_empty() {
            return Err(Error::new("`columns` names no column"));
        }
        let parse = |(name, text): (String, String)| match Template::parse(&text) {
            Ok(template) => Ok((name, template)),
            Err(error) => Err(Error::new(format!("column {name}: {error}"))),
        };
        let columns = config.columns.into_iter().map(parse).collect::<Result<_>>()?;
        Ok(Self {
            columns,
            text: String::new(),
        })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Vec<Added>>> {
        let mut output = Output::like(relation);
        for (name, _) in &self.columns {
            output.add(name, types::TEXT, "text")?;
        }
        let mut selection = Selection::of(relation);
        selection.output(output);
        let mut table = Vec::new();
        for (name, template) in &self.columns {
            let column = selection.write(name)?;
            let parts = template.resolve(|column| selection.read(column))?;
            table.push(Added { column, parts });
        }
        Ok(selection.with(table))
    }

    fn transform(&mut self, row: &Row, table: &Vec<Added>, patch: &mut Patch) -> Result<()> {
        // An old image has what sinks find rows by; what was added isn't part of it.
        if row.image() == Image::OldKey {
            return Ok(());
        }
        for added in table {
            let filled = template::fill(&added.parts, row, &mut self.text)?;
            patch.set(added.column, filled.map(|()| self.text.as_str()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_plugin::testing::{self, Cell, Outcome};
    use rowmill_plugin::{Op, row};
    use serde_json::json;

    #[test]
    fn the_schema_of_the_config_is_up_to_date() {
        testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
    }

    fn plugin(columns: serde_json::Value) -> testing::TransformHost<AddColumns> {
        testing::transform_with::<AddColumns>(json!({ "columns": columns })).expect("the config is right")
    }

    #[test]
    fn constants_and_texts_of_other_columns_are_added() {
        let mut plugin = plugin(json!({ "origin": "shop", "label": "{{{id}}} {name}" }));
        let row = plugin.apply(row! { id: 7, name: "Ada" }).row();
        assert_eq!(row, row! { id: 7, name: "Ada", label: "{7} Ada", origin: "shop" });
    }

    #[test]
    fn null_makes_null_and_unchanged_is_an_error() {
        let mut plugin = plugin(json!({ "label": "{id} {name}" }));
        let null = plugin.apply(row! { id: 7, name: None::<&str> }).row();
        assert_eq!(null.get("label"), &Cell::Null);
        let unchanged = plugin.apply(row! { id: 7, name: Cell::Unchanged }.updated());
        assert!(matches!(unchanged, Outcome::Rejected(error) if error.code() == "unchanged"));
    }

    #[test]
    fn a_key_image_stays_a_key() {
        let mut plugin = plugin(json!({ "label": "{id}" }));
        let key = plugin
            .apply(row! { id: 7, name: Cell::Absent }.old_key(Op::Delete))
            .row();
        assert_eq!(key.get("id"), &Cell::Int(7));
        assert_eq!(key.get("label"), &Cell::Null);
    }

    #[test]
    fn what_is_there_already_or_missing_refuses_the_table() {
        for (columns, reason) in [
            (json!({ "name": "x" }), "public.sample has a column name already"),
            (
                json!({ "label": "{nobody}" }),
                "table public.sample has no column nobody",
            ),
        ] {
            let outcome = plugin(columns).apply(row! { id: 7, name: "Ada" });
            assert!(
                matches!(&outcome, Outcome::Rejected(error) if error.reason() == reason),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_broken_text_refuses_the_plugin() {
        for text in ["{", "{a", "}", "{}"] {
            let config = json!({ "columns": { "label": text } });
            let error = testing::transform_with::<AddColumns>(config).expect_err("refused");
            assert!(error.reason().contains("label"), "{}", error.reason());
        }
    }
}
