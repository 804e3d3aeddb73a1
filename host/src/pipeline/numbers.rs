//! Columns by their numbers, which the source's DDL trigger tells: a column that is renamed keeps its number, one that
//! takes the place of a dropped one has another. Nothing else in the stream tells the two apart.

use super::columns::KnownColumns;
use crate::batch::{Batch, DDL_PREFIX, Relation};
use crate::checkpoint::{NumberedColumn, TableShape};
use serde::Deserialize;

/// Names that are remembered of a column: more than anybody gives one while a target is behind.
const NAMES_MAX: usize = 16;
const RENAMES: &str = "ALTER TABLE";

/// What the trigger says of a statement, as far as it matters here.
#[derive(Deserialize)]
struct Said {
    tag: String,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    /// The column that the statement is about: of ALTER TABLE alone where it renames it.
    column: Option<i16>,
    relation: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    oid: u32,
    schema: String,
    table: String,
    #[serde(default)]
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    number: i16,
    name: String,
}

/// Takes up what the batch's messages of the DDL trigger say of tables, by schema and name, that are `wanted`. `shape` is the version that a table (by its OID and name)
/// had before; it is asked for only where no message has told its numbers yet.
///
/// Whoever may write logical messages may write such, too: what isn't as the trigger says it is passed over.
pub(super) fn hear(
    batch: &Batch,
    known: &mut dyn KnownColumns,
    wanted: impl Fn(&str, &str) -> bool,
    mut shape: impl FnMut(&mut dyn KnownColumns, u32, &str) -> anyhow::Result<Option<TableShape>>,
) -> anyhow::Result<()> {
    let of_trigger = batch
        .messages
        .iter()
        .filter(|it| it.transactional && it.prefix == DDL_PREFIX);
    for message in of_trigger {
        let Ok(said) = serde_json::from_slice::<Said>(&message.content) else {
            continue;
        };
        let renames = said.tag == RENAMES;
        for object in said.objects {
            let Some(table) = object.relation.filter(|table| wanted(&table.schema, &table.table)) else {
                continue;
            };
            let name = format!("{}.{}", table.schema, table.table);
            let before = match known.numbers(table.oid)? {
                before if !before.is_empty() => before,
                _ => match shape(known, table.oid, &name)? {
                    Some(shape) => guessed(&shape, &table.columns, object.column.filter(|_| renames)),
                    None => Vec::new(),
                },
            };
            let now = table
                .columns
                .into_iter()
                .map(|column| follow(&before, column))
                .collect();
            known.set_numbers(table.oid, now)?;
        }
    }
    Ok(())
}

fn follow(before: &[NumberedColumn], column: Column) -> NumberedColumn {
    let known = before.iter().find(|known| known.number == column.number);
    let mut names = known.map_or_else(Vec::new, |known| known.names.clone());
    // A start goes through older messages again: each name counts once.
    names.retain(|name| *name != column.name);
    names.push(column.name);
    let first = names.len().saturating_sub(NAMES_MAX);
    names.drain(..first);
    NumberedColumn {
        number: column.number,
        names,
    }
}

/// The numbers before the first statement that is heard of, where that is a rename: everything else has the name that it
/// had, at the same place among the others.
fn guessed(shape: &TableShape, now: &[Column], renamed: Option<i16>) -> Vec<NumberedColumn> {
    let Some(fresh) = renamed.and_then(|number| now.iter().find(|column| column.number == number)) else {
        return Vec::new();
    };
    let is_now = |name: &str| now.iter().any(|column| column.name == name);
    let mut gone = shape.0.iter().filter(|column| !is_now(&column.name));
    let (Some(old), None) = (gone.next(), gone.next()) else {
        return Vec::new();
    };
    // A table has columns that aren't published: generated ones, and what a column list leaves out.
    let published = now
        .iter()
        .filter(|column| column.number == fresh.number || shape.0.iter().any(|known| known.name == column.name))
        .map(|column| {
            if column.number == fresh.number {
                &old.name
            } else {
                &column.name
            }
        });
    if !published.eq(shape.0.iter().map(|column| &column.name)) {
        return Vec::new();
    }
    let number = fresh.number;
    let names = vec![old.name.clone()];
    vec![NumberedColumn { number, names }]
}

