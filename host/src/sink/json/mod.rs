//! A change as a line of JSON.
//!
//! ```text
//! {"id":"7301:16B3748:0:0","op":"update","schema":"public","table":"orders","new":{"id":1,"total":"9.50"},
//!  "unchanged":["note"],"old":{"id":1},"xid":741,"position":"0/16B3748","commit_time":"2026-01-02T03:04:05.678901Z"}
//! ```
//!
//! | Postgres | JSON |
//! | --- | --- |
//! | smallint, integer, bigint, oid | number |
//! | real, double precision | number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | boolean | `true`, `false` |
//! | json, jsonb | as it is, line breaks between its tokens made spaces |
//! | numeric and everything else | a string with Postgres' own text: most readers make a double of a JSON number |
//! | NULL | `null` |
//! | JSON's own null | `null`, and its column's name in `json_null` (`old_json_null`) |
//! | unchanged TOAST | not in `new`; its name in `unchanged` |
//! | not part of the old image | left out |
//!
//! What repeats is made once: a transaction's id and position, a relation's names. A row costs no allocation.

mod image;
mod shape;
mod text;
mod time;

use crate::batch::{Batch, Message, Op, Origin, Replay, Row, Transaction, Truncate, Tuple, Value};
use crate::sink::SinkError;
pub(in crate::sink) use image::{Images, push_context};
use rustc_hash::FxHashMap;
use shape::{ColumnShape, Form, Shape};
use std::io::Write;

/// Shapes kept before all are let go: far more than there are tables, far less than hurts.
const SHAPES_MAX: usize = 10_000;

/// Appends a commit's time, in µs since 2000, as the lines have it, without quotes.
pub(in crate::sink) fn commit_time(out: &mut Vec<u8>, us: i64) {
    time::push_bare(out, us);
}

/// A time in µs since 2000 as the lines have it, without quotes.
pub fn time_text(us: i64) -> String {
    let mut text = Vec::new();
    time::push(&mut text, us);
    String::from_utf8_lossy(&text).trim_matches('"').to_owned()
}

/// A row that has no JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a value is not UTF-8")]
    NotUtf8,
    #[error("a value that isn't a bytea is in binary form, JSON needs its text")]
    Binary,
}

/// Writes rows as lines. Rows of one transaction follow a call of [`Encoder::transaction`].
#[derive(Debug)]
pub struct Encoder {
    system_identifier: u64,
    /// From the opening brace to the id's last colon but one.
    head: Vec<u8>,
    /// From behind the images to the end of the line.
    tail: Vec<u8>,
    shapes: FxHashMap<u32, Shape>,
}

/// One row as a line, with its line break. Whoever writes many keeps an [`Encoder`].
pub fn line(batch: &Batch, row: &Row, system_identifier: u64) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(system_identifier);
    let mut out = Vec::new();
    encoder.transaction(batch.transaction(row));
    encoder.row(batch, row, &mut out)?;
    Ok(out)
}

impl Encoder {
    pub fn new(system_identifier: u64) -> Self {
        Self {
            system_identifier,
            head: Vec::new(),
            tail: Vec::new(),
            shapes: FxHashMap::default(),
        }
    }

    /// The rows that follow belong to this transaction.
    pub fn transaction(&mut self, transaction: &Transaction) {
        self.head.clear();
        self.tail.clear();
        let system = self.system_identifier;
        let lsn = transaction.commit_lsn;
        // Writing to a Vec can't fail.
        let _ = match transaction.origin {
            Origin::Stream => write!(self.head, "{{\"id\":\"{system}:{:X}:", lsn.0),
            Origin::Copy(unit) => write!(
                self.head,
                "{{\"id\":\"{system}:copy{}-{}-{}:",
                unit.epoch, unit.table_oid, unit.unit
            ),
            Origin::Replay(replay) => write!(
                self.head,
                "{{\"id\":\"{system}:replay{}-{}:",
                replay.request, replay.letter
            ),
        };
        let copied = matches!(
            transaction.origin,
            Origin::Copy(_) | Origin::Replay(Replay { copy: Some(_), .. })
        );
        let _ = if copied {
            write!(self.tail, ",\"position\":\"{lsn}\"")
        } else {
            write!(self.tail, ",\"xid\":{},\"position\":\"{lsn}\"", transaction.xid)
        };
        self.tail.extend_from_slice(b",\"commit_time\":");
        if copied {
            self.tail.extend_from_slice(b"null");
        } else {
            time::push(&mut self.tail, transaction.commit_us);
        }
        self.tail.extend_from_slice(b"}\n");
    }

