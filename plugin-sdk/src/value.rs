//! Values as they cross the boundary.

use rowmill_abi::{Malformed, Reader, Token, Writer, ext};
use std::borrow::Cow;
use std::fmt;

/// A value of a row, borrowed from the batch.
///
/// Types other than integers, floats, booleans and bytea come as Postgres' text, so that nothing is lost.
///
/// ```
/// use rowmill_plugin::{Result, Row, Value};
///
/// fn describe(row: &Row) -> Result<&'static str> {
///     Ok(match row.value("note")? {
///         Value::Null => "none",
///         Value::Unchanged => "as it was",
///         Value::Absent => "not known",
///         _ => "some",
///     })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// TOAST that the change left alone: the server didn't send it. Never NULL.
    Unchanged,
    /// Not part of this image: a column outside of the key, in an old image that holds the key only. Never NULL.
    Absent,
    /// A boolean.
    Bool(bool),
    /// A smallint, integer or bigint.
    Int(i64),
    /// Of a `double precision`.
    Float(f64),
    /// Of a `real`.
    Real(f32),
    /// A text, or Postgres' text of a value of another type.
    Text(&'a str),
    /// A bytea.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        let bad = |expected| Malformed { at, expected };
        Ok(match reader.token()? {
            Token::Nil => Self::Null,
            Token::Bool(value) => Self::Bool(value),
            Token::Int(value) => Self::Int(value),
            Token::F32(value) => Self::Real(value),
            Token::F64(value) => Self::Float(value),
            Token::Str(text) => Self::Text(std::str::from_utf8(text).map_err(|_| bad("UTF-8"))?),
            Token::Bin(bytes) => Self::Bytes(bytes),
            Token::Ext(ext::UNCHANGED, _) => Self::Unchanged,
            Token::Ext(ext::ABSENT, _) => Self::Absent,
            _ => return Err(bad("a value of a row")),
        })
    }

    /// As Postgres casts it to text; `None` where there is no value. Of a float the shortest text that is read as the same
    /// one, in Postgres' form; its own text now and then has another last digit, or more of them.
    ///
    /// ```
    /// use rowmill_plugin::Value;
    ///
    /// assert_eq!(Value::Real(0.1).to_text().unwrap(), "0.1");
    /// assert_eq!(Value::Float(1e300).to_text().unwrap(), "1e+300");
    /// assert_eq!(Value::Bytes(b"\xff").to_text().unwrap(), r"\xff");
    /// assert_eq!(Value::Unchanged.to_text(), None);
    /// ```
    pub fn to_text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Null | Self::Unchanged | Self::Absent => return None,
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Float(value) => Cow::Owned(float_text(&value, DOUBLE_DIGITS)),
            Self::Real(value) => Cow::Owned(float_text(&value, REAL_DIGITS)),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => {
                let mut hex = String::with_capacity(2 + 2 * bytes.len());
                hex.push_str("\\x");
                for byte in bytes {
                    for digit in [byte >> 4, byte & 15] {
                        hex.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
                    }
                }
                Cow::Owned(hex)
            }
        })
    }
}

/// From so many digits before the point on, Postgres writes an exponent.
const DOUBLE_DIGITS: i32 = 15;
const REAL_DIGITS: i32 = 6;

