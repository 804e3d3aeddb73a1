//! A row as one JSON object, for targets that keep images in a column of type `jsonb`.

use super::shape::{Form, Shape};
use super::{EncodeError, SHAPES_MAX, text};
use crate::batch::{Batch, Relation, Tuple, Value};
use rustc_hash::FxHashMap;

/// What `jsonb` takes in no string.
const NUL: &[u8] = b"\\u0000";

/// Writes images; kept between rows for the shapes of their relations.
#[derive(Debug, Default)]
pub(in crate::sink) struct Images {
    shapes: FxHashMap<u32, Shape>,
}

impl Images {
    /// Appends the object of `tuple`. A value that the change left alone is taken from `other`; where neither has it, it
    /// is left out: that isn't NULL. `{}` where there is no tuple.
    pub(in crate::sink) fn push(
        &mut self,
        batch: &Batch,
        relation: &Relation,
        tuple: Option<Tuple>,
        other: Option<Tuple>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        out.push(b'{');
        if let Some(tuple) = tuple {
            for column in &self.shape(relation).columns {
                let value = match (batch.value(tuple, column.slot), other) {
                    (Value::Unchanged, Some(other)) => batch.value(other, column.slot),
                    (value, _) => value,
                };
                if matches!(value, Value::Absent | Value::Unchanged) {
                    continue;
                }
                if out.len() > start + 1 {
                    out.push(b',');
                }
                out.extend_from_slice(&column.name);
                push_value(column.form, value, out)?;
            }
        }
        out.push(b'}');
        is_utf8(&out[start..])
    }

    /// Appends the values of some columns, by their slots, as an array.
    pub(in crate::sink) fn push_array(
        &mut self,
        batch: &Batch,
        relation: &Relation,
        tuple: Tuple,
        slots: &[u16],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        out.push(b'[');
        let columns = &self.shape(relation).columns;
        for (at, slot) in slots.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let form = columns.iter().find(|column| column.slot == *slot);
            push_value(
                form.map_or(Form::String, |column| column.form),
                batch.value(tuple, *slot),
                out,
            )?;
        }
        out.push(b']');
        is_utf8(&out[start..])
    }

    fn shape(&mut self, relation: &Relation) -> &Shape {
        if self.shapes.len() > SHAPES_MAX {
            self.shapes.clear();
        }
        self.shapes
            .entry(relation.index)
            .or_insert_with(|| Shape::new(relation))
    }
}

fn push_value(form: Form, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Value::Binary(bytes) if form == Form::Bytea => text::push_bytea(out, bytes),
        Value::Binary(_) => return Err(EncodeError::Binary),
        Value::Text(value) if form == Form::Json && memchr::memmem::find(value, NUL).is_some() => {
            text::push_string(out, value);
        }
        Value::Text(value) => form.push(out, value),
        Value::Null | Value::Absent | Value::Unchanged => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn is_utf8(json: &[u8]) -> Result<(), EncodeError> {
    std::str::from_utf8(json).map(|_| ()).map_err(|_| EncodeError::NotUtf8)
}

/// Appends what an application said of a transaction, as an object: `{}` for JSON's null, and what is no object under
/// the name `_raw`, as it came.
pub(in crate::sink) fn push_context(content: &[u8], out: &mut Vec<u8>) {
    let trimmed = content.trim_ascii();
    let clean = std::str::from_utf8(trimmed).is_ok() && memchr::memmem::find(trimmed, NUL).is_none();
    if trimmed == b"null" {
        out.extend_from_slice(b"{}");
    } else if trimmed.starts_with(b"{") && clean && text::is_json(trimmed) {
        out.extend_from_slice(trimmed);
    } else {
        out.extend_from_slice(b"{\"_raw\":");
        text::push_string(out, String::from_utf8_lossy(content).as_bytes());
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Part;
    use crate::sink::testing::{Builder, relation, text};

    #[test]
    fn an_unchanged_value_comes_from_the_other_image_or_is_left_out() {
        let table = relation("t", &[("id", 20, "bigint", true), ("big", 25, "text", false)]);
        let delivery = Builder::new()
            .transaction(0x10, Part::Whole)
            .update(
                &table,
                &[text("1"), Value::Unchanged],
                Some(&[text("1"), text("large")]),
            )
            .update(&table, &[text("2"), Value::Unchanged], None)
            .delivery(1);
        let mut told = Vec::new();
        for row in &delivery.rows {
            let mut out = Vec::new();
            let batch = &delivery.batch;
            Images::default()
                .push(batch, batch.relation(row), row.new, row.old, &mut out)
                .unwrap();
            told.push(String::from_utf8(out).unwrap());
        }
        assert_eq!(told, [r#"{"id":1,"big":"large"}"#, r#"{"id":2}"#]);
    }

    #[test]
    fn a_context_is_an_object_whatever_came() {
        let of = |content: &[u8]| {
            let mut out = Vec::new();
            push_context(content, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(br#" {"user":1} "#), r#"{"user":1}"#);
        assert_eq!(of(b"null"), "{}");
        assert_eq!(of(b"who"), r#"{"_raw":"who"}"#);
        assert_eq!(of(br#"{"a":"\u0000"}"#), r#"{"_raw":"{\"a\":\"\\u0000\"}"}"#);
        assert_eq!(of(b"{\"a\":"), r#"{"_raw":"{\"a\":"}"#);
    }
}
