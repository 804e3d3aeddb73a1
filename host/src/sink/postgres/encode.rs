//! Values as the target reads them: arrays of text for statements, lines for COPY.

use super::apply::Work;
use super::run::key_value;
use super::statement::{Image, Sql};
use crate::batch::{Batch, Op, Origin, Row, Value};
use crate::sink::SinkContext;
use crate::sink::escape::clean_prefix;
use bytes::{BufMut, BytesMut};
use std::fmt;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// OIDs of `text` and `bytea`.
const TEXT: u32 = 25;
const BYTEA: u32 = 17;
/// An array's header of one dimension: dimensions, whether there are NULLs, element type, length, lower bound.
const HEADER_BYTES: usize = 20;
const ELEMENT_AT: usize = 8;
const LENGTH_AT: usize = 12;

/// A one-dimensional `text[]`, or `bytea[]`, in Postgres' binary form (array_recv).
pub(super) struct TextArray {
    bytes: Vec<u8>,
    length: i32,
}

impl TextArray {
    pub(super) fn with_capacity(rows: usize) -> Self {
        const BYTES_PER_VALUE_GUESSED: usize = 16;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + rows * BYTES_PER_VALUE_GUESSED);
        for field in [1_i32, 1, TEXT as i32, 0, 1] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        Self { bytes, length: 0 }
    }

    /// Of bytes instead.
    fn of_bytes(mut self) -> Self {
        self.bytes[ELEMENT_AT..ELEMENT_AT + 4].copy_from_slice(&BYTEA.to_be_bytes());
        self
    }

    pub(super) fn push(&mut self, text: Option<&[u8]>) {
        self.length += 1;
        match text {
            Some(text) => {
                self.bytes.extend_from_slice(&(text.len() as i32).to_be_bytes());
                self.bytes.extend_from_slice(text);
            }
            None => self.bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }

    pub(super) fn finish(mut self) -> Self {
        self.bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&self.length.to_be_bytes());
        self
    }
}

/// Never the values: the client library prints parameters into its debug log.
impl fmt::Debug for TextArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.length)
    }
}

impl ToSql for TextArray {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT_ARRAY || *kind == Type::BYTEA_ARRAY
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// Texts of values, with room for those that lie nowhere.
pub(super) struct Texts<'a> {
    batch: &'a Batch,
    context: &'a SinkContext,
    made: Vec<u8>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(work: Work<'a>) -> Self {
        Self::of(work.batch, work.context)
    }

    pub(super) fn of(batch: &'a Batch, context: &'a SinkContext) -> Self {
        let made = Vec::new();
        Self { batch, context, made }
    }

    /// The bytes of a parameter: of one that is `binary`, the value itself, else its text.
    pub(super) fn text(&mut self, row: &Row, image: Image, slot: u16, binary: bool) -> Option<&[u8]> {
        let batch = self.batch;
        let value = match (image, row.new, row.old) {
            (Image::New, Some(new), _) => batch.value(new, slot),
            (Image::Old, _, Some(old)) => batch.value(old, slot),
            (Image::Key, Some(new), old) if row.op != Op::Delete => key_value(batch, slot, new, old),
            (Image::Newest, Some(new), old) => key_value(batch, slot, new, old),
            (Image::Key | Image::Newest, _, Some(old)) => batch.value(old, slot),
            (Image::About(about), ..) => {
                return about
                    .write(batch, self.context, row, &mut self.made)
                    .then_some(self.made.as_slice());
            }
            _ => Value::Null,
        };
        match value {
            Value::Binary(bytes) if binary => Some(bytes),
            // It tells which row is meant.
            Value::Binary(bytes) => {
                self.made.clear();
                push_hex(bytes, &mut self.made);
                Some(&self.made)
            }
            value => value.text(),
        }
    }

    /// A copied row as the source wrote it, where nothing has changed it.
    fn received_line(&self, row: &Row, sql: &Sql) -> Option<&'a [u8]> {
        if !matches!(self.batch.transaction(row).origin, Origin::Copy(_)) {
            return None;
        }
        let of_new = |(image, _): &(Image, u16)| matches!(image, Image::New);
        let slots = sql.parameters.iter().map(|(_, slot)| *slot);
        let new = row.new.filter(|_| sql.parameters.iter().all(of_new))?;
        self.batch.copied_line(new, slots)
    }

    /// Appends a row as a line of COPY's text format; nothing for a message.
    pub(super) fn copy_line(&mut self, row: &Row, sql: &Sql, out: &mut Vec<u8>) {
        if row.op == Op::Message {
            return;
        }
        if let Some(line) = self.received_line(row, sql) {
            out.extend_from_slice(line);
            out.push(b'\n');
            return;
        }
        for (at, (image, slot)) in sql.parameters.iter().enumerate() {
            if at > 0 {
                out.push(b'\t');
            }
            match self.text(row, *image, *slot, false) {
                Some(text) => push_copy_text(out, text),
                None => out.extend_from_slice(b"\\N"),
            }
        }
        out.push(b'\n');
    }
}