/// The shortest digits that are read as the same float, with an exponent where Postgres writes one.
fn float_text(value: &impl fmt::Display, digits_max: i32) -> String {
    let plain = value.to_string();
    let (sign, size) = match plain.strip_prefix('-') {
        Some(size) => ("-", size),
        None => ("", plain.as_str()),
    };
    if size == "inf" {
        return format!("{sign}Infinity");
    }
    let (whole, fraction) = size.split_once('.').unwrap_or((size, ""));
    let exponent = match whole {
        "0" => -1 - fraction.bytes().take_while(|digit| *digit == b'0').count() as i32,
        _ => whole.len() as i32 - 1,
    };
    let digits = [whole, fraction].concat();
    let digits = digits.trim_matches('0');
    // Zero has no digits left, and NaN is as long as a number that needs no exponent.
    if (-4..digits_max).contains(&exponent) || digits.is_empty() {
        return plain;
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let e = if exponent < 0 { "e-" } else { "e+" };
    format!("{sign}{first}{point}{rest}{e}{:02}", exponent.unsigned_abs())
}

/// What patches can set a column to.
///
/// ```
/// use rowmill_plugin::{ToValue, abi::{Reader, Writer}};
///
/// /// Becomes a numeric.
/// struct Cents(i64);
///
/// impl ToValue for Cents {
///     fn write(self, out: &mut Writer) {
///         out.display(&format_args!("{}.{:02}", self.0 / 100, self.0 % 100));
///     }
/// }
///
/// let mut out = Writer::new();
/// Cents(1_250).write(&mut out);
/// assert_eq!(Reader::new(out.as_slice()).str(), Ok("12.50"));
/// ```
pub trait ToValue {
    /// Appends the value as MessagePack.
    ///
    /// ```
    /// use rowmill_plugin::abi::{Reader, Writer};
    /// use rowmill_plugin::{ToValue, Value};
    ///
    /// let mut out = Writer::new();
    /// Some("paid").write(&mut out);
    /// Value::Null.write(&mut out);
    ///
    /// let mut reader = Reader::new(out.as_slice());
    /// assert_eq!(reader.str(), Ok("paid"));
    /// assert!(reader.take_nil());
    /// ```
    fn write(self, out: &mut Writer);

    /// Appends the first seven bytes of `head` and the value behind them: as one, where it is short.
    #[doc(hidden)]
    #[inline]
    fn write_behind(self, head: u64, out: &mut Writer)
    where
        Self: Sized,
    {
        out.first_of(7, &head.to_le_bytes());
        self.write(out);
    }
}

impl ToValue for Value<'_> {
    fn write(self, out: &mut Writer) {
        match self {
            Value::Null => out.nil(),
            Value::Unchanged => out.empty_ext(ext::UNCHANGED),
            Value::Absent => out.empty_ext(ext::ABSENT),
            Value::Bool(value) => out.bool(value),
            Value::Int(value) => out.int(value),
            Value::Float(value) => out.f64(value),
            Value::Real(value) => out.f32(value),
            Value::Text(text) => out.str(text),
            Value::Bytes(bytes) => out.bin(bytes),
        }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn write(self, out: &mut Writer) {
        match self {
            Some(value) => value.write(out),
            None => out.nil(),
        }
    }

    #[inline]
    fn write_behind(self, head: u64, out: &mut Writer) {
        match self {
            Some(value) => value.write_behind(head, out),
            None => {
                out.first_of(7, &head.to_le_bytes());
                out.nil();
            }
        }
    }
}

macro_rules! to_value {
    ($($type:ty => |$value:ident, $out:ident| $write:expr $(, behind $head:ident $behind:expr)?;)*) => {$(
        impl ToValue for $type {
            #[inline]
            fn write(self, $out: &mut Writer) {
                let $value = self;
                $write
            }

            $(
                #[inline]
                fn write_behind(self, $head: u64, $out: &mut Writer) {
                    let $value = self;
                    $behind
                }
            )?
        }
    )*};
}

to_value! {
    &str => |value, out| out.short_str(value), behind head out.short_str_behind(head, value);
    String => |value, out| out.str(&value);
    &String => |value, out| out.str(value);
    Cow<'_, str> => |value, out| out.str(&value);
    &[u8] => |value, out| out.bin(value);
    bool => |value, out| out.bool(value);
    i16 => |value, out| out.int(value.into());
    i32 => |value, out| out.int(value.into());
    i64 => |value, out| out.int(value);
    u32 => |value, out| out.uint(value.into());
    f32 => |value, out| out.f32(value);
    f64 => |value, out| out.f64(value), behind head out.f64_behind(head, value);
}
