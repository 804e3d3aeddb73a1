//! The key of a change as bytes that compare exactly, and by which of them it is blocked.

use crate::batch::{Batch, Relation, Row, Value};
use std::hash::Hasher;

/// What a change's order depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// The old key, the new one, or both where they differ.
    pub own: Vec<Box<[u8]>>,
    /// Some key value wasn't sent: it may be any row of the table.
    pub wild: bool,
}

/// The types whose values print alike, by the OID of the first: a column that is widened has the same keys.
const INT2: u32 = 21;
const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

/// Of the key columns, name and type: keys of different shapes can't be compared. Altered from `numeric(9, 1)` to
/// `numeric(9, 2)`, the row of the key `1.0` is that of `1.00`.
fn shape<'a>(columns: impl Iterator<Item = (&'a str, u32, i32)>) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    for (name, type_oid, typmod) in columns {
        let (type_oid, typmod) = match type_oid {
            INT2 | INT4 | INT8 => (INT8, -1),
            TEXT | VARCHAR => (TEXT, -1),
            other => (other, typmod),
        };
        hasher.write(name.as_bytes());
        hasher.write_u8(0xff);
        hasher.write_u32(type_oid);
        hasher.write_i32(typmod);
    }
    hasher.finish()
}

pub(super) fn shape_of(relation: &Relation) -> u64 {
    let columns = relation.key_columns();
    shape(columns.map(|column| (column.name.as_str(), column.type_oid, column.typmod)))
}

pub(super) fn shape_of_letter(table: &super::Table) -> u64 {
    let columns = table.columns.iter().filter(|column| column.key);
    shape(columns.map(|column| (column.name.as_str(), column.type_oid, column.typmod)))
}

/// Writes the key of an image. Values are as the server's text has them: in which form they are received is a setting, and
/// a letter may be of a time when it was another. `false` where a key value is in neither image.
pub(super) fn write<'a>(key: impl Iterator<Item = (Value<'a>, Value<'a>)>, out: &mut Vec<u8>) -> bool {
    out.clear();
    for (value, other) in key {
        // An unchanged value is what it was.
        let value = match value {
            Value::Unchanged | Value::Absent => other,
            value => value,
        };
        let (tag, len) = match value {
            Value::Null => (0, 0),
            Value::Text(text) => (1, text.len()),
            Value::Binary(bytes) => (1, text_len(bytes)),
            Value::Unchanged | Value::Absent => return false,
        };
        out.push(tag);
        out.extend_from_slice(&(len as u64).to_le_bytes());
        match value {
            Value::Text(text) => out.extend_from_slice(text),
            Value::Binary(bytes) => out.extend(text_of(bytes)),
            _ => {}
        }
    }
    true
}

const PREFIX: &[u8] = b"\\x";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// What stays in binary form is `bytea` (`decode/binary`).
pub(super) fn text_of(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| HEX[usize::from(digit)]);
    PREFIX.iter().copied().chain(digits)
}

fn text_len(bytes: &[u8]) -> usize {
    PREFIX.len() + 2 * bytes.len()
}

/// Calls `with` for each key of a row, and tells whether all of them are known. A table without a key has none: its
/// rows have no order to keep.
pub(super) fn each(batch: &Batch, row: &Row, scratch: &mut Vec<u8>, mut with: impl FnMut(&[u8])) -> bool {
    let relation = batch.relation(row);
    if relation.key_columns().next().is_none() {
        return true;
    }
    let mut known = true;
    for (image, other) in [(row.old, row.new), (row.new, row.old)] {
        let Some(image) = image else { continue };
        let values = relation.key_columns().map(|column| {
            let other = other.map_or(Value::Absent, |other| batch.value(other, column.slot));
            (batch.value(image, column.slot), other)
        });
        if write(values, scratch) {
            with(scratch);
        } else {
            known = false;
        }
    }
    known
}

impl Keys {
    pub(super) fn of_letter(letter: &super::Letter) -> Self {
        let mut keys = Self::default();
        let columns: Vec<usize> = (0..letter.table.columns.len())
            .filter(|at| letter.table.columns[*at].key)
            .collect();
        if columns.is_empty() {
            return keys;
        }
        let mut scratch = Vec::new();
        for (image, other) in [(&letter.old, &letter.new), (&letter.new, &letter.old)] {
            if image.is_none() {
                continue;
            }
            let values = columns.iter().map(|at| (value_of(image, *at), value_of(other, *at)));
            if !write(values, &mut scratch) {
                keys.wild = true;
            } else if !keys.own.iter().any(|known| **known == *scratch) {
                keys.own.push(scratch.as_slice().into());
            }
        }
        keys
    }
}

fn value_of(image: &Option<super::Image>, at: usize) -> Value<'_> {
    let value = image.as_ref().and_then(|image| image.get(at));
    value.map_or(Value::Absent, super::Owned::as_value)
}
