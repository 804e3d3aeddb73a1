//! Rows for tests.

use crate::relation::{Column, Relation, types};
use crate::row::{Image, Op};
use crate::value::{ToValue, Value};
use rowmill_abi::Writer;

/// A value that a test owns.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Unchanged,
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
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
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The table that it is of, in the schema `public`; `None` for the one that the test has given, or `sample`.
    pub table: Option<String>,
    pub op: Op,
    pub image: Image,
    /// Names and values in the order of the table's columns.
    pub cells: Vec<(String, Cell)>,
}

/// The new image of an inserted row: `row! { id: 1, email: "a@example.org", note: None::<&str> }`.
#[macro_export]
macro_rules! row {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::testing::Sample::inserted([
            $((stringify!($name), $crate::testing::Cell::from($value))),*
        ])
    };
}

impl Sample {
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
    #[must_use]
    pub fn of(self, table: &str) -> Self {
        Self {
            table: Some(table.to_owned()),
            ..self
        }
    }

    /// The new image of an update.
    #[must_use]
    pub fn updated(self) -> Self {
        Self { op: Op::Update, ..self }
    }

    /// The old image of an update or delete, with all columns.
    #[must_use]
    pub fn old(self, op: Op) -> Self {
        Self {
            op,
            image: Image::Old,
            ..self
        }
    }

    /// The old image of an update or delete, with the columns of the key only.
    #[must_use]
    pub fn old_key(self, op: Op) -> Self {
        Self {
            op,
            image: Image::OldKey,
            ..self
        }
    }

    /// The value of a column; absent where there is no such column.
    pub fn get(&self, column: &str) -> &Cell {
        self.cells
            .iter()
            .find(|(name, _)| name == column)
            .map_or(&Cell::Absent, |(_, cell)| cell)
    }

    /// The text of a column, where it has one.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.get(column) {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A table for tests where the types that follow from the values won't do.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) relation: Relation,
}

impl Table {
    /// A table without columns in the schema `public`.
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
