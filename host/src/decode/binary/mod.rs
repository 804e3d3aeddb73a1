//! Values in Postgres' binary form (`binary: true`) to the text that the server itself would have sent.
//!
//! Plugins and sinks see text whatever the setting is, so each form here is the type's own output function under the
//! settings that every session pins (ISO dates in UTC, shortest floats, `lc_monetary = 'C'`). A type whose text can't be
//! told from its binary form alone (`regclass` needs the catalog) has no [`Form`], and is refused before anything streams.
//!
//! ```text
//!   type OID --Types--> Form    once per column
//!   bytes    --write--> text    at the end of the batch's arena; text, enums, JSON and long bytea stay where they are
//! ```
//!
//! The bytes come from outside: every read is checked, nothing is allocated by a length that they declare.

mod collection;
mod columns;
mod fields;
mod float;
mod geometry;
mod network;
mod number;
mod search;
mod standard;
mod time;
mod types;

pub(super) use columns::{Columns, OfRelation};
pub(crate) use float::{write_f32, write_f64};
pub use standard::is_alike_everywhere;
pub(super) use standard::standard;
pub use types::{TypeEntry, Types};

use crate::batch::Cell;
use fields::Fields;

/// Values within values: a composite within an array within a composite. Postgres' own types go two deep.
const DEPTH_MAX: usize = 64;

/// How the binary form of a type is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its text: text itself, enums, json, xml.
    Text,
    /// The number 1, then its text: jsonb, ltree.
    VersionedText,
    Bool,
    Char,
    Bytea,
    Int2,
    Int4,
    Int8,
    /// oid, xid, cid.
    Unsigned4,
    Unsigned8,
    Float4,
    Float8,
    Numeric,
    Money,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// inet and cidr.
    Inet,
    /// macaddr and macaddr8.
    Mac,
    Bit,
    Lsn,
    Tid,
    Snapshot,
    Point,
    Line,
    Segment,
    Box,
    Path,
    Polygon,
    Circle,
    Cube,
    TsVector,
    TsQuery,
    Hstore,
    Array,
    /// int2vector and oidvector.
    Vector,
    Record,
    /// With the OID of its subtype.
    Range(u32),
    Multirange(u32),
    /// None that is known here.
    Unknown,
}

/// What is wrong with a value; never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It isn't what the type's send function writes.
    Malformed,
    /// It is, or holds, a value of a type that has no form here.
    Unknown(u32),
    /// Its text doesn't fit into a batch.
    TooLarge,
}

/// From here on a `bytea` stays in its binary form: its text, of two digits a byte, would be two thirds of what the row
/// takes in memory. Shorter ones are text, which goes by COPY with the others.
const BINARY_BYTES_MIN: usize = 1 << 20;

/// The cell of a value that lies at `at` of the received bytes. Its text is put into `arena` unless it lies there as it is.
#[inline]
pub(super) fn cell(types: &Types, form: Form, value: &[u8], at: usize, arena: &mut Vec<u8>) -> Result<Cell, Bad> {
    match form {
        Form::Text => Ok(Cell::text(at, value.len())),
        Form::VersionedText => Ok(Cell::text(at + 1, unversioned(value)?.len())),
        Form::Bytea if value.len() >= BINARY_BYTES_MIN => Ok(Cell::binary(at, value.len())),
        _ => {
            let start = arena.len();
            write(types, form, value, 0, arena)?;
            let len = arena.len() - start;
            if len > Cell::MAX_LEN || arena.len() > u32::MAX as usize {
                arena.truncate(start);
                return Err(Bad::TooLarge);
            }
            Ok(Cell::arena(start, len))
        }
    }
}

fn unversioned(value: &[u8]) -> Result<&[u8], Bad> {
    match value.split_first() {
        Some((1, text)) => Ok(text),
        _ => Err(Bad::Malformed),
    }
}

/// Appends the text of a value. `depth` counts the values that it lies in.
fn write(types: &Types, form: Form, value: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    if depth > DEPTH_MAX {
        return Err(Bad::Malformed);
    }
    // What is many times as long as its binary form ends here.
    if out.len() > u32::MAX as usize {
        return Err(Bad::TooLarge);
    }
    let mut fields = Fields::new(value);
    let from = &mut fields;
    match form {
        Form::Text => out.extend_from_slice(from.rest()),
        Form::VersionedText => out.extend_from_slice(unversioned(from.rest())?),
        Form::Bool => out.push(if from.u8()? != 0 { b't' } else { b'f' }),
        Form::Char => number::char(types, from.u8()?, out),
        Form::Bytea => network::hex(from.rest(), b"\\x", out),
        Form::Int2 => number::int(from.i16()?, out),
        Form::Int4 => number::int(from.i32()?, out),
        Form::Int8 => number::int(from.i64()?, out),
        Form::Unsigned4 => number::int(from.u32()?, out),
        Form::Unsigned8 => number::int(from.i64()? as u64, out),
        Form::Float4 => float::write_f32(f32::from_bits(from.u32()?), out),
        Form::Float8 => float::write_f64(from.f64()?, out),
        Form::Numeric => number::numeric(from, out)?,
        Form::Money => number::money(from.i64()?, out),
        Form::Date => time::date(from.i32()?, out),
        Form::Time => time::time(from.i64()?, out)?,
        Form::TimeTz => time::time_tz(from.i64()?, from.i32()?, out)?,
        Form::Timestamp => time::timestamp(from.i64()?, b"", out),
        Form::TimestampTz => time::timestamp(from.i64()?, b"+00", out),
        Form::Interval => time::interval(types, from, out)?,
        Form::Uuid => network::uuid(from.take(16)?, out),
        Form::Inet => network::inet(from, out)?,
        Form::Mac => network::mac(from.rest(), out)?,
        Form::Bit => number::bits(from, out)?,
        Form::Lsn => number::lsn(from.i64()? as u64, out),
        Form::Tid => number::tid(from.u32()?, from.i16()? as u16, out),
        Form::Snapshot => number::snapshot(from, out)?,
        Form::Point => geometry::point(from, out)?,
        Form::Line => geometry::line(from, out)?,
        Form::Segment => geometry::segment(from, out)?,
        Form::Box => geometry::corners(from, out)?,
        Form::Path => geometry::path(from, out)?,
        Form::Polygon => geometry::polygon(from, out)?,
        Form::Circle => geometry::circle(from, out)?,
        Form::Cube => geometry::cube(from, out)?,
        Form::TsVector => search::vector(from, out)?,
        Form::TsQuery => search::query(from, out)?,
        Form::Hstore => search::hstore(from, out)?,
        Form::Array => collection::array(types, from, depth, out)?,
        Form::Vector => collection::vector(types, from, depth, out)?,
        Form::Record => collection::record(types, from, depth, out)?,
        Form::Range(of) => collection::range(types, of, from, depth, out)?,
        Form::Multirange(of) => collection::multirange(types, of, from, depth, out)?,
        Form::Unknown => return Err(Bad::Unknown(0)),
    }
    fields.end()
}

#[cfg(test)]
mod tests;
