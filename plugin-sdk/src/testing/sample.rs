//! Rows for tests.

use crate::relation::{Column, Relation, types};
use crate::row::{Image, Op};
use crate::value::{ToValue, Value};
use rowmill_abi::Writer;

/// A value that a test owns.
///
/// ```
/// use rowmill_plugin::testing::Cell;
/// use rowmill_plugin::row;
///
/// let sample = row! { id: 1, note: Cell::Unchanged, email: None::<&str> };
/// assert_eq!(sample.get("id"), &Cell::Int(1));
/// assert_eq!(sample.get("email"), &Cell::Null);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// TOAST that the change left alone and the server didn't send.
    Unchanged,
    /// Not part of the image.
    Absent,
    /// A boolean.
    Bool(bool),
    /// A smallint, integer or bigint.
    Int(i64),
    /// A real or double precision.
    Float(f64),
    /// A text, or Postgres' text of a value of another type.
    Text(String),
    /// A bytea.
    Bytes(Vec<u8>),
}

impl Cell {
    pub(super) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Unchanged => Self::Unchanged,
            Value::Absent => Self::Absent,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value),
            Value::Real(value) => Self::Float(value.into()),
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_owned()),
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        match self {
            Self::Null => Value::Null,
            Self::Unchanged => Value::Unchanged,
            Self::Absent => Value::Absent,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
        .write(out);
    }

    /// The type that a value of this kind has unless the table says otherwise; any, where there is no value.
    fn type_oid(&self) -> Option<u32> {
        match self {
            Self::Null | Self::Unchanged | Self::Absent => None,
            Self::Bool(_) => Some(types::BOOL),
            Self::Int(_) => Some(types::INT8),
            Self::Float(_) => Some(types::FLOAT8),
            Self::Text(_) => Some(types::TEXT),
            Self::Bytes(_) => Some(types::BYTEA),
        }
    }
}

macro_rules! cell_from {
    ($($type:ty => |$value:ident| $cell:expr;)*) => {$(
        impl From<$type> for Cell {
            fn from($value: $type) -> Self {
                $cell
            }
        }
    )*};
}

cell_from! {
    bool => |value| Self::Bool(value);
    i32 => |value| Self::Int(value.into());
    i64 => |value| Self::Int(value);
    f64 => |value| Self::Float(value);
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    &[u8] => |value| Self::Bytes(value.to_owned());
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One image of a row. [`row!`](crate::row!) makes one.
///
/// ```
/// use rowmill_plugin::{Image, Op, row};
///
/// let sample = row! { id: 1, status: "paid" }.updated();
/// assert_eq!((sample.op, sample.image), (Op::Update, Image::New));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The table that it is of, in the schema `public`; `None` for the one that the test has given, or `sample`.
    pub table: Option<String>,
    /// What the change does to the row.
    pub op: Op,
    /// Which state of the row this is.
    pub image: Image,
    /// Names and values in the order of the table's columns.
    pub cells: Vec<(String, Cell)>,
}

/// The new image of an inserted row: `row! { id: 1, email: "a@example.org", note: None::<&str> }`.
///
/// ```
/// let sample = rowmill_plugin::row! { id: 1, email: "ada@example.org", note: None::<&str> };
/// assert_eq!(sample.text("email"), Some("ada@example.org"));
/// ```
#[macro_export]
macro_rules! row {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::testing::Sample::inserted([
            $((stringify!($name), $crate::testing::Cell::from($value))),*
        ])
    };
}

