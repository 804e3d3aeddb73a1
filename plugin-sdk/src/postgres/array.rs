use super::FromText;
use super::quoted::{end_of, unescape};
use super::scan::Scan;
use crate::{Column, Error, Result};
use std::borrow::Cow;

/// As many dimensions as Postgres allows (MAXDIM).
const DIMENSIONS_MAX: usize = 6;

/// An array with its dimensions and their bounds. Checked as a whole and read element by element, from the batch.
///
/// Its elements are separated by commas, unless their type says otherwise: those of `box` by semicolons, those of PostGIS'
/// `geometry` and `geography` by colons. The accessors of a [`Row`](crate::Row) know these by the column's type, which a text
/// alone doesn't tell: see [`delimited`](Self::delimited).
///
/// ```
/// use rowmill_plugin::postgres::{Array, FromText};
///
/// let tags = Array::from_text(r#"{plain,"with, comma",NULL}"#).unwrap();
/// let texts: Vec<_> = tags.elements().map(|element| element.text()).collect();
/// assert_eq!(texts, [Some("plain".into()), Some("with, comma".into()), None]);
///
/// let matrix = Array::from_text("[0:1][1:2]={{1,2},{3,4}}").unwrap();
/// assert_eq!(matrix.dimensions()[0].lower, 0);
/// assert_eq!(matrix.dimensions()[1].len, 2);
/// assert_eq!(matrix.elements().filter_map(|element| element.get::<i32>()).sum::<i32>(), 10);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    /// From the first brace on.
    text: &'a str,
    delimiter: u8,
    dimensions: [Dimension; DIMENSIONS_MAX],
    dimension_count: usize,
}

/// One dimension of an [`Array`].
///
/// ```
/// # use rowmill_plugin::postgres::{Array, Dimension, FromText};
/// let array = Array::from_text("[-1:0]={1,2}").unwrap();
/// assert_eq!(array.dimensions(), [Dimension { lower: -1, len: 2 }]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dimension {
    /// The index of the first element; 1 unless it was given otherwise.
    pub lower: i32,
    /// How many there are.
    pub len: u32,
}

impl<'a> Array<'a> {
    /// An array of a type whose delimiter (`typdelim` of `pg_type`) is another than a comma, such as `box`. None where the
    /// delimiter can be none: a brace, a quote, a backslash, a part of a character.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Array;
    /// let boxes = Array::delimited("{(1,1),(0,0);(3,3),(2,2)}", b';').unwrap();
    /// let texts: Vec<_> = boxes.elements().map(|element| element.text().unwrap()).collect();
    /// assert_eq!(texts, ["(1,1),(0,0)", "(3,3),(2,2)"]);
    /// ```
    pub fn delimited(text: &'a str, delimiter: u8) -> Option<Self> {
        if !delimiter.is_ascii() || b"{}\"\\".contains(&delimiter) {
            return None;
        }
        let mut scan = Scan::new(text);
        let mut dimensions = [Dimension { lower: 1, len: 0 }; DIMENSIONS_MAX];
        let mut count = 0;
        while scan.eat(b'[') {
            *dimensions.get_mut(count)? = bounds(&mut scan)?;
            count += 1;
        }
        if count > 0 {
            scan.eat(b'=').then_some(())?;
        }
        let mut array = Self {
            text: text.get(text.len() - scan.0.len()..)?,
            delimiter,
            dimensions,
            dimension_count: count,
        };
        array.check()?;
        (count == 0 || array.dimension_count == count).then_some(array)
    }

