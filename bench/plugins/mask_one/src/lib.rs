//! A mask of one column, which the configuration names.

use rowmill_plugin::prelude::*;

#[config]
struct Config {
    column: String,
}

struct MaskOne {
    column: String,
}

struct Columns {
    read: ReadColumn,
    write: WriteColumn,
}

#[plugin]
impl Transform for MaskOne {
    type Config = Config;
    type Table = Columns;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { column: config.column })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Columns>> {
        let mut selection = Selection::of(relation);
        let columns = Columns {
            read: selection.read(&self.column)?,
            write: selection.write(&self.column)?,
        };
        Ok(selection.with(columns))
    }

    fn transform(&mut self, row: &Row<'_>, table: &Columns, patch: &mut Patch<'_>) -> Result<()> {
        if row.text(table.read)?.is_some() {
            patch.set(table.write, "***");
        }
        Ok(())
    }
}
