//! What is the same for every row of a relation.

use super::text;
use crate::batch::{Column, Relation};

// OIDs of built-in types never change: src/include/catalog/pg_type.dat.
const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const OID: u32 = 26;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const JSONB: u32 = 3802;

/// How a type's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Number,
    Json,
    /// A string, whose value may come in binary form.
    Bytea,
    String,
}

impl Form {
    fn of(type_oid: u32) -> Self {
        match type_oid {
            BOOL => Self::Bool,
            INT2 | INT4 | INT8 | OID | FLOAT4 | FLOAT8 => Self::Number,
            JSON | JSONB => Self::Json,
            BYTEA => Self::Bytea,
            _ => Self::String,
        }
    }

    /// Appends a value. What isn't what its type says, such as a word that a plugin put into a number's column, is
    /// written as a string: the line stays valid.
    #[inline]
    pub(super) fn push(self, out: &mut Vec<u8>, value: &[u8]) {
        match self {
            Self::Number if text::is_number(value) => out.extend_from_slice(value),
            Self::Bool if value == b"t" => out.extend_from_slice(b"true"),
            Self::Bool if value == b"f" => out.extend_from_slice(b"false"),
            Self::Json if text::is_json(value) => text::push_json(out, value),
            _ => text::push_string(out, value),
        }
    }

    /// Whether a value is JSON's own null.
    #[inline]
    pub(super) fn is_null(self, value: &[u8]) -> bool {
        self == Self::Json && value.trim_ascii() == b"null"
    }
}

#[derive(Debug)]
pub(super) struct ColumnShape {
    /// `"name":`, escaped.
    pub(super) name: Vec<u8>,
    pub(super) form: Form,
    pub(super) slot: u16,
}

#[derive(Debug)]
pub(super) struct Shape {
    /// `,"schema":"public","table":"orders"`
    pub(super) names: Vec<u8>,
    pub(super) columns: Vec<ColumnShape>,
}

impl Shape {
    pub(super) fn new(relation: &Relation) -> Self {
        let mut names = b",\"schema\":".to_vec();
        text::push_string(&mut names, relation.schema.as_bytes());
        names.extend_from_slice(b",\"table\":");
        text::push_string(&mut names, relation.table.as_bytes());
        let column = |column: &Column| {
            let mut name = Vec::with_capacity(column.name.len() + 3);
            text::push_string(&mut name, column.name.as_bytes());
            name.push(b':');
            ColumnShape {
                name,
                form: Form::of(column.type_oid),
                slot: column.slot,
            }
        };
        let columns = relation.columns.iter().map(column).collect();
        Self { names, columns }
    }
}
