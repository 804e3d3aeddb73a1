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

/// The key columns by name: keys of different shapes can't be compared.
pub(super) fn shape<'a>(names: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    for name in names {
        hasher.write(name.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

pub(super) fn shape_of(relation: &Relation) -> u64 {
    shape(relation.key_columns().map(|column| column.name.as_str()))
}

/// Appends the key of an image. `false` where a key value is in neither image.
pub(super) fn write<'a>(key: impl Iterator<Item = (Value<'a>, Value<'a>)>, out: &mut Vec<u8>) -> bool {
    out.clear();
    for (value, other) in key {
        // An unchanged value is what it was.
        let value = match value {
            Value::Unchanged | Value::Absent => other,
            value => value,
        };
        let (tag, bytes): (u8, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Text(text) => (1, text),
            Value::Binary(bytes) => (2, bytes),
            Value::Unchanged | Value::Absent => return false,
        };
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    true
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
