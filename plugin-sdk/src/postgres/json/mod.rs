mod check;
mod plain;

use super::FromText;
use crate::{Column, types};
use std::borrow::Cow;

/// A json or jsonb value, read as far as it is asked for: nothing is parsed beforehand, and members are found by
/// passing over those before them. A text of a column of another type is checked as a whole first, since nobody has done it.
///
/// What a jsonb can't hold and a json can is taken as it is written down: of members with the same name the last one
/// counts, as with Postgres' `->`; what has no place in a text (a half of a surrogate pair, `\u0000`; `->>` refuses them) is
/// U+FFFD, in names too, so that nobody can hide the members behind it. Two values are equal where their texts are.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Json};
///
/// let json = Json::from_text(r#"{"user": {"name": "Ada", "ids": [1, 2]}, "ok": true}"#).unwrap();
/// let user = json.get("user").unwrap();
/// assert_eq!(user.get("name").unwrap().as_text().unwrap(), "Ada");
/// assert_eq!(user.get("ids").unwrap().at(1).unwrap().as_i64(), Some(2));
/// assert_eq!(json.get("ok").unwrap().as_bool(), Some(true));
/// assert_eq!(json.get("nobody"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

/// What a [`Json`] is.
///
/// ```
/// # use rowmill_plugin::postgres::{FromText, Json, JsonKind};
/// assert_eq!(Json::from_text("[1]").unwrap().kind(), JsonKind::Array);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`, which is not SQL NULL.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number, of any size.
    Number,
    /// A string.
    Text,
    /// A list.
    Array,
    /// Names and values.
    Object,
}

impl<'a> Json<'a> {
    /// Of a text that Postgres has checked: it is only made sure that there is something. Of any other, members may be
    /// missed.
    #[doc(hidden)]
    pub fn of_postgres(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(is_space);
        (!text.is_empty()).then_some(Self(text))
    }

    /// The text, as Postgres holds it.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// let json = Json::from_text(r#"{"price": 1.50}"#).unwrap();
    /// assert_eq!(json.get("price").unwrap().as_str(), "1.50");
    /// ```
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// What it is.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json, JsonKind};
    /// assert_eq!(Json::from_text("null").unwrap().kind(), JsonKind::Null);
    /// ```
    pub fn kind(&self) -> JsonKind {
        match self.0.as_bytes().first() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::Text,
            Some(b't' | b'f') => JsonKind::Bool,
            Some(b'n') => JsonKind::Null,
            _ => JsonKind::Number,
        }
    }

    /// Whether it is `null`.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert!(Json::from_text("null").unwrap().is_null());
    /// ```
    pub fn is_null(&self) -> bool {
        self.kind() == JsonKind::Null
    }

    /// The member of that name, of an object; the last one where a json names it twice.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// let json = Json::from_text(r#"{"a": 1, "a": 2}"#).unwrap();
    /// assert_eq!(json.get("a").unwrap().as_i64(), Some(2));
    /// ```
    pub fn get(&self, name: &str) -> Option<Self> {
        let mut found = None;
        for (key, value) in self.members() {
            if key == name {
                found = Some(value);
            }
        }
        found
    }

    /// The element with that index, from 0, of an array.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text("[10, 20]").unwrap().at(1).unwrap().as_i64(), Some(20));
    /// ```
    pub fn at(&self, index: usize) -> Option<Self> {
        self.items().nth(index)
    }

    /// The elements of an array; none of anything else.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// let sum: i64 = Json::from_text("[1, 2]").unwrap().items().filter_map(|item| item.as_i64()).sum();
    /// assert_eq!(sum, 3);
    /// ```
    pub fn items(&self) -> Items<'a> {
        Items(Walk::into(self.0, b'['))
    }

    /// The members of an object; none of anything else.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// let json = Json::from_text(r#"{"a": 1, "b": 2}"#).unwrap();
    /// let names: Vec<_> = json.members().map(|(name, _)| name).collect();
    /// assert_eq!(names, ["a", "b"]);
    /// ```
    pub fn members(&self) -> Members<'a> {
        Members(Walk::into(self.0, b'{'))
    }

    /// The content of a string, borrowed where nothing in it is escaped. Always some, of a string.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text(r#""a\tb\u00e9""#).unwrap().as_text().unwrap(), "a\tbé");
    /// assert_eq!(Json::from_text(r#""\ud800!""#).unwrap().as_text().unwrap(), "\u{fffd}!");
    /// assert_eq!(Json::from_text("1").unwrap().as_text(), None);
    /// ```
    pub fn as_text(&self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(plain::unescape(inner))
    }

    /// A number that is an integer of 64 bits, however it is written.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// let int = |text| Json::from_text(text).unwrap().as_i64();
    /// assert_eq!(int("-7"), Some(-7));
    /// assert_eq!((int("7.00"), int("1.5e3"), int("1.5")), (Some(7), Some(1500), None));
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        match self.kind() {
            JsonKind::Number => self.0.parse().ok().or_else(|| plain::whole(self.0)),
            _ => None,
        }
    }

    /// A number, as the nearest float. [`as_str`](Self::as_str) has all of its digits.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text("1.5e3").unwrap().as_f64(), Some(1500.0));
    /// ```
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind() {
            JsonKind::Number => self.0.parse().ok(),
            _ => None,
        }
    }

    /// `true` or `false`.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text("false").unwrap().as_bool(), Some(false));
    /// ```
    pub fn as_bool(&self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl<'a> FromText<'a> for Json<'a> {
    const WANTED: &'static str = "a json";

    fn from_text(text: &'a str) -> Option<Self> {
        Self::of_postgres(text).filter(|json| check::is_json(json.0))
    }

    /// `None` says nothing: the column's type isn't known here.
    fn from_bytes(_: &'a [u8]) -> Option<Self> {
        None
    }

    fn from_column(text: &'a str, column: &Column) -> Option<Self> {
        match column.type_oid {
            types::JSON | types::JSONB => Self::of_postgres(text),
            _ => Self::from_text(text),
        }
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// What is left of an array or object.
#[derive(Clone, Debug)]
struct Walk<'a>(&'a str);

impl<'a> Walk<'a> {
    /// The content of `text` where it begins with this bracket, else nothing.
    fn into(text: &'a str, bracket: u8) -> Self {
        if text.as_bytes().first() != Some(&bracket) {
            return Self("");
        }
        Self(text.get(1..text.len() - 1).unwrap_or(""))
    }

    /// The next value, with what separates it from the following one passed over.
    fn value(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(is_space);
        let len = value_len(text.as_bytes())?;
        let value = text.get(..len)?;
        let rest = text.get(len..)?.trim_start_matches(is_space);
        self.0 = rest.strip_prefix([',', ':']).unwrap_or(rest);
        Some(value)
    }
}

/// How long the value is that `bytes` begin with, however deep it nests: no recursion.
fn value_len(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = super::quoted::end_of(bytes, at, false)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    (depth == 0 && at > 0).then_some(at)
}

/// The elements of a [`Json`] array.
///
/// ```
/// # use rowmill_plugin::postgres::{FromText, Json};
/// assert_eq!(Json::from_text("[1, [2, 3]]").unwrap().items().count(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Items<'a>(Walk<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        self.0.value().map(Json)
    }
}

/// The names and values of a [`Json`] object.
///
/// ```
/// # use rowmill_plugin::postgres::{FromText, Json};
/// assert_eq!(Json::from_text(r#"{"a": {"b": 1}}"#).unwrap().members().count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Members<'a>(Walk<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = Json(self.0.value()?).as_text()?;
        Some((name, Json(self.0.value()?)))
    }
}
