//! A table as it was when its rows were written.

use std::sync::atomic::{AtomicU32, Ordering};

/// What the server logs of the old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    Default,
    Nothing,
    Full,
    Index,
}

impl ReplicaIdentity {
    /// From `pg_class.relreplident` and pgoutput's Relation message: `d`, `n`, `f`, `i`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'd' => Some(Self::Default),
            b'n' => Some(Self::Nothing),
            b'f' => Some(Self::Full),
            b'i' => Some(Self::Index),
            _ => None,
        }
    }

    pub const fn as_char(self) -> char {
        match self {
            Self::Default => 'd',
            Self::Nothing => 'n',
            Self::Full => 'f',
            Self::Index => 'i',
        }
    }
}

/// A column. Where it stands in `Relation::columns` is what plugins and sinks count by; where its value lies in a
/// tuple is its `slot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
    /// As `format_type` writes it without the modifier, e.g. `integer`; a type unknown to the decoder is `oid:N`.
    pub type_name: String,
    /// From the catalog, later than the rows; `true` where it isn't known.
    pub nullable: bool,
    /// Whether it is part of the replica identity.
    pub key: bool,
    /// Which cell of a tuple holds its value.
    pub slot: u16,
}

/// One version of a table, or of what a route or plugin has made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The number of this version in this process. Two relations with the same index are the same.
    pub index: u32,
    /// The table's versions counted from 1, as far as this process has seen them.
    pub version: u32,
    /// The table's OID at the source.
    pub oid: u32,
    pub schema: String,
    pub table: String,
    pub replica_identity: ReplicaIdentity,
    pub columns: Vec<Column>,
    /// How many cells a tuple of it has; at least one more than the highest slot.
    pub slots: u16,
}

impl Relation {
    /// A number that no other relation of this process has.
    pub fn next_index() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The columns that identify a row, in column order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.key)
    }

    /// `schema.table`, for people; not quoted.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}
