//! Masks columns with personal data in every image: new, old and key alike.

mod mask;
#[cfg(test)]
mod tests;

use mask::{HASH_LEN, Method, Salt};
use rowmill_plugin::prelude::*;
use rowmill_plugin::{Column, types};
use std::collections::BTreeMap;

/// What stands under `config:`.
#[config]
pub struct Config {
    /// Columns to mask: a list, or a map from column to method. `email` is a column that every table must have,
    /// `customers.email` or `public.customers.email` a column of one table.
    columns: Columns,
    /// The method for columns without one of their own.
    #[serde(default = "hash")]
    method: Method,
    /// The key of the hashes. Whoever knows it can try values out: keep it as a secret.
    #[serde(default)]
    salt: String,
}

#[derive(rowmill_plugin::serde::Deserialize, rowmill_plugin::schemars::JsonSchema)]
#[serde(crate = "rowmill_plugin::serde", untagged)]
#[schemars(crate = "rowmill_plugin::schemars")]
enum Columns {
    List(Vec<String>),
    Each(BTreeMap<String, Method>),
}

fn hash() -> Method {
    Method::Hash
}

/// The plugin.
pub struct MaskPii {
    columns: Vec<(String, Method)>,
    salt: Salt,
}

/// A column of a table, and how it is masked.
pub struct Mask {
    read: ReadColumn,
    write: WriteColumn,
    method: Method,
    length_max: Option<usize>,
}

#[plugin(config_schema = "config.schema.json")]
impl Transform for MaskPii {
    type Config = Config;
    type Table = Vec<Mask>;

    fn new(config: Config) -> Result<Self> {
        let columns: Vec<_> = match config.columns {
            Columns::List(columns) => columns.into_iter().map(|column| (column, config.method)).collect(),
            Columns::Each(columns) => columns.into_iter().collect(),
        };
        if columns.is_empty() {
            return Err(Error::new("`columns` names no column"));
        }
        if config.salt.is_empty() && columns.iter().any(|(_, method)| *method == Method::Hash) {
            return Err(Error::new(
                "`salt` is empty: unsalted hashes of personal data can be guessed",
            ));
        }
        Ok(Self {
            columns,
            salt: Salt::new(&config.salt)?,
        })
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<Vec<Mask>>> {
        let mut selection = Selection::of(relation);
        let mut masks = Vec::new();
        for (name, method) in &self.columns {
            let Some(name) = column_of(name, relation) else {
                continue;
            };
            let (read, write) = (selection.read(name)?, selection.write(name)?);
            let column = relation.column(name);
            column.map_or(Ok(()), |column| check(column, *method, relation))?;
            let length_max = column.and_then(Column::length_max);
            masks.push(Mask {
                read,
                write,
                method: *method,
                length_max,
            });
        }
        if masks.is_empty() {
            return Ok(Projection::pass_by());
        }
        Ok(selection.with(masks))
    }

    fn transform(&mut self, row: &Row, masks: &Vec<Mask>, patch: &mut Patch) -> Result<()> {
        for mask in masks {
            match row.value(mask.read)? {
                Value::Text(text) => {
                    mask::apply(mask.method, &self.salt, text, mask.length_max, |masked| {
                        patch.set(mask.write, masked)
                    })?;
                }
                // Nothing is there that could leak, and nothing that could be masked.
                Value::Null | Value::Unchanged | Value::Absent => {}
                _ => return Err(Error::new("a masked column holds something else than text").with_code("type")),
            }
        }
        Ok(())
    }
}

/// The column that an entry of `columns` means in this table; `None` where it means another table.
fn column_of<'n>(name: &'n str, relation: &Relation) -> Option<&'n str> {
    let Some((table, column)) = name.rsplit_once('.') else {
        return Some(name);
    };
    let (schema, table) = match table.split_once('.') {
        Some((schema, table)) => (Some(schema), table),
        None => (None, table),
    };
    let is_meant = table == relation.table && schema.is_none_or(|schema| schema == relation.schema);
    is_meant.then_some(column)
}

/// Refuses what would break at the target, while it can be said of the table and not of a row.
fn check(column: &Column, method: Method, relation: &Relation) -> Result<()> {
    let Relation { schema, table, .. } = relation;
    let name = format!("{schema}.{table}.{}", column.name);
    if !matches!(column.type_oid, types::TEXT | types::VARCHAR | types::BPCHAR) && column.type_name != "citext" {
        return Err(Error::new(format!(
            "column {name} is of type {}: only text can be masked",
            column.type_name
        )));
    }
    if column.key && method != Method::Hash {
        return Err(Error::new(format!(
            "column {name} is part of the key: only `hash` keeps its rows apart"
        )));
    }
    match column.length_max() {
        Some(max) if method == Method::Hash && max < HASH_LEN => Err(Error::new(format!(
            "column {name} holds {max} characters, a hash has {HASH_LEN}"
        ))),
        _ => Ok(()),
    }
}
