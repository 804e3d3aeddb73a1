//! What is asked of a row where the quick way doesn't do: NULL, gaps, long values, another type than the column's.
//!
//! All of it gets the row by value, not by reference: so a row of which nothing unusual is asked lives in registers.

use super::Row;
use crate::postgres::FromText;
use crate::value::Value;
use crate::{Error, Result, ascii};
use rowmill_abi::{Reader, Token, ext};

#[inline(never)]
pub(super) fn any_text(row: Row<'_>, position: usize) -> Result<Option<&str>> {
    if let Some(text) = row.short_text(position).and_then(ascii::text) {
        return Ok(Some(text));
    }
    match row.token(position)? {
        Token::Str(text) => Ok(Some(std::str::from_utf8(text)?)),
        Token::Nil => Ok(None),
        other => Err(no(row, other, position, "text")),
    }
}

#[inline(never)]
pub(super) fn any_value(row: Row<'_>, position: usize) -> Result<Value<'_>> {
    match row.offsets.get(position) {
        Some(start) => Ok(Value::read(&mut Reader::starting_at(row.bytes, *start as usize))?),
        None => Err(Error::new("a column that this table's rows don't carry")),
    }
}

#[inline(never)]
pub(super) fn any_int(row: Row<'_>, position: usize) -> Result<Option<i64>> {
    match row.token(position)? {
        Token::Int(value) => Ok(Some(value)),
        Token::Nil => Ok(None),
        other => parsed(row, other, position, "an integer"),
    }
}

#[inline(never)]
pub(super) fn any_float(row: Row<'_>, position: usize) -> Result<Option<f64>> {
    match row.token(position)? {
        Token::F64(value) => Ok(Some(value)),
        Token::F32(value) => Ok(Some(value.into())),
        Token::Int(value) => Ok(Some(value as f64)),
        Token::Nil => Ok(None),
        other => parsed(row, other, position, "a number"),
    }
}

#[inline(never)]
pub(super) fn any_bool(row: Row<'_>, position: usize) -> Result<Option<bool>> {
    match row.token(position)? {
        Token::Bool(value) => Ok(Some(value)),
        Token::Nil => Ok(None),
        other => Err(no(row, other, position, "a boolean")),
    }
}

#[inline(never)]
pub(super) fn get_any<'a, T: FromText<'a>>(row: Row<'a>, position: usize) -> Result<Option<T>> {
    // Not a short one, or among the last bytes.
    if let Some(value) = row.short_text(position).and_then(T::from_bytes) {
        return Ok(Some(value));
    }
    let token = row.token(position)?;
    let value = match token {
        Token::Str(text) => {
            let text = std::str::from_utf8(text)?;
            match row.column(position) {
                Some(column) => T::from_column(text, column),
                None => T::from_text(text),
            }
        }
        Token::Int(value) => T::from_int(value),
        Token::F32(value) => T::from_float(value.into()),
        Token::F64(value) => T::from_float(value),
        Token::Bool(value) => T::from_bool(value),
        Token::Nil => return Ok(None),
        _ => None,
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(no(row, token, position, T::WANTED)),
    }
}

fn parsed<T: std::str::FromStr>(row: Row<'_>, found: Token<'_>, position: usize, wanted: &str) -> Result<Option<T>> {
    let text = match found {
        Token::Str(text) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    match text.and_then(|text| text.parse().ok()) {
        Some(value) => Ok(Some(value)),
        None => Err(no(row, found, position, wanted)),
    }
}

/// Names the column, never the value.
#[cold]
pub(super) fn no(row: Row<'_>, found: Token<'_>, position: usize, wanted: &str) -> Error {
    let column = row.read.get(position).map_or("", |column| &column.name);
    let (code, is) = match found {
        Token::Ext(ext::UNCHANGED, _) => ("unchanged", "unchanged TOAST that the server didn't send"),
        Token::Ext(ext::ABSENT, _) => ("absent", "absent from this image"),
        _ => return Error::new(format!("column {column} is not {wanted}")).with_code("type"),
    };
    Error::new(format!("column {column} is {is}")).with_code(code)
}
