use super::FromText;
use super::quoted::{end_of, unescape};
use crate::{Error, Result};
use std::borrow::Cow;

/// A range of any type: empty, or two bounds of which either may be left out.
///
/// ```
/// use rowmill_plugin::postgres::{Date, FromText, Range};
///
/// let stay = Range::from_text("[2024-02-01,2024-02-29)").unwrap();
/// let Range::Between(from, to) = &stay else { panic!("it isn't empty") };
/// assert!(from.is_inclusive && !to.is_inclusive);
/// assert_eq!(to.get::<Date>(), Date::from_ymd(2024, 2, 29));
/// assert_eq!(Range::from_text("empty"), Some(Range::Empty));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range<'a> {
    /// It holds nothing.
    Empty,
    /// What lies between the lower and the upper bound.
    Between(Bound<'a>, Bound<'a>),
}

/// A bound of a [`Range`].
///
/// ```
/// # use rowmill_plugin::postgres::{FromText, Range};
/// let Some(Range::Between(lower, upper)) = Range::from_text("(,10]") else { panic!("a range") };
/// assert_eq!(lower.text, None);
/// assert_eq!(upper.get::<i32>(), Some(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Postgres' text of it; `None` where the range has no end there.
    pub text: Option<Cow<'a, str>>,
    /// Whether the bound itself belongs to the range.
    pub is_inclusive: bool,
}

impl Bound<'_> {
    /// The bound as a value; `None` where there is no bound, or it isn't one of that type, which
    /// [`try_get`](Self::try_get) tells apart.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Range};
    /// let Some(Range::Between(lower, _)) = Range::from_text("[1,10)") else { panic!("a range") };
    /// assert_eq!(lower.get::<i64>(), Some(1));
    /// ```
    pub fn get<'b, T: FromText<'b>>(&'b self) -> Option<T> {
        T::from_text(self.text.as_deref()?)
    }

    /// The bound as a value; `None` where the range has no end there, and what isn't one of that type is an error.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Range};
    /// let Some(Range::Between(lower, upper)) = Range::from_text("[70000,)") else { panic!("a range") };
    /// assert_eq!(upper.try_get::<i16>(), Ok(None));
    /// assert_eq!(lower.try_get::<i16>().unwrap_err().reason(), "a bound of a range is not a smallint");
    /// ```
    pub fn try_get<'b, T: FromText<'b>>(&'b self) -> Result<Option<T>> {
        let Some(text) = self.text.as_deref() else {
            return Ok(None);
        };
        match T::from_text(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::new(format!("a bound of a range is not {}", T::WANTED)).with_code("type")),
        }
    }
}

impl<'a> FromText<'a> for Range<'a> {
    const WANTED: &'static str = "a range";

    fn from_text(text: &'a str) -> Option<Self> {
        if text == "empty" {
            return Some(Self::Empty);
        }
        let bytes = text.as_bytes();
        let lower_inclusive = opening(bytes.first()?)?;
        let (lower, at) = bound(text, 1, b",")?;
        let (upper, at) = bound(text, at + 1, b")]")?;
        let upper_inclusive = bytes.get(at)? == &b']';
        let made = |text, is_inclusive| Bound { text, is_inclusive };
        (at + 1 == bytes.len()).then(|| Self::Between(made(lower, lower_inclusive), made(upper, upper_inclusive)))
    }
}

fn opening(byte: &u8) -> Option<bool> {
    match byte {
        b'[' => Some(true),
        b'(' => Some(false),
        _ => None,
    }
}

/// The bound that begins at `start`, and where the one of `ends` stands that follows it.
fn bound<'a>(text: &'a str, start: usize, ends: &[u8]) -> Option<(Option<Cow<'a, str>>, usize)> {
    let bytes = text.as_bytes();
    if bytes.get(start) == Some(&b'"') {
        let end = end_of(bytes, start, true)?;
        ends.contains(bytes.get(end)?).then_some(())?;
        return Some((Some(unescape(text.get(start + 1..end - 1)?)), end));
    }
    let len = bytes.get(start..)?.iter().position(|byte| ends.contains(byte))?;
    let plain = text.get(start..start + len)?;
    // Postgres quotes a bound that has one of these in it.
    let is_plain = !plain.contains(['"', '\\', '(', ')', '[', ']', ',']);
    is_plain.then_some(())?;
    Some(((!plain.is_empty()).then_some(Cow::Borrowed(plain)), start + len))
}