    /// The dimensions, outermost first; none where the array is empty.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// assert_eq!(Array::from_text("{{1,2,3}}").unwrap().dimensions().len(), 2);
    /// assert!(Array::from_text("{}").unwrap().dimensions().is_empty());
    /// ```
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions[..self.dimension_count]
    }

    /// How many elements there are, over all dimensions.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// assert_eq!(Array::from_text("{{1,2},{3,NULL}}").unwrap().len(), 4);
    /// ```
    pub fn len(&self) -> usize {
        match self.dimensions() {
            [] => 0,
            some => some.iter().map(|dimension| dimension.len as usize).product(),
        }
    }

    /// Whether there is none.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// assert!(Array::from_text("{}").unwrap().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.dimension_count == 0
    }

    /// All elements in the order in which Postgres stores them: the last dimension varies fastest.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// let array = Array::from_text("{1,NULL,3}").unwrap();
    /// let values: Vec<Option<i32>> = array.elements().map(|element| element.get()).collect();
    /// assert_eq!(values, [Some(1), None, Some(3)]);
    /// ```
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            text: self.text,
            delimiter: self.delimiter,
            at: 0,
        }
    }

    /// Checks the braces and fills in the lengths of the dimensions.
    fn check(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        if bytes == b"{}" {
            return (self.dimension_count == 0).then_some(());
        }
        let (mut depth, mut at, mut deepest) = (0usize, 0usize, 0usize);
        let mut counts = [0u32; DIMENSIONS_MAX];
        // Whether an element or a subarray must come, and not a comma or a closing brace.
        let mut wants = true;
        loop {
            match (*bytes.get(at)?, wants) {
                (b'{', true) => {
                    // No subarray stands beside elements.
                    (depth < DIMENSIONS_MAX && (deepest == 0 || depth < deepest)).then_some(())?;
                    *counts.get_mut(depth)? = 0;
                    depth += 1;
                    at += 1;
                }
                (b'}', false) => {
                    depth = depth.checked_sub(1)?;
                    self.close(depth, counts[depth])?;
                    at += 1;
                    if depth == 0 {
                        self.dimension_count = deepest;
                        return (at == bytes.len()).then_some(());
                    }
                    counts[depth - 1] += 1;
                }
                (byte, false) if byte == self.delimiter => {
                    wants = true;
                    at += 1;
                }
                (_, true) => {
                    deepest = if deepest == 0 { depth } else { deepest };
                    (depth == deepest && depth > 0).then_some(())?;
                    at = end_of_element(bytes, at, self.delimiter)?;
                    counts[depth - 1] = counts[depth - 1].checked_add(1)?;
                    wants = false;
                }
                _ => return None,
            }
        }
    }

    /// A brace closes: all of one dimension must be of one length.
    fn close(&mut self, depth: usize, count: u32) -> Option<()> {
        let dimension = &mut self.dimensions[depth];
        if dimension.len == 0 {
            dimension.len = count;
        }
        (dimension.len == count).then_some(())
    }
}

/// The place behind an element, which isn't empty.
fn end_of_element(bytes: &[u8], start: usize, delimiter: u8) -> Option<usize> {
    if bytes.get(start) == Some(&b'"') {
        return end_of(bytes, start, false);
    }
    let mut at = start;
    loop {
        match *bytes.get(at)? {
            b'{' | b'}' | b'"' => break,
            byte if byte == delimiter => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    (at > start).then_some(at)
}

impl<'a> FromText<'a> for Array<'a> {
    const WANTED: &'static str = "an array";

    /// Of a type whose elements are separated by commas.
    fn from_text(text: &'a str) -> Option<Self> {
        Self::delimited(text, b',')
    }

    /// `None` says nothing: the column's type isn't known here.
    fn from_bytes(_: &'a [u8]) -> Option<Self> {
        None
    }

    fn from_column(text: &'a str, column: &Column) -> Option<Self> {
        Self::delimited(text, delimiter(column))
    }
}

/// What separates the elements of this column's arrays: of all types that come with Postgres only `box` has something else
/// than a comma.
fn delimiter(column: &Column) -> u8 {
    const BOXES: u32 = 1020;
    if column.type_oid == BOXES {
        return b';';
    }
    // Types of an extension have other OIDs everywhere, and a schema before their names where it isn't searched.
    let name = column.type_name.rsplit('.').next();
    match name {
        Some("geometry[]" | "geography[]") => b':',
        _ => b',',
    }
}

/// `0:1]` behind its bracket.
fn bounds(scan: &mut Scan<'_>) -> Option<Dimension> {
    let mut signed = |end| {
        let negative = scan.eat(b'-');
        let number = scan.number()?;
        scan.eat(end).then_some(if negative { -number } else { number })
    };
    let (lower, upper) = (signed(b':')?, signed(b']')?);
    let len = u32::try_from(upper.checked_sub(lower)?.checked_add(1)?).ok()?;
    (len > 0).then_some(Dimension {
        lower: i32::try_from(lower).ok()?,
        len,
    })
}

/// The elements of an [`Array`].
///
/// ```
/// # use rowmill_plugin::postgres::{Array, FromText};
/// let mut elements = Array::from_text("{1,2}").unwrap().elements();
/// assert_eq!(elements.next().unwrap().get::<i16>(), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a str,
    delimiter: u8,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let bytes = self.text.as_bytes();
        while [b'{', b'}', self.delimiter].contains(bytes.get(self.at)?) {
            self.at += 1;
        }
        let start = self.at;
        self.at = end_of_element(bytes, start, self.delimiter)?;
        Some(Element::read(self.text.get(start..self.at)?))
    }
}

