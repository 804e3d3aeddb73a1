//! A value as the guest gets it.

use super::Class;
use crate::batch::Value;
use crate::plugin::wire::Out;
use crate::plugin::write;
use rowmill_abi::{ShortDecimal, ext, short_decimal, short_digits};

/// Whether the guest got a value (NULL is one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Unchanged,
    Absent,
}

/// Appends a value. The error says what is wrong with it, never the value.
#[inline]
pub(crate) fn encode(
    class: Class,
    type_oid: u32,
    value: Value<'_>,
    out: &mut impl Out,
) -> Result<Presence, &'static str> {
    match value {
        Value::Text(text) => encode_text(class, text, out)?,
        Value::Null => write::nil(out),
        Value::Unchanged => {
            write::empty_ext(out, ext::UNCHANGED);
            return Ok(Presence::Unchanged);
        }
        Value::Absent => {
            write::empty_ext(out, ext::ABSENT);
            return Ok(Presence::Absent);
        }
        Value::Binary(bytes) => encode_binary(class, type_oid, bytes, out)?,
    }
    Ok(Presence::There)
}

#[inline]
fn encode_text(class: Class, text: &[u8], out: &mut impl Out) -> Result<(), &'static str> {
    match class {
        Class::Text => write::str(out, text),
        Class::Int2 | Class::Int4 | Class::Int8 => write::int(out, parse_int(text).ok_or("its text is no integer")?),
        Class::Float4 => write::f32(out, parse_float(text)?),
        Class::Float8 => write::f64(out, parse_f64(text)?),
        Class::Bool => match text {
            b"t" => write::bool(out, true),
            b"f" => write::bool(out, false),
            _ => return Err("its text is no boolean"),
        },
        Class::Bytea => encode_hex(text, out)?,
    }
    Ok(())
}

#[inline]
pub(crate) fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Up to sixteen digits: nearly all.
    if let Some(size) = short_digits(digits) {
        let size = size as i64;
        return Some(if negative { -size } else { size });
    }
    if digits.is_empty() {
        return None;
    }
    // Counted downwards, since the smallest number has no positive counterpart.
    let mut value = 0i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// The nearest float of 64 bits to a number of few digits, where that is told quickly.
#[inline]
pub(crate) fn nearest_f64(of: ShortDecimal) -> Option<f64> {
    /// Each is a float exactly, as every number of eight digits is: so their quotient, rounded once, is the nearest one.
    const POWERS: [f64; 7] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
    Some(f64::from(of.digits) / POWERS.get(usize::from(of.scale))?)
}

/// The nearest float of 64 bits, as [`parse_float`].
#[inline]
pub(crate) fn parse_f64(text: &[u8]) -> Result<f64, &'static str> {
    let (negative, size) = match text {
        [b'-', size @ ..] => (true, size),
        size => (false, size),
    };
    match short_decimal(size, true).and_then(nearest_f64) {
        Some(size) => Ok(if negative { -size } else { size }),
        None => parse_float(text),
    }
}

#[inline(never)]
fn parse_float<T: std::str::FromStr>(text: &[u8]) -> Result<T, &'static str> {
    // Rust reads `NaN`, `Infinity` and `-Infinity` as Postgres writes them.
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("its text is no floating-point number")
}

fn encode_hex(text: &[u8], out: &mut impl Out) -> Result<(), &'static str> {
    let Some(digits) = text.strip_prefix(b"\\x").filter(|digits| digits.len() % 2 == 0) else {
        return Err("its text is no bytea in hex form");
    };
    write::bin_header(out, digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        match (hex_digit(pair[0]), hex_digit(pair[1])) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return Err("its text is no bytea in hex form"),
        }
    }
    Ok(())
}

#[inline]
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether this is the text that the server writes for a bytea of these bytes.
pub(crate) fn is_hex_of(text: &[u8], bytes: &[u8]) -> bool {
    let Some(digits) = text
        .strip_prefix(b"\\x")
        .filter(|digits| digits.len() == bytes.len() * 2)
    else {
        return false;
    };
    let digit = |half: u8| super::from_guest::HEX[usize::from(half)];
    let mut pairs = digits.chunks_exact(2).zip(bytes);
    pairs.all(|(pair, byte)| pair == [digit(byte >> 4), digit(byte & 15)])
}

/// OIDs whose binary form is their text.
const BINARY_IS_TEXT: [u32; 8] = [18, 19, 25, 114, 142, 705, 1042, 1043];
const UUID: u32 = 2950;
const JSONB: u32 = 3802;

fn encode_binary(class: Class, type_oid: u32, bytes: &[u8], out: &mut impl Out) -> Result<(), &'static str> {
    const WRONG_LENGTH: &str = "its binary form has the wrong length";
    match class {
        Class::Int2 => write::int(
            out,
            i16::from_be_bytes(bytes.try_into().map_err(|_| WRONG_LENGTH)?).into(),
        ),
        Class::Int4 => write::int(
            out,
            i32::from_be_bytes(bytes.try_into().map_err(|_| WRONG_LENGTH)?).into(),
        ),
        Class::Int8 => write::int(out, i64::from_be_bytes(bytes.try_into().map_err(|_| WRONG_LENGTH)?)),
        Class::Float4 => write::f32(out, f32::from_be_bytes(bytes.try_into().map_err(|_| WRONG_LENGTH)?)),
        Class::Float8 => write::f64(out, f64::from_be_bytes(bytes.try_into().map_err(|_| WRONG_LENGTH)?)),
        Class::Bool => match bytes {
            [byte] => write::bool(out, *byte != 0),
            _ => return Err(WRONG_LENGTH),
        },
        Class::Bytea => {
            write::bin_header(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        Class::Text if BINARY_IS_TEXT.contains(&type_oid) => write::str(out, bytes),
        Class::Text if type_oid == UUID => write::str(out, &uuid_text(bytes.try_into().map_err(|_| WRONG_LENGTH)?)),
        Class::Text if type_oid == JSONB => match bytes {
            [1, text @ ..] => write::str(out, text),
            _ => return Err("its jsonb has an unknown version"),
        },
        Class::Text => return Err("it arrives in a binary form that plugins can't be given"),
    }
    Ok(())
}

fn uuid_text(bytes: [u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = super::from_guest::HEX[usize::from(byte >> 4)];
        text[at + 1] = super::from_guest::HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}
