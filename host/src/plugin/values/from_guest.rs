//! A value that a guest wrote, as Postgres' text.

use super::Class;
use super::to_guest::{hex_digit, parse_int};
use crate::decode::{write_f32, write_f64};
use crate::plugin::cursor::Scalar;
use rowmill_abi::ext;

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a guest gave for a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Null,
    Unchanged,
    Absent,
    /// Its text was appended to the arena and begins here.
    Text(usize),
}

/// Appends the text of a value to `arena`, where it has one. The error says what is wrong, never the value.
#[inline]
pub(crate) fn decode(class: Class, scalar: Scalar<'_>, arena: &mut Vec<u8>) -> Result<Decoded, &'static str> {
    let start = arena.len();
    match (scalar, class) {
        (Scalar::Str(text), Class::Text) => append_text(text, arena)?,
        (Scalar::Nil, _) => return Ok(Decoded::Null),
        (Scalar::Ext(ext::UNCHANGED, []), _) => return Ok(Decoded::Unchanged),
        (Scalar::Ext(ext::ABSENT, []), _) => return Ok(Decoded::Absent),
        (Scalar::Int(value), _) => append_int(class, value, arena)?,
        (Scalar::Huge(value), Class::Text) => append_integer(value, arena),
        (Scalar::F32(value), Class::Float4 | Class::Text) => append_f32(value, arena),
        (Scalar::F32(value), Class::Float8) => append_f64(f64::from(value), arena),
        (Scalar::F64(value), Class::Float4) => append_f32(value as f32, arena),
        (Scalar::F64(value), Class::Float8 | Class::Text) => append_f64(value, arena),
        (Scalar::Bool(value), Class::Bool) => arena.push(if value { b't' } else { b'f' }),
        (Scalar::Bool(value), Class::Text) => arena.extend_from_slice(if value { b"true" } else { b"false" }),
        (Scalar::Bin(bytes), Class::Bytea) => append_hex(bytes, arena),
        (Scalar::Str(text), _) => append_checked(class, text, arena)?,
        _ => return Err(class.name()),
    }
    Ok(Decoded::Text(start))
}

#[inline]
fn append_text(text: &str, arena: &mut Vec<u8>) -> Result<(), &'static str> {
    // Postgres' text holds every character but this one.
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err("no text of Postgres: it holds a NUL character");
    }
    arena.extend_from_slice(text.as_bytes());
    Ok(())
}

fn append_int(class: Class, value: i64, arena: &mut Vec<u8>) -> Result<(), &'static str> {
    let fits = match class {
        Class::Int2 => i16::try_from(value).is_ok(),
        Class::Int4 => i32::try_from(value).is_ok(),
        Class::Bool | Class::Bytea => false,
        Class::Int8 | Class::Float4 | Class::Float8 | Class::Text => true,
    };
    if !fits {
        return Err(class.name());
    }
    append_integer(value, arena);
    Ok(())
}

fn append_integer(value: impl itoa::Integer, arena: &mut Vec<u8>) {
    arena.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Text given for a column that has a class of its own: taken where Postgres would read it.
fn append_checked(class: Class, text: &str, arena: &mut Vec<u8>) -> Result<(), &'static str> {
    let error = class.name();
    match class {
        Class::Int2 | Class::Int4 | Class::Int8 => append_int(class, parse_int(text.as_bytes()).ok_or(error)?, arena)?,
        Class::Float4 => append_f32(text.parse().map_err(|_| error)?, arena),
        Class::Float8 => append_f64(text.parse().map_err(|_| error)?, arena),
        Class::Bool => match text {
            "t" | "true" => arena.push(b't'),
            "f" | "false" => arena.push(b'f'),
            _ => return Err(error),
        },
        Class::Bytea => {
            let digits = text
                .strip_prefix("\\x")
                .filter(|digits| digits.len() % 2 == 0)
                .ok_or(error)?;
            if !digits.bytes().all(|digit| hex_digit(digit).is_some()) {
                return Err(error);
            }
            arena.extend_from_slice(text.as_bytes());
        }
        Class::Text => append_text(text, arena)?,
    }
    Ok(())
}

fn append_hex(bytes: &[u8], arena: &mut Vec<u8>) {
    arena.reserve(2 + bytes.len() * 2);
    arena.extend_from_slice(b"\\x");
    for byte in bytes {
        arena.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// From these magnitudes on Postgres writes an exponent.
const EXPONENT_BELOW: f64 = 1e-4;
const EXPONENT_FROM_F64: f64 = 1e15;

/// The shortest decimal that reads back as the same number, spelled as Postgres spells it. In the range in which it writes
/// no exponent, what others take for the shortest is what it takes: the middles between floats have too many digits there.
pub(crate) fn append_f64(value: f64, arena: &mut Vec<u8>) {
    let size = value.abs();
    if size != 0.0 && !(EXPONENT_BELOW..EXPONENT_FROM_F64).contains(&size) {
        return write_f64(value, arena);
    }
    // It has no `.0` behind whole numbers.
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    arena.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

fn append_f32(value: f32, arena: &mut Vec<u8>) {
    write_f32(value, arena);
}
