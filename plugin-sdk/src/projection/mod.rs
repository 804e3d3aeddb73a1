//! What a plugin wants of a table: decided once per version of the table, so that rows need no names.

mod output;

pub use output::{Output, OutputColumn};

use crate::relation::Relation;
use crate::{Error, Result};
use output::encode_output;
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

    /// Lets patches set this column, of the first [`Output`] where the shape changes: declare that one first, or columns that
    /// it adds aren't known yet.
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
            Some(output) => output.column_index(column),
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
    /// # Panics
    ///
    /// Where the first one lacks a column that was to be [written](Self::write) before. Declare it first: then that is an error.
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
    #[track_caller]
    pub fn output(&mut self, output: Output) {
        if self.outputs.is_empty() {
            // They were sought in the table, where they may stand elsewhere.
            for column in &mut self.writes {
                match output.column_index(&column.name) {
                    Some(index) => column.index = index as u16,
                    // No error, which every module would have to carry through its reply, and most have no output.
                    None => panic!("an output has no column {}, which is to be written", column.name),
                }
            }
        }
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
