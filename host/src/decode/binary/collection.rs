//! Values made of values: arrayfuncs.c, rowtypes.c, rangetypes.c, multirangetypes.c.
//!
//! An array names its elements' type and a record that of each field, so that only ranges must be known beforehand.

use super::fields::Fields;
use super::number::int;
use super::{Bad, Types, write};

const DIMENSIONS_MAX: usize = 6;

/// How a text within another one is quoted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// A backslash before quote and backslash.
    Array {
        delimiter: u8,
    },
    /// Quote and backslash doubled.
    Record,
    Range,
}

impl Quoting {
    fn is_special(self, byte: u8) -> bool {
        match byte {
            b'"' | b'\\' | b' ' | b'\t'..=b'\r' => true,
            b'{' | b'}' => matches!(self, Self::Array { .. }),
            b'(' | b')' => self != Self::Array { delimiter: byte } && !matches!(self, Self::Array { .. }),
            b'[' | b']' => self == Self::Range,
            b',' => !matches!(self, Self::Array { .. }) || self == Self::Array { delimiter: b',' },
            byte => self == Self::Array { delimiter: byte },
        }
    }

    /// Quotes what begins at `start` where it has to be.
    fn quote(self, start: usize, out: &mut Vec<u8>) {
        let text = &out[start..];
        let is_array = matches!(self, Self::Array { .. });
        let reads_as_null = is_array && text.eq_ignore_ascii_case(b"NULL");
        if !text.is_empty() && !reads_as_null && !text.iter().any(|byte| self.is_special(*byte)) {
            return;
        }
        let escaped = |byte: u8| matches!(byte, b'"' | b'\\');
        let escapes = text.iter().filter(|byte| escaped(**byte)).count();
        let end = out.len();
        out.resize(end + escapes + 2, b'"');
        // From its end on, as everything moves backwards.
        let mut to = out.len() - 1;
        for from in (start..end).rev() {
            let byte = out[from];
            to -= 1;
            out[to] = byte;
            if escaped(byte) {
                to -= 1;
                out[to] = if is_array { b'\\' } else { byte };
            }
        }
        out[start] = b'"';
    }
}

/// An array's length and lower bound, of each dimension.
type Dimensions = [(usize, i32); DIMENSIONS_MAX];

/// Reads the header: the dimensions, how many there are, and the elements' type.
fn header(from: &mut Fields<'_>) -> Result<(Dimensions, usize, u32), Bad> {
    let count = from.count()?;
    if count > DIMENSIONS_MAX {
        return Err(Bad::Malformed);
    }
    let _has_nulls = from.i32()?;
    let element = from.u32()?;
    let mut dimensions = Dimensions::default();
    for dimension in dimensions.iter_mut().take(count) {
        *dimension = (from.count()?, from.i32()?);
    }
    Ok((dimensions, count, element))
}

pub(super) fn array(types: &Types, from: &mut Fields<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    let (dimensions, count, element) = header(from)?;
    let dimensions = &dimensions[..count];
    if dimensions.iter().any(|(length, _)| *length == 0) || dimensions.is_empty() {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    if dimensions.iter().any(|(_, lower)| *lower != 1) {
        for (length, lower) in dimensions {
            out.push(b'[');
            int(*lower, out);
            out.push(b':');
            int(i64::from(*lower) + *length as i64 - 1, out);
            out.push(b']');
        }
        out.push(b'=');
    }
    let elements = Elements {
        types,
        element,
        delimiter: types.delimiter(element),
        depth: depth + 1,
    };
    elements.write(dimensions, from, out)
}

struct Elements<'a> {
    types: &'a Types,
    element: u32,
    delimiter: u8,
    depth: usize,
}

impl Elements<'_> {
    /// One dimension, with those within it.
    fn write(&self, dimensions: &[(usize, i32)], from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
        let Some(((length, _), inner)) = dimensions.split_first() else {
            return self.element(from, out);
        };
        out.push(b'{');
        for at in 0..*length {
            if at > 0 {
                out.push(self.delimiter);
            }
            self.write(inner, from, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn element(&self, from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
        let Some(value) = from.value()? else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let start = out.len();
        nested(self.types, self.element, value, self.depth, out)?;
        let delimiter = self.delimiter;
        Quoting::Array { delimiter }.quote(start, out);
        Ok(())
    }
}

/// A value within another, by its type.
fn nested(types: &Types, oid: u32, value: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    write(types, types.form(oid), value, depth, out).map_err(|bad| match bad {
        Bad::Unknown(0) => Bad::Unknown(oid),
        bad => bad,
    })
}

/// One dimension without NULLs, as numbers with spaces in between.
pub(super) fn vector(types: &Types, from: &mut Fields<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    let (dimensions, _, element) = header(from)?;
    for at in 0..dimensions[0].0 {
        if at > 0 {
            out.push(b' ');
        }
        let value = from.value()?.ok_or(Bad::Malformed)?;
        nested(types, element, value, depth + 1, out)?;
    }
    Ok(())
}

pub(super) fn record(types: &Types, from: &mut Fields<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    out.push(b'(');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        let oid = from.u32()?;
        if let Some(value) = from.value()? {
            let start = out.len();
            nested(types, oid, value, depth + 1, out)?;
            Quoting::Record.quote(start, out);
        }
    }
    out.push(b')');
    Ok(())
}

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
/// Infinite, or without a value.
const NO_LOWER: u8 = 0x08 | 0x20;
const NO_UPPER: u8 = 0x10 | 0x40;

/// Flags, and the bounds that are there.
pub(super) fn range(types: &Types, of: u32, from: &mut Fields<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    let flags = from.u8()?;
    if flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    let mut bound = |is_there: bool, out: &mut Vec<u8>| {
        if is_there {
            let value = from.value()?.ok_or(Bad::Malformed)?;
            let start = out.len();
            nested(types, of, value, depth + 1, out)?;
            Quoting::Range.quote(start, out);
        }
        Ok(())
    };
    out.push(if flags & LOWER_INCLUSIVE != 0 { b'[' } else { b'(' });
    bound(flags & NO_LOWER == 0, out)?;
    out.push(b',');
    bound(flags & NO_UPPER == 0, out)?;
    out.push(if flags & UPPER_INCLUSIVE != 0 { b']' } else { b')' });
    Ok(())
}

pub(super) fn multirange(
    types: &Types,
    of: u32,
    from: &mut Fields<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Bad> {
    let count = from.count()?;
    out.push(b'{');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        let mut one = Fields::new(from.value()?.ok_or(Bad::Malformed)?);
        range(types, of, &mut one, depth, out)?;
        one.end()?;
    }
    out.push(b'}');
    Ok(())
}
