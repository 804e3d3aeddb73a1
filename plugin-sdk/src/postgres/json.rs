use super::FromText;
use std::borrow::Cow;

/// A json or jsonb value, read as far as it is asked for: nothing is parsed beforehand, and members are found by
/// passing over those before them.
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

    /// The content of a string, borrowed where nothing in it is escaped.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text(r#""a\tb\u00e9""#).unwrap().as_text().unwrap(), "a\tbé");
    /// assert_eq!(Json::from_text("1").unwrap().as_text(), None);
    /// ```
    pub fn as_text(&self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            unescape(inner).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// A number that is an integer of 64 bits.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Json};
    /// assert_eq!(Json::from_text("-7").unwrap().as_i64(), Some(-7));
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
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

    /// Postgres has checked it: it is only made sure that there is something.
    fn from_text(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(is_space);
        (!text.is_empty()).then_some(Self(text))
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

/// A string's content without its escapes.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut characters = escaped.chars();
        let made = match characters.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let (character, len) = code_point(escaped)?;
                plain.push(character);
                rest = escaped.get(len..)?;
                continue;
            }
            other => other,
        };
        plain.push(made);
        rest = characters.as_str();
    }
    plain.push_str(rest);
    Some(plain)
}

/// The character of `uXXXX`, or of two of them that are a surrogate pair, and how long that is.
fn code_point(escaped: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u32::from_str_radix(text.get(1..5)?, 16).ok();
    let high = unit(escaped)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 5));
    }
    let low = unit(escaped.get(5..)?.strip_prefix('\\')?)?
        .checked_sub(0xdc00)
        .filter(|low| *low < 0x400)?;
    let pair = 0x1_0000 + ((high - 0xd800) << 10) + low;
    Some((char::from_u32(pair)?, 11))
}