/// An element of an [`Array`].
///
/// ```
/// # use rowmill_plugin::postgres::{Array, FromText};
/// let element = Array::from_text(r#"{"a \"quoted\" one"}"#).unwrap().elements().next().unwrap();
/// assert_eq!(element.text().unwrap(), r#"a "quoted" one"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a>(Option<Cow<'a, str>>);

impl<'a> Element<'a> {
    fn read(text: &'a str) -> Self {
        Self(match text.strip_prefix('"') {
            Some(quoted) => Some(unescape(quoted.strip_suffix('"').unwrap_or(quoted))),
            None if text.eq_ignore_ascii_case("null") => None,
            None => Some(unescape(text)),
        })
    }

    /// Its text, borrowed from the batch where nothing in it is escaped; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// let mut elements = Array::from_text(r#"{NULL,"NULL"}"#).unwrap().elements();
    /// assert_eq!(elements.next().unwrap().text(), None);
    /// assert_eq!(elements.next().unwrap().text().unwrap(), "NULL");
    /// ```
    pub fn text(&self) -> Option<Cow<'a, str>> {
        self.0.clone()
    }

    /// Its value, which may borrow from the element; `None` where it is NULL or isn't one of that type, which
    /// [`try_get`](Self::try_get) tells apart.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, Date, FromText, Json};
    /// let day = Array::from_text("{2024-02-29}").unwrap().elements().next().unwrap();
    /// assert_eq!(day.get::<Date>(), Date::from_ymd(2024, 2, 29));
    /// let object = Array::from_text(r#"{"{\"a\": 1}"}"#).unwrap().elements().next().unwrap();
    /// assert_eq!(object.get::<Json>().unwrap().as_str(), r#"{"a": 1}"#);
    /// ```
    pub fn get<'b, T: FromText<'b>>(&'b self) -> Option<T> {
        T::from_text(self.0.as_deref()?)
    }

    /// Its value as [`get`](Self::get) has it; `None` is NULL, and what isn't one of that type is an error.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Array, FromText};
    /// let elements: Vec<_> = Array::from_text("{1,NULL,70000}").unwrap().elements().collect();
    /// assert_eq!(elements[0].try_get::<i16>(), Ok(Some(1)));
    /// assert_eq!(elements[1].try_get::<i16>(), Ok(None));
    /// assert_eq!(elements[2].try_get::<i16>().unwrap_err().reason(), "an element of an array is not a smallint");
    /// ```
    pub fn try_get<'b, T: FromText<'b>>(&'b self) -> Result<Option<T>> {
        let Some(text) = self.0.as_deref() else {
            return Ok(None);
        };
        match T::from_text(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::new(format!("an element of an array is not {}", T::WANTED)).with_code("type")),
        }
    }
}