/// The columns of a relation that had other names before: with those that no other column has now.
pub(super) fn renamed<'a>(
    numbers: &'a [NumberedColumn],
    relation: &'a Relation,
) -> impl Iterator<Item = (Vec<String>, String)> + 'a {
    let is_now = |name: &String| numbers.iter().any(|column| column.names.last() == Some(name));
    numbers.iter().filter_map(move |column| {
        let (now, before) = column.names.split_last()?;
        relation.column_index(now)?;
        let before: Vec<String> = before.iter().filter(|name| !is_now(name)).cloned().collect();
        (!before.is_empty()).then(|| (before, now.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Lsn, Message};
    use crate::checkpoint::{RouteShapes, ShapeColumn};
    use crate::pipeline::Met;
    use crate::sink::testing::relation;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Memory(BTreeMap<u32, Vec<NumberedColumn>>);

    impl KnownColumns for Memory {
        fn known(&mut self, _: &[Met]) -> anyhow::Result<Vec<Vec<String>>> {
            Ok(Vec::new())
        }

        fn shapes(&mut self, _: &str, _: &str) -> anyhow::Result<Vec<TableShape>> {
            Ok(Vec::new())
        }

        fn set_shapes(&mut self, _: &[RouteShapes]) -> anyhow::Result<()> {
            Ok(())
        }

        fn numbers(&mut self, table: u32) -> anyhow::Result<Vec<NumberedColumn>> {
            Ok(self.0.get(&table).cloned().unwrap_or_default())
        }

        fn set_numbers(&mut self, table: u32, columns: Vec<NumberedColumn>) -> anyhow::Result<()> {
            self.0.insert(table, columns);
            Ok(())
        }
    }

    /// Has the messages heard one after the other, behind a version with these columns; what is renamed then.
    fn heard(shape: &str, messages: &[(Option<i16>, &str)]) -> Vec<String> {
        let of_shape = |column: &str| ShapeColumn {
            name: column.to_owned(),
            type_oid: 25,
            typmod: -1,
        };
        let shape = TableShape(shape.split(' ').map(of_shape).collect());
        let mut memory = Memory::default();
        let mut last = "";
        for (column, columns) in messages {
            let columns: Vec<_> = columns
                .split(' ')
                .map(|column| column.split_once(':').unwrap())
                .map(|(number, name)| serde_json::json!({ "number": number.parse::<i16>().unwrap(), "name": name }))
                .collect();
            let table = serde_json::json!({ "oid": 7, "schema": "public", "table": "t", "columns": columns });
            let object = serde_json::json!({ "type": "table", "oid": 7, "column": column, "relation": table });
            let said = serde_json::json!({ "version": 1, "tag": "ALTER TABLE", "objects": [object] });
            let batch = Batch {
                messages: vec![Message {
                    transactional: true,
                    lsn: Lsn(1),
                    prefix: DDL_PREFIX.into(),
                    content: said.to_string().into(),
                }],
                ..Batch::default()
            };
            hear(&batch, &mut memory, |_, _| true, |_, _, _| Ok(Some(shape.clone()))).unwrap();
            last = messages.last().unwrap().1;
        }
        let names: Vec<&str> = last
            .split(' ')
            .map(|column| column.split_once(':').unwrap().1)
            .collect();
        let columns: Vec<_> = names.iter().map(|name| (*name, 25, "text", false)).collect();
        renamed(&memory.0[&7], &relation("t", &columns))
            .map(|(before, now)| format!("{} -> {now}", before.join("|")))
            .collect()
    }

    #[test]
    fn a_column_that_keeps_its_number_is_renamed() {
        // The first statement that is heard of, with a generated column that isn't published.
        assert_eq!(heard("id a b", &[(Some(3), "1:id 2:a 3:c 4:made")]), ["b -> c"]);
        // It was dropped, and another added: no statement is about a column.
        assert_eq!(heard("id a b", &[(None, "1:id 2:a 4:c")]), [""; 0]);
        // What was there before isn't what the version had.
        assert_eq!(heard("id a b", &[(Some(4), "1:id 2:x 4:c")]), [""; 0]);
        assert_eq!(heard("id b a", &[(Some(3), "1:id 2:a 3:c")]), [""; 0]);
        // Numbers that were told before need no guess.
        let moved = [
            (None, "1:id 2:a 3:b"),
            (Some(3), "1:id 2:a 3:c"),
            (Some(3), "1:id 2:a 3:d"),
        ];
        assert_eq!(heard("id", &moved), ["b|c -> d"]);
        // A start behind which they come again.
        let again = [moved[0], moved[1], moved[0], moved[1], moved[2]];
        assert_eq!(heard("id", &again), ["b|c -> d"]);
        // The old name is another column's by now: whose values a target has under it can't be told.
        let swapped = [
            (None, "1:id 2:a 3:b"),
            (Some(2), "1:id 2:t 3:b"),
            (Some(3), "1:id 2:t 3:a"),
            (Some(2), "1:id 2:b 3:a"),
        ];
        assert_eq!(heard("id", &swapped), ["t -> b"]);
    }
}
