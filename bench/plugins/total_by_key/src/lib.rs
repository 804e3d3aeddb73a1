//! A transform that keeps a total of each key: divided by key, it goes on several threads.

use rowmill_plugin::prelude::*;
use std::collections::HashMap;

#[derive(Default)]
struct TotalByKey {
    totals: HashMap<i64, i64>,
}

struct Columns {
    id: ReadColumn,
    amount: ReadColumn,
    total: WriteColumn,
}

#[plugin(state_version = 1, state_scope = "key")]
impl Transform for TotalByKey {
    type Table = Columns;

    fn new(_: ()) -> Result<Self> {
        Ok(Self::default())
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Columns>> {
        let mut selection = Selection::of(relation);
        let columns = Columns {
            id: selection.read("id")?,
            amount: selection.read("amount")?,
            total: selection.write("note")?,
        };
        Ok(selection.with(columns))
    }

    fn transform(&mut self, row: &Row<'_>, table: &Columns, patch: &mut Patch<'_>) -> Result<()> {
        let cents = row.numeric(table.amount)?.and_then(|amount| amount.scaled(2));
        let total = self.totals.entry(row.int(table.id)?.unwrap_or(0)).or_default();
        *total += cents.unwrap_or(0) as i64;
        patch.set(table.total, total.to_string());
        Ok(())
    }
}

impl Stateful for TotalByKey {
    fn checkpoint(&self, state: &mut Writer) {
        state.array(2 * self.totals.len());
        for (id, total) in &self.totals {
            state.int(*id);
            state.int(*total);
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader::new(state);
        for _ in 0..reader.array()? / 2 {
            self.totals.insert(reader.int()?, reader.int()?);
        }
        Ok(())
    }
}