/// One array per parameter, one element per row.
pub(super) fn arrays(work: Work<'_>, rows: &[Row], sql: &Sql) -> Vec<TextArray> {
    let mut texts = Texts::new(work);
    let mut arrays: Vec<TextArray> = sql
        .parameters
        .iter()
        .enumerate()
        .map(|(at, _)| match sql.binary.contains(at) {
            true => TextArray::with_capacity(rows.len()).of_bytes(),
            false => TextArray::with_capacity(rows.len()),
        })
        .collect();
    for row in rows.iter().filter(|row| row.op != Op::Message) {
        for (at, (array, (image, slot))) in arrays.iter_mut().zip(&sql.parameters).enumerate() {
            array.push(texts.text(row, *image, *slot, sql.binary.contains(at)));
        }
    }
    arrays.into_iter().map(TextArray::finish).collect()
}

/// Bytes of a `bytea` as text.
pub(super) const fn hex_bytes(bytes: &[u8]) -> usize {
    2 + 2 * bytes.len()
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(hex_bytes(bytes));
    out.extend_from_slice(b"\\x");
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    out.extend(bytes.iter().flat_map(digits));
}

fn push_copy_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (clean, behind) = rest.split_at(clean_prefix::<false>(rest));
        out.extend_from_slice(clean);
        let Some((special, behind)) = behind.split_first() else {
            return;
        };
        match special {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            // Other control characters stand for themselves.
            other => out.push(*other),
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Cell, CopyUnit, Lsn, Part, Transaction};
    use crate::decode::CopyDecoder;
    use crate::sink::postgres::run::Columns;
    use crate::sink::testing::{context, orders};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn copied() -> Transaction {
        Transaction {
            xid: 0,
            commit_lsn: Lsn(1),
            end_lsn: Lsn(1),
            commit_us: 0,
            part: Part::Whole,
            origin: Origin::Copy(CopyUnit {
                epoch: 1,
                table_oid: 1,
                unit: 1,
            }),
        }
    }

    fn line(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut line = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            line.extend_from_slice(if at > 0 { b"\t" } else { b"" });
            match field {
                Some(text) => push_copy_text(&mut line, text),
                None => line.extend_from_slice(b"\\N"),
            }
        }
        line.push(b'\n');
        line
    }

    type Field = Option<Vec<u8>>;

    fn field() -> impl Strategy<Value = Field> {
        let byte = prop_oneof![Just(b'\\'), Just(b'\t'), Just(b'N'), Just(b'a'), 32..=126_u8];
        proptest::option::of(proptest::collection::vec(byte, 0..4))
    }

    proptest! {
        /// Whether a line is taken as it came or made of its values can't be seen, also where one of them was changed.
        #[test]
        fn copied_rows_leave_as_they_came(
            rows in proptest::collection::vec([field(), field(), field()], 1..5),
            changed in (0..3_u16, field()),
        ) {
            let orders = orders();
            let mut decoder = CopyDecoder::new(Arc::clone(&orders));
            for fields in &rows {
                decoder.push(&line(fields)).unwrap();
            }
            let mut batch = decoder.finish(copied());
            let tuple = batch.rows[0].new.unwrap();
            let cell = match &changed.1 {
                Some(text) => batch.text_cell(text),
                None => Cell::NULL,
            };
            batch.set(tuple, changed.0, cell);
            let mut expected = rows.clone();
            expected[0][usize::from(changed.0)] = changed.1;
            let expected: Vec<u8> = expected.iter().flat_map(|fields| line(fields)).collect();
            let context = context("warehouse");
            let mut out = Vec::new();
            let sql = Sql {
                text: String::new(),
                parameters: orders.columns.iter().map(|column| (Image::New, column.slot)).collect(),
                binary: Columns::default(),
            };
            let mut texts = Texts::of(&batch, &context);
            for row in &batch.rows {
                texts.copy_line(row, &sql, &mut out);
            }
            prop_assert_eq!(out, expected);
        }
    }
}
