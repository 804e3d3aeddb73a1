//! What a plugin wants of a table: decided once per version of the table, so that rows need no names.

use crate::relation::{Column, Relation};
use crate::{Error, Result};
use rowmill_abi::{Writer, images, reply, schema_action};

/// A column that rows carry, known by its place among those read.
///
/// ```
/// use rowmill_plugin::{ReadColumn, Result, Row};
///
/// /// What a plugin keeps of a table.
/// struct Columns {
///     total: ReadColumn,
/// }
///
/// fn is_large(row: &Row, columns: &Columns) -> Result<bool> {
///     Ok(row.int(columns.total)? >= Some(100))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadColumn(pub(crate) u16);

impl ReadColumn {
    /// For the macros, which know the places.
    #[doc(hidden)]
    pub const fn at(position: u16) -> Self {
        Self(position)
    }
}

/// A column that patches may set, known by its place among those written.
///
/// ```
/// use rowmill_plugin::{Patch, WriteColumn};
///
/// /// What a plugin keeps of a table.
/// struct Columns {
///     email: WriteColumn,
/// }
///
/// fn hide(patch: &mut Patch, columns: &Columns) {
///     patch.set(columns.email, "***");
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteColumn(pub(crate) u16);

impl WriteColumn {
    /// For the macros, which know the places.
    #[doc(hidden)]
    pub const fn at(position: u16) -> Self {
        Self(position)
    }
}

/// Columns by index and name, as rows and patches need them.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub(crate) index: u16,
    pub name: String,
}

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

/// What a plugin has chosen of a table so far.
///
/// ```
/// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
/// fn schema(relation: &Relation) -> Result<Projection<()>> {
///     let mut selection = Selection::of(relation);
///     selection.read("status")?;
///     selection.write("status")?;
///     Ok(selection.with(()))
/// }
/// ```
#[derive(Debug)]
pub struct Selection<'r> {
    relation: &'r Relation,
    read: Vec<Named>,
    writes: Vec<Named>,
    images: u8,
    outputs: Vec<Output>,
}

impl<'r> Selection<'r> {
    /// Nothing yet: rows come without values.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     // The rows are counted, whatever is in them.
    ///     Ok(Selection::of(relation).with(()))
    /// }
    /// ```
    pub fn of(relation: &'r Relation) -> Self {
        Self {
            relation,
            read: Vec::new(),
            writes: Vec::new(),
            images: images::ANY,
            outputs: Vec::new(),
        }
    }

    /// Has rows carry this column. The same column twice is the same column.
    ///
    /// An error, which refuses the table, where it has no such column.
    ///
    /// ```
    /// # use rowmill_plugin::{Projection, ReadColumn, Relation, Result, Selection};
    /// fn schema(relation: &Relation) -> Result<Projection<ReadColumn>> {
    ///     let mut selection = Selection::of(relation);
    ///     let status = selection.read("status")?;
    ///     Ok(selection.with(status))
    /// }
    /// ```
    pub fn read(&mut self, column: &str) -> Result<ReadColumn> {
        if let Some(at) = self.read.iter().position(|known| known.name == column) {
            return Ok(ReadColumn(at as u16));
        }
        let Some(index) = self.relation.column_index(column) else {
            return Err(self.lacks(column));
        };
        self.read.push(Named {
            index: index as u16,
            name: column.to_owned(),
        });
        Ok(ReadColumn((self.read.len() - 1) as u16))
    }

    /// Lets patches set this column, of the first [`Output`] where the shape changes: declare that one first.
    ///
    /// An error, which refuses the table, where there is no such column.
    ///
    /// ```
    /// # use rowmill_plugin::{Projection, Relation, Result, Selection, WriteColumn};
    /// fn schema(relation: &Relation) -> Result<Projection<WriteColumn>> {
    ///     let mut selection = Selection::of(relation);
    ///     let email = selection.write("email")?;
    ///     Ok(selection.with(email))
    /// }
    /// ```
    pub fn write(&mut self, column: &str) -> Result<WriteColumn> {
        if let Some(at) = self.writes.iter().position(|known| known.name == column) {
            return Ok(WriteColumn(at as u16));
        }
        let index = match self.outputs.first() {
            Some(output) => output.columns.iter().position(|known| known.name == column),
            None => self.relation.column_index(column),
        };
        let Some(index) = index else {
            return Err(self.lacks(column));
        };
        self.writes.push(Named {
            index: index as u16,
            name: column.to_owned(),
        });
        Ok(WriteColumn((self.writes.len() - 1) as u16))
    }

