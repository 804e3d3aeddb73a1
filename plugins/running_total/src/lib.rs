//! Writes the total so far of a column into another, for each group of its own.

#[cfg(test)]
mod tests;
mod totals;

use rowmill_plugin::postgres::Decimal;
use rowmill_plugin::prelude::*;
use rowmill_plugin::types;
use totals::Totals;

/// What stands under `config:`.
#[config]
pub struct Config {
    /// The column that is added up: integers or numerics.
    amount: String,
    /// The column that the total goes into: `numeric`, `bigint` or text.
    total: String,
    /// Rows with the same value in this column have a total of their own; so have those where it is NULL.
    #[serde(default)]
    group: Option<String>,
}

/// The plugin.
pub struct RunningTotal {
    config: Config,
    tables: Vec<Totals>,
}

/// The columns of a table, and where its totals are.
pub struct Columns {
    totals: usize,
    amount: ReadColumn,
    group: Option<ReadColumn>,
    total: WriteColumn,
    /// Whether the total can't have a fraction.
    is_bigint: bool,
}

#[plugin(config_schema = "config.schema.json", state_version = 1, state_scope = "whole")]
impl Transform for RunningTotal {
    type Config = Config;
    type Table = Columns;

    fn new(config: Config) -> Result<Self> {
        Ok(Self {
            config,
            tables: Vec::new(),
        })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Columns>> {
        let Config { amount, total, group } = &self.config;
        let mut selection = Selection::of(relation);
        let columns = Columns {
            amount: selection.read(amount)?,
            group: group.as_ref().map(|group| selection.read(group)).transpose()?,
            total: selection.write(total)?,
            is_bigint: match relation.column(total).map(|column| column.type_oid) {
                Some(types::INT8) => true,
                Some(types::NUMERIC | types::TEXT) => false,
                _ => {
                    return Err(Error::new(format!(
                        "column {total} is neither numeric nor bigint nor text"
                    )));
                }
            },
            totals: totals::position(&mut self.tables, relation),
        };
        Ok(selection.with(columns))
    }

    fn transform(&mut self, row: &Row, columns: &Columns, patch: &mut Patch) -> Result<()> {
        if !matches!(row.op(), Op::Insert | Op::Read) {
            return Err(
                Error::new("a running total is for tables whose rows are only inserted").with_code("append_only")
            );
        }
        let amount = match row.numeric(columns.amount)? {
            Some(amount) => amount.decimal().ok_or_else(too_large)?,
            None => Decimal::default(),
        };
        let group = match columns.group {
            Some(group) => row.value(group)?.to_text(),
            None => None,
        };
        let so_far = self.tables[columns.totals].of(group.as_deref())?;
        let total = so_far.checked_add(amount).ok_or_else(too_large)?;
        if columns.is_bigint {
            let whole = i64::try_from(total.unscaled()).ok().filter(|_| total.scale() == 0);
            patch.set(columns.total, whole.ok_or_else(too_large)?);
        } else {
            patch.set(columns.total, total);
        }
        // Last: a row that is rejected doesn't count.
        *so_far = total;
        Ok(())
    }

    /// A table that begins anew has a total that does.
    fn truncate(&mut self, truncate: &Truncate) -> Result<Verdict> {
        for relation in truncate.relations() {
            let at = totals::position(&mut self.tables, relation);
            self.tables[at].clear();
        }
        Ok(Verdict::Pass)
    }
}

fn too_large() -> Error {
    Error::new("the amount or its total is infinite, NaN, or too large or too fine for its column").with_code("amount")
}

impl Stateful for RunningTotal {
    fn checkpoint(&self, state: &mut Writer) {
        totals::write(&self.tables, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.tables = totals::read(state)?;
        Ok(())
    }
}
