//! The shape that rows leave in.

use crate::relation::{Column, Relation};
use crate::{Error, Result};
use rowmill_abi::Writer;

/// A shape that rows leave in, where it isn't the table's own.
///
/// Columns that keep name and type keep their values without being read or written.
///
/// ```
/// use rowmill_plugin::{Output, Projection, Relation, Result, Selection};
///
/// /// Renames a table.
/// fn schema(relation: &Relation) -> Result<Projection<()>> {
///     let mut output = Output::like(relation);
///     output.table = format!("{}_archive", output.table);
///     let mut selection = Selection::of(relation);
///     selection.output(output);
///     Ok(selection.with(()))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// E.g. `public`.
    pub schema: String,
    /// Its name in that schema.
    pub table: String,
    /// In order; values of [`Patch::replace`](crate::Patch::replace) stand in it.
    pub columns: Vec<OutputColumn>,
}

/// A column of an [`Output`].
///
/// ```
/// use rowmill_plugin::{OutputColumn, types};
///
/// let column = OutputColumn {
///     name: "total".to_owned(),
///     type_oid: types::NUMERIC,
///     type_name: "numeric".to_owned(),
///     key: false,
/// };
/// assert_eq!(column.type_name, "numeric");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// As in the table, where it shall keep its values.
    pub name: String,
    /// See [`types`](crate::types).
    pub type_oid: u32,
    /// As Postgres writes it without a modifier, e.g. `bigint`.
    pub type_name: String,
    /// Whether it is part of what identifies a row.
    pub key: bool,
}

impl Output {
    pub(super) fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The table's own shape, to be changed.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     let mut output = Output::like(relation);
    ///     output.columns.retain(|column| column.name != "password");
    ///     let mut selection = Selection::of(relation);
    ///     selection.output(output);
    ///     Ok(selection.with(()))
    /// }
    /// ```
    pub fn like(relation: &Relation) -> Self {
        let own = |column: &Column| OutputColumn {
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_name: column.type_name.clone(),
            key: column.key,
        };
        Self {
            schema: relation.schema.clone(),
            table: relation.table.clone(),
            columns: relation.columns.iter().map(own).collect(),
        }
    }

    /// Adds a column at the end; an error where there is one of that name.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     let mut output = Output::like(relation);
    ///     output.add("origin", types::TEXT, "text")?;
    ///     let mut selection = Selection::of(relation);
    ///     selection.output(output);
    ///     Ok(selection.with(()))
    /// }
    /// ```
    pub fn add(&mut self, name: &str, type_oid: u32, type_name: &str) -> Result<()> {
        if self.columns.iter().any(|column| column.name == name) {
            return Err(Error::new(format!(
                "{}.{} has a column {name} already",
                self.schema, self.table
            )));
        }
        self.columns.push(OutputColumn {
            name: name.to_owned(),
            type_oid,
            type_name: type_name.to_owned(),
            key: false,
        });
        Ok(())
    }
}

pub(super) fn encode_output(output: &Output, out: &mut Writer) {
    out.array(3);
    out.str(&output.schema);
    out.str(&output.table);
    out.array(output.columns.len());
    for column in &output.columns {
        out.array(4);
        out.str(&column.name);
        out.uint(column.type_oid.into());
        out.str(&column.type_name);
        out.bool(column.key);
    }
}