    /// Demands whole old rows: `rowmill check` then asks for REPLICA IDENTITY FULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     let mut selection = Selection::of(relation);
    ///     selection.read("status")?;
    ///     selection.need_full_old_images();
    ///     Ok(selection.with(()))
    /// }
    /// ```
    pub fn need_full_old_images(&mut self) {
        self.images = images::FULL_OLD;
    }

    /// Declares a shape that rows leave in; the first is the one that rows have unless they are replaced.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     let mut renamed = Output::like(relation);
    ///     renamed.schema = "archive".to_owned();
    ///     let mut selection = Selection::of(relation);
    ///     selection.output(renamed);
    ///     Ok(selection.with(()))
    /// }
    /// ```
    pub fn output(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// The choice is made; `table` is handed to the plugin with each row of this table.
    ///
    /// ```
    /// # use rowmill_plugin::{Projection, ReadColumn, Relation, Result, Selection};
    /// /// All columns of a table.
    /// fn schema(relation: &Relation) -> Result<Projection<Vec<ReadColumn>>> {
    ///     let mut selection = Selection::of(relation);
    ///     let columns = relation.columns.iter().map(|column| selection.read(&column.name));
    ///     let columns = columns.collect::<Result<_>>()?;
    ///     Ok(selection.with(columns))
    /// }
    /// ```
    pub fn with<T>(self, table: T) -> Projection<T> {
        Projection(Choice::Use {
            read: self.read,
            writes: self.writes,
            images: self.images,
            outputs: self.outputs,
            table,
        })
    }

    fn lacks(&self, column: &str) -> Error {
        let Relation { schema, table, .. } = self.relation;
        Error::new(format!("table {schema}.{table} has no column {column}"))
    }
}

/// What is to become of a table.
///
/// ```
/// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
/// fn schema(relation: &Relation) -> Result<Projection<()>> {
///     match relation.table.as_str() {
///         "audit" => Ok(Projection::pass_by()),
///         "secrets" => Ok(Projection::drop_table()),
///         _ => Ok(Selection::of(relation).with(())),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Projection<T>(pub(crate) Choice<T>);

#[derive(Debug)]
pub(crate) enum Choice<T> {
    Use {
        read: Vec<Named>,
        writes: Vec<Named>,
        images: u8,
        outputs: Vec<Output>,
        table: T,
    },
    PassBy,
    Drop,
}

impl<T> Projection<T> {
    /// The plugin has no business with this table: its rows go on as they are.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     if relation.column("email").is_none() {
    ///         return Ok(Projection::pass_by());
    ///     }
    ///     Ok(Selection::of(relation).with(()))
    /// }
    /// ```
    pub fn pass_by() -> Self {
        Self(Choice::PassBy)
    }

    /// No row of this table goes on.
    ///
    /// ```
    /// # use rowmill_plugin::{Output, Projection, Relation, Result, Selection, types};
    /// fn schema(relation: &Relation) -> Result<Projection<()>> {
    ///     if relation.schema == "internal" {
    ///         return Ok(Projection::drop_table());
    ///     }
    ///     Ok(Selection::of(relation).with(()))
    /// }
    /// ```
    pub fn drop_table() -> Self {
        Self(Choice::Drop)
    }

    /// The reply to `rowmill_schema`.
    pub(crate) fn encode(&self, out: &mut Writer) {
        let Choice::Use {
            read,
            writes,
            images,
            outputs,
            ..
        } = &self.0
        else {
            let passes = matches!(self.0, Choice::PassBy);
            out.array(2);
            out.uint(reply::DONE.into());
            out.uint(u64::from(if passes {
                schema_action::PASS_BY
            } else {
                schema_action::DROP
            }));
            return;
        };
        out.array(6);
        out.uint(reply::DONE.into());
        out.uint(schema_action::USE.into());
        for columns in [read, writes] {
            out.array(columns.len());
            columns.iter().for_each(|column| out.uint(column.index.into()));
        }
        out.uint((*images).into());
        if outputs.is_empty() {
            return out.nil();
        }
        out.array(outputs.len());
        for output in outputs {
            encode_output(output, out);
        }
    }
}

fn encode_output(output: &Output, out: &mut Writer) {
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