    /// Appends one line. After an error nothing has been appended.
    pub fn row(&mut self, batch: &Batch, row: &Row, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let encoded = self.row_unchecked(batch, row, out).and_then(|()| {
            // One look at the whole line: quotes between values keep broken sequences apart.
            match std::str::from_utf8(&out[start..]) {
                Ok(_) => Ok(()),
                Err(_) => Err(EncodeError::NotUtf8),
            }
        });
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    /// Appends the `rows` of one transaction; `first` is the number of the first among the delivery's rows.
    pub(super) fn rows(
        &mut self,
        batch: &Batch,
        rows: &[Row],
        first: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        for (at, row) in rows.iter().enumerate() {
            self.row(batch, row, out).map_err(|error| SinkError::Row {
                row: first + at,
                error: error.into(),
            })?;
        }
        Ok(())
    }

    fn row_unchecked(&mut self, batch: &Batch, row: &Row, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.head);
        text::push_integer(out, row.ordinal);
        out.push(b':');
        text::push_integer(out, u64::from(row.fan_out));
        out.extend_from_slice(b"\",\"op\":\"");
        out.extend_from_slice(row.op.name().as_bytes());
        out.push(b'"');
        match row.op {
            Op::Truncate => push_truncate(batch, &batch.truncates[row.extra as usize], out),
            Op::Message => push_message(&batch.messages[row.extra as usize], out),
            _ => self.images(batch, row, out)?,
        }
        out.extend_from_slice(&self.tail);
        Ok(())
    }

    fn images(&mut self, batch: &Batch, row: &Row, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let relation = batch.relation(row);
        if self.shapes.len() > SHAPES_MAX {
            self.shapes.clear();
        }
        let shape = self
            .shapes
            .entry(relation.index)
            .or_insert_with(|| Shape::new(relation));
        out.extend_from_slice(&shape.names);
        if let Some(new) = row.new {
            out.extend_from_slice(b",\"new\":{");
            let apart = push_image(batch, new, shape, out)?;
            out.push(b'}');
            if apart.unchanged {
                push_names(b"unchanged", shape, out, |column| is_unchanged(batch, new, column));
            }
            if apart.json_null {
                push_names(b"json_null", shape, out, |column| is_json_null(batch, new, column));
            }
        }
        if let Some(old) = row.old {
            out.extend_from_slice(b",\"old\":{");
            let apart = push_image(batch, old, shape, out)?;
            out.push(b'}');
            if apart.json_null {
                push_names(b"old_json_null", shape, out, |column| is_json_null(batch, old, column));
            }
        }
        Ok(())
    }
}

/// What of an image its members don't tell.
#[derive(Clone, Copy, Debug, Default)]
struct Apart {
    /// Unchanged ones were left out.
    unchanged: bool,
    /// A `null` among them is a value of JSON, not SQL's NULL.
    json_null: bool,
}

/// Appends the members of an image.
fn push_image(batch: &Batch, tuple: Tuple, shape: &Shape, out: &mut Vec<u8>) -> Result<Apart, EncodeError> {
    let mut apart = Apart::default();
    let mut first = true;
    for column in &shape.columns {
        let value = batch.value(tuple, column.slot);
        match value {
            Value::Absent => continue,
            Value::Unchanged => {
                apart.unchanged = true;
                continue;
            }
            Value::Binary(_) if column.form != Form::Bytea => return Err(EncodeError::Binary),
            Value::Null | Value::Text(_) | Value::Binary(_) => {}
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(&column.name);
        match value {
            Value::Text(text) => {
                column.form.push(out, text);
                apart.json_null |= column.form.is_null(text);
            }
            Value::Binary(bytes) => text::push_bytea(out, bytes),
            _ => out.extend_from_slice(b"null"),
        }
    }
    Ok(apart)
}

fn is_unchanged(batch: &Batch, tuple: Tuple, column: &ColumnShape) -> bool {
    batch.value(tuple, column.slot) == Value::Unchanged
}

fn is_json_null(batch: &Batch, tuple: Tuple, column: &ColumnShape) -> bool {
    let text = batch.value(tuple, column.slot).text();
    text.is_some_and(|text| column.form.is_null(text))
}

/// Appends a member that lists the names of some columns.
fn push_names(member: &[u8], shape: &Shape, out: &mut Vec<u8>, of: impl Fn(&ColumnShape) -> bool) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(member);
    out.extend_from_slice(b"\":[");
    let mut first = true;
    for column in shape.columns.iter().filter(|column| of(column)) {
        if !first {
            out.push(b',');
        }
        first = false;
        // The prepared name ends in a colon.
        out.extend_from_slice(&column.name[..column.name.len() - 1]);
    }
    out.push(b']');
}

fn push_truncate(batch: &Batch, truncate: &Truncate, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"tables\":[");
    for (at, relation) in truncate.relations.iter().enumerate() {
        let relation = &batch.relations[*relation as usize];
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"schema\":");
        text::push_string(out, relation.schema.as_bytes());
        out.extend_from_slice(b",\"table\":");
        text::push_string(out, relation.table.as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"cascade\":");
    text::push_bool(out, truncate.cascade);
    out.extend_from_slice(b",\"restart_identity\":");
    text::push_bool(out, truncate.restart_identity);
}

fn push_message(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"prefix\":");
    text::push_string(out, message.prefix.as_bytes());
    out.extend_from_slice(b",\"transactional\":");
    text::push_bool(out, message.transactional);
    if std::str::from_utf8(&message.content).is_ok() {
        out.extend_from_slice(b",\"content\":");
        text::push_string(out, &message.content);
    } else {
        out.extend_from_slice(b",\"content_base64\":\"");
        text::push_base64(out, &message.content);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests;
