//! Texts to typed values: units, ranges, forms.

use super::item::Value;
use super::keys::MAX_NAME_CHARS;
use super::shape::Shape;
use super::units::UnitError;
use super::{ByteSize, Duration, Secret, TablePattern};
use serde_json::{Number, json};
use std::net::SocketAddr;

/// What is wrong with a value, in a few words. Never the value of a variable.
pub(super) struct Misfit(pub String);

/// The typed value of a text whose variables are filled in.
pub(super) fn convert(shape: &Shape, text: &str) -> Result<Value, Misfit> {
    match shape {
        Shape::Secret => Ok(Value::Secret(Secret::new(text))),
        Shape::Table => table(text).map(Value::Table),
        Shape::Address => address(text).map(Value::Address),
        Shape::Duration(min, max) => unit::<Duration>(text, *min, *max, "ms, s, m, h, d").map(Value::Duration),
        Shape::Size(min, max) => unit::<ByteSize>(text, *min, *max, "B, KiB, MiB, GiB").map(Value::Size),
        Shape::Count(min, max) => match text.parse() {
            Ok(count) if (*min..=*max).contains(&count) => Ok(Value::Count(count)),
            Ok(_) => Err(Misfit("outside the range".to_owned())),
            Err(_) => Err(Misfit("not a whole number".to_owned())),
        },
        Shape::Choice(words) if !words.contains(&text) => Err(Misfit("not one of them".to_owned())),
        _ if text.is_empty() => Err(Misfit("empty".to_owned())),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn unit<T>(text: &str, min: T, max: T, units: &str) -> Result<T, Misfit>
where
    T: std::str::FromStr<Err = UnitError> + PartialOrd,
{
    match text.parse::<T>() {
        Ok(value) if value < min => Err(Misfit("too small".to_owned())),
        Ok(value) if value > max => Err(Misfit("too large".to_owned())),
        Ok(value) => Ok(value),
        Err(UnitError::NoNumber) => Err(Misfit("doesn't begin with a whole number".to_owned())),
        Err(UnitError::NoUnit) => Err(Misfit(format!("its unit is missing: {units}"))),
        Err(UnitError::UnknownUnit) => Err(Misfit(format!("the units are {units}"))),
        Err(UnitError::Overflow) => Err(Misfit("too large".to_owned())),
    }
}

/// `schema.table`; either part in double quotes where it holds a dot.
fn table(text: &str) -> Result<TablePattern, Misfit> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    if quoted {
        return Err(Misfit("a quote is left open".to_owned()));
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, table]) if !schema.is_empty() && !table.is_empty() => Ok(TablePattern { schema, table }),
        Ok(_) => Err(Misfit("a part is empty".to_owned())),
        Err(parts) if parts.len() == 1 => Err(Misfit("its schema is missing".to_owned())),
        Err(_) => Err(Misfit("more than two parts".to_owned())),
    }
}

fn address(text: &str) -> Result<Option<SocketAddr>, Misfit> {
    if text == "off" {
        return Ok(None);
    }
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Misfit("not an address with a port".to_owned()))?;
    if address.ip().is_loopback() {
        Ok(Some(address))
    } else {
        Err(Misfit("others on the network could reach it".to_owned()))
    }
}

pub(super) fn name_rule(others: &str) -> String {
    let others: Vec<String> = others.chars().map(|c| format!("`{c}`")).collect();
    format!("a-z, 0-9 and {} only, 1 to {MAX_NAME_CHARS} of them", others.join(", "))
}

/// A plain scalar by YAML's core schema.
pub(super) fn core_schema(text: &str) -> serde_json::Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return serde_json::Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = text.strip_prefix('+').unwrap_or(text);
    // A zip code such as 01234 stays the text that it is.
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return text.into();
    }
    if let Ok(integer) = number.parse::<i64>() {
        return integer.into();
    }
    if let Ok(integer) = number.parse::<u64>() {
        return integer.into();
    }
    let is_float = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let float = number
        .parse::<f64>()
        .ok()
        .filter(|_| is_float)
        .and_then(Number::from_f64);
    float.map_or_else(|| json!(text), serde_json::Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_have_the_types_of_yaml() {
        assert_eq!(core_schema("5"), json!(5));
        assert_eq!(core_schema("-1.5e3"), json!(-1500.0));
        assert_eq!(core_schema("no"), json!("no"));
        assert_eq!(core_schema("01234"), json!("01234"));
        assert_eq!(core_schema("2026-11-23"), json!("2026-11-23"));
        assert_eq!(core_schema("1e999"), json!("1e999"));
        assert_eq!(core_schema("~"), json!(null));
    }

    #[test]
    fn tables_have_two_parts() {
        let read = |text| table(text).ok().map(|table| (table.schema, table.table));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read("public.orders"), pair("public", "orders"));
        assert_eq!(read("\"my.schema\".*"), pair("my.schema", "*"));
        assert_eq!(read("orders"), None);
        assert_eq!(read("a.b.c"), None);
        assert_eq!(read(".b"), None);
        assert_eq!(read("\"a.b"), None);
    }
}
