//! Drops rows whose key has come by within a window of time.

#[cfg(test)]
mod tests;
mod window;

use rowmill_plugin::prelude::*;
use window::{Key, Window};

/// What stands under `config:`.
#[config]
pub struct Config {
    /// The columns that make up the key. A row in which one of them is NULL goes on.
    columns: Vec<String>,
    /// How long a key is remembered, by the commit times of the rows.
    window_seconds: u32,
}

/// The plugin.
pub struct DedupeWindow {
    columns: Vec<String>,
    window: Window,
}

/// A table's columns of the key.
pub struct Columns {
    table: String,
    key: Vec<ReadColumn>,
}

#[plugin(config_schema = "config.schema.json", kv)]
impl Transform for DedupeWindow {
    type Config = Config;
    type Table = Columns;

    fn new(config: Config) -> Result<Self> {
        if config.columns.is_empty() {
            return Err(Error::new("config: `columns` is empty"));
        }
        Ok(Self {
            columns: config.columns,
            window: Window::of_seconds(config.window_seconds),
        })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Columns>> {
        let mut selection = Selection::of(relation);
        let key = self.columns.iter().map(|column| selection.read(column));
        let columns = Columns {
            key: key.collect::<Result<_>>()?,
            table: format!("{}.{}", relation.schema, relation.table),
        };
        Ok(selection.with(columns))
    }

    fn transform(&mut self, row: &Row, columns: &Columns, patch: &mut Patch) -> Result<()> {
        if !matches!(row.op(), Op::Insert | Op::Read) {
            return Ok(());
        }
        let mut key = Key::of(&columns.table);
        for column in &columns.key {
            match row.value(*column)?.to_text() {
                Some(text) => key.push(&text),
                None => return Ok(()),
            }
        }
        if !self.window.is_first(self.kv(), &key, row.transaction().commit_us)? {
            host::count("duplicates", 1.0);
            patch.drop_change();
        }
        Ok(())
    }
}