impl Sample {
    /// The new image of an inserted row, for names that [`row!`](crate::row!) can't write.
    ///
    /// ```
    /// use rowmill_plugin::testing::{Cell, Sample};
    ///
    /// let sample = Sample::inserted([("first name", Cell::from("Ada"))]);
    /// assert_eq!(sample.text("first name"), Some("Ada"));
    /// ```
    pub fn inserted<'n>(cells: impl IntoIterator<Item = (&'n str, Cell)>) -> Self {
        let cells = cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect();
        Self {
            table: None,
            op: Op::Insert,
            image: Image::New,
            cells,
        }
    }

    /// The same row, of this table in the schema `public`.
    ///
    /// ```
    /// use rowmill_plugin::row;
    ///
    /// assert_eq!(row! { id: 1 }.of("orders").table.as_deref(), Some("orders"));
    /// ```
    #[must_use]
    pub fn of(self, table: &str) -> Self {
        Self {
            table: Some(table.to_owned()),
            ..self
        }
    }

    /// The new image of an update.
    ///
    /// ```
    /// use rowmill_plugin::{Op, row};
    ///
    /// assert_eq!(row! { id: 1 }.updated().op, Op::Update);
    /// ```
    #[must_use]
    pub fn updated(self) -> Self {
        Self { op: Op::Update, ..self }
    }

    /// The old image of an update or delete, with all columns.
    ///
    /// ```
    /// use rowmill_plugin::{Image, Op, row};
    ///
    /// assert_eq!(row! { id: 1 }.old(Op::Delete).image, Image::Old);
    /// ```
    #[must_use]
    pub fn old(self, op: Op) -> Self {
        Self {
            op,
            image: Image::Old,
            ..self
        }
    }

    /// The old image of an update or delete, with the columns of the key only.
    ///
    /// ```
    /// use rowmill_plugin::testing::Cell;
    /// use rowmill_plugin::{Image, Op, row};
    ///
    /// let sample = row! { id: 1, email: Cell::Absent }.old_key(Op::Delete);
    /// assert_eq!(sample.image, Image::OldKey);
    /// ```
    #[must_use]
    pub fn old_key(self, op: Op) -> Self {
        Self {
            op,
            image: Image::OldKey,
            ..self
        }
    }

    /// The value of a column; absent where there is no such column.
    ///
    /// ```
    /// use rowmill_plugin::testing::Cell;
    /// use rowmill_plugin::row;
    ///
    /// assert_eq!(row! { id: 1 }.get("id"), &Cell::Int(1));
    /// assert_eq!(row! { id: 1 }.get("email"), &Cell::Absent);
    /// ```
    pub fn get(&self, column: &str) -> &Cell {
        self.cells
            .iter()
            .find(|(name, _)| name == column)
            .map_or(&Cell::Absent, |(_, cell)| cell)
    }

    /// The text of a column, where it has one.
    ///
    /// ```
    /// use rowmill_plugin::row;
    ///
    /// assert_eq!(row! { email: "ada@example.org" }.text("email"), Some("ada@example.org"));
    /// ```
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.get(column) {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A table for tests where the types that follow from the values won't do.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::testing::{self, Table};
/// use rowmill_plugin::{row, types};
///
/// #[filter(read(total))]
/// fn large(row: &Row) -> Result<bool> {
///     Ok(row.numeric("total")?.is_some_and(|total| total.to_f64() >= 100.0))
/// }
///
/// let orders = Table::new("orders").key("id", types::INT8).column("total", types::NUMERIC);
/// let mut plugin = testing::filter::<large>().with_table(orders).unwrap();
/// assert_eq!(plugin.matches(row! { id: 1, total: "250.00" }), Ok(true));
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) relation: Relation,
}

impl Table {
    /// A table without columns in the schema `public`.
    ///
    /// ```
    /// use rowmill_plugin::testing::Table;
    ///
    /// let table = Table::new("orders");
    /// ```
    pub fn new(table: &str) -> Self {
        Self {
            relation: Relation {
                index: 0,
                version: 1,
                schema: "public".to_owned(),
                table: table.to_owned(),
                replica_identity: 'd',
                columns: Vec::new(),
            },
        }
    }

    /// The table that a sample could be of: `public.sample`, unless it says otherwise.
    pub(super) fn of(sample: &Sample) -> Self {
        let name = sample.table.as_deref().unwrap_or("sample");
        sample.cells.iter().fold(Self::new(name), |table, (name, cell)| {
            table.column(name, cell.type_oid().unwrap_or(types::TEXT))
        })
    }

    /// Adds a nullable column outside of the key.
    ///
    /// ```
    /// use rowmill_plugin::testing::Table;
    /// use rowmill_plugin::types;
    ///
    /// let table = Table::new("orders").column("total", types::NUMERIC);
    /// ```
    #[must_use]
    pub fn column(self, name: &str, type_oid: u32) -> Self {
        self.with(Column {
            name: name.to_owned(),
            type_oid,
            typmod: -1,
            type_name: format!("oid:{type_oid}"),
            nullable: true,
            key: false,
        })
    }

    /// Adds a column of the key.
    ///
    /// ```
    /// use rowmill_plugin::testing::Table;
    /// use rowmill_plugin::types;
    ///
    /// let table = Table::new("orders").key("id", types::INT8);
    /// ```
    #[must_use]
    pub fn key(self, name: &str, type_oid: u32) -> Self {
        let mut table = self.column(name, type_oid);
        if let Some(column) = table.relation.columns.last_mut() {
            column.key = true;
            column.nullable = false;
        }
        table
    }

    /// Adds a column that is wholly described.
    ///
    /// ```
    /// use rowmill_plugin::testing::Table;
    /// use rowmill_plugin::{Column, types};
    ///
    /// let table = Table::new("orders").with(Column {
    ///     name: "phone".to_owned(),
    ///     type_oid: types::VARCHAR,
    ///     typmod: 24,
    ///     type_name: "character varying".to_owned(),
    ///     nullable: false,
    ///     key: false,
    /// });
    /// ```
    #[must_use]
    pub fn with(mut self, column: Column) -> Self {
        self.relation.columns.push(column);
        self
    }

    /// Whether a sample could be of this table.
    pub(super) fn fits(&self, sample: &Sample) -> bool {
        self.relation.table == sample.table.as_deref().unwrap_or("sample")
            && self.relation.columns.len() == sample.cells.len()
            && self
                .relation
                .columns
                .iter()
                .zip(&sample.cells)
                .all(|(column, (name, cell))| {
                    column.name == *name && cell.type_oid().is_none_or(|oid| oid == column.type_oid)
                })
    }
}
