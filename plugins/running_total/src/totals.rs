//! The totals of a table, and their form as state: `[[table, ungrouped, [group, total, ...]], ...]`, numbers as text.

use rowmill_plugin::postgres::{Decimal, FromText, Numeric};
use rowmill_plugin::prelude::*;
use std::collections::BTreeMap;

/// Groups of one table: the state is handed over as a whole, at each checkpoint.
const GROUPS_MAX: usize = 100_000;

/// The totals of one table.
#[derive(Debug, Default)]
pub struct Totals {
    /// With its schema.
    table: String,
    /// Of rows without a group.
    ungrouped: Decimal,
    /// In order, so that the same totals are the same state.
    groups: BTreeMap<String, Decimal>,
}

impl Totals {
    /// The total so far of a group, 0 where it is new.
    pub fn of(&mut self, group: Option<&str>) -> Result<&mut Decimal> {
        let Some(group) = group else {
            return Ok(&mut self.ungrouped);
        };
        // Looked up first: nearly always it is there, and its name needn't be copied.
        if !self.groups.contains_key(group) && self.groups.len() >= GROUPS_MAX {
            return Err(Error::new(format!("more than {GROUPS_MAX} groups")).with_code("groups"));
        }
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), Decimal::default());
        }
        self.groups
            .get_mut(group)
            .ok_or_else(|| Error::new("a group that was just put there"))
    }

    pub fn clear(&mut self) {
        self.ungrouped = Decimal::default();
        self.groups.clear();
    }
}

/// Where the totals of a table stand; with the others, where they are new.
pub fn position(tables: &mut Vec<Totals>, relation: &Relation) -> usize {
    let table = format!("{}.{}", relation.schema, relation.table);
    match tables.iter().position(|known| known.table == table) {
        Some(known) => known,
        None => {
            tables.push(Totals {
                table,
                ..Totals::default()
            });
            tables.len() - 1
        }
    }
}

pub fn write(tables: &[Totals], state: &mut Writer) {
    state.array(tables.len());
    for table in tables {
        state.array(3);
        state.str(&table.table);
        state.display(&table.ungrouped);
        state.array(2 * table.groups.len());
        for (group, total) in &table.groups {
            state.str(group);
            state.display(total);
        }
    }
}

pub fn read(state: &[u8]) -> Result<Vec<Totals>> {
    let mut reader = Reader::new(state);
    let mut tables = Vec::new();
    for _ in 0..reader.array()? {
        reader.array()?;
        let (table, ungrouped) = (reader.str()?.to_owned(), number(&mut reader)?);
        let mut groups = BTreeMap::new();
        for _ in 0..reader.array()? / 2 {
            groups.insert(reader.str()?.to_owned(), number(&mut reader)?);
        }
        tables.push(Totals {
            table,
            ungrouped,
            groups,
        });
    }
    Ok(tables)
}

fn number(reader: &mut Reader<'_>) -> Result<Decimal> {
    let number = Numeric::from_text(reader.str()?).and_then(|number| number.decimal());
    number.ok_or_else(|| Error::new("the state holds a total that is no number"))
}
