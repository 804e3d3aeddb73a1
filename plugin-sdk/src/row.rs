//! A row as plugins see it: a cursor over the batch that decodes a value when it is asked for, and allocates nothing.

use crate::postgres::{self, FromText};
use crate::projection::{Named, ReadColumn};
use crate::relation::Relation;
use crate::value::Value;
use crate::{Error, Result, ascii, host};
use rowmill_abi::{Reader, Token, ext, image, op, short_f64, short_int, short_str};

/// What the change does to its row.
///
/// ```
/// use rowmill_plugin::{Op, Row};
///
/// fn is_new(row: &Row) -> bool {
///     matches!(row.op(), Op::Insert | Op::Read)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new row.
    Insert,
    /// A row has other values.
    Update,
    /// A row is gone.
    Delete,
    /// A row copied by the snapshot.
    Read,
}

impl Op {
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        Some(match u8::try_from(code).ok()? {
            op::INSERT => Self::Insert,
            op::UPDATE => Self::Update,
            op::DELETE => Self::Delete,
            op::READ => Self::Read,
            _ => return None,
        })
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Insert => op::INSERT,
            Self::Update => op::UPDATE,
            Self::Delete => op::DELETE,
            Self::Read => op::READ,
        }
    }
}

/// Which state of the row this is.
///
/// ```
/// use rowmill_plugin::{Image, Row};
///
/// fn is_old(row: &Row) -> bool {
///     row.image() != Image::New
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The row as it is now.
    New,
    /// The whole old row.
    Old,
    /// The key columns of the old row; the others are [`Value::Absent`].
    OldKey,
}

impl Image {
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        Some(match u8::try_from(code).ok()? {
            image::NEW => Self::New,
            image::OLD => Self::Old,
            image::OLD_KEY => Self::OldKey,
            _ => return None,
        })
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::New => image::NEW,
            Self::Old => image::OLD,
            Self::OldKey => image::OLD_KEY,
        }
    }
}

/// The transaction that a row is part of.
///
/// ```
/// use rowmill_plugin::Row;
///
/// fn committed_seconds(row: &Row) -> i64 {
///     row.transaction().commit_us / 1_000_000
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) index: u32,
    /// Its number at the source.
    pub xid: u32,
    /// Where it commits in the WAL.
    pub commit_lsn: u64,
    /// Microseconds since 1970.
    pub commit_us: i64,
}

/// One image of a row: an update with an old image is seen twice, old first.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[filter(read(status, total))]
/// fn large_and_paid(row: &Row) -> Result<bool> {
///     Ok(row.text("status")? == Some("paid") && row.float("total")? >= Some(100.0))
/// }
///
/// let mut plugin = testing::filter::<large_and_paid>();
/// assert_eq!(plugin.matches(row! { status: "paid", total: "250.00" }), Ok(true));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where each of the columns read begins in `bytes`.
    pub(crate) offsets: &'a [u32],
    pub(crate) relation: &'a Relation,
    pub(crate) read: &'a [Named],
    pub(crate) transaction: &'a Transaction,
    pub(crate) index: u32,
    /// As it came, checked.
    pub(crate) op: u8,
    pub(crate) image: u8,
    /// Whether any value is unchanged or absent.
    pub(crate) gaps: bool,
}

/// How a column is named: by the handle that [`Selection::read`](crate::Selection::read) gave, or by its name.
///
/// The attribute macros turn names into places while compiling. Elsewhere a name costs a comparison per column read.
///
/// ```
/// use rowmill_plugin::{ReadKey, Result, Row};
///
/// fn trimmed<'a>(row: &Row<'a>, column: impl ReadKey) -> Result<&'a str> {
///     Ok(row.text(column)?.unwrap_or("").trim())
/// }
/// ```
pub trait ReadKey: Copy {
    #[doc(hidden)]
    fn position(self, read: &[Named]) -> Result<usize>;
}

impl ReadKey for ReadColumn {
    #[inline]
    fn position(self, _: &[Named]) -> Result<usize> {
        Ok(self.0.into())
    }
}

impl ReadKey for &str {
    fn position(self, read: &[Named]) -> Result<usize> {
        read.iter()
            .position(|column| column.name == self)
            .ok_or_else(|| Error::new(format!("column {self} is read but not declared as such")))
    }
}

impl<'a> Row<'a> {
    /// What the change does to the row; both images of an update have it.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Row};
    /// fn is_copied(row: &Row) -> bool {
    ///     row.op() == Op::Read
    /// }
    /// ```
    pub fn op(&self) -> Op {
        match self.op {
            op::UPDATE => Op::Update,
            op::DELETE => Op::Delete,
            op::READ => Op::Read,
            _ => Op::Insert,
        }
    }

    /// Which state of the row this is.
    ///
    /// ```
    /// # use rowmill_plugin::{Image, Row};
    /// fn has_only_its_key(row: &Row) -> bool {
    ///     row.image() == Image::OldKey
    /// }
    /// ```
    pub fn image(&self) -> Image {
        match self.image {
            image::OLD => Image::Old,
            image::OLD_KEY => Image::OldKey,
            _ => Image::New,
        }
    }

    /// The version of the table that the row is of.
    ///
    /// ```
    /// # use rowmill_plugin::Row;
    /// fn is_order(row: &Row) -> bool {
    ///     row.relation().table == "orders"
    /// }
    /// ```
    pub fn relation(&self) -> &'a Relation {
        self.relation
    }

    /// The transaction that it is part of.
    ///
    /// ```
    /// # use rowmill_plugin::Row;
    /// fn committed_us(row: &Row) -> i64 {
    ///     row.transaction().commit_us
    /// }
    /// ```
    pub fn transaction(&self) -> &'a Transaction {
        self.transaction
    }

    /// Random bytes that are the same whenever this row is processed again.
    ///
    /// ```
    /// # use rowmill_plugin::Row;
    /// /// One row in ten, the same ones whenever it is asked.
    /// fn is_sampled(row: &Row) -> bool {
    ///     let mut byte = [0];
    ///     row.random(&mut byte);
    ///     byte[0] < 26
    /// }
    /// ```
    pub fn random(&self, bytes: &mut [u8]) {
        host::random(self.index, bytes);
    }

    /// A text of at most 255 bytes, not yet checked to be UTF-8: what most texts are.
    #[inline]
    fn short_text(&self, position: usize) -> Option<&'a [u8]> {
        short_str(self.bytes, self.start(position)?)
    }

    #[inline]
    fn start(&self, position: usize) -> Option<usize> {
        self.offsets.get(position).map(|start| *start as usize)
    }

    #[inline]
    fn token(&self, position: usize) -> Result<Token<'a>> {
        match self.offsets.get(position) {
            Some(start) => Ok(Reader::starting_at(self.bytes, *start as usize).token()?),
            None => Err(Error::new("a column that this table's rows don't carry")),
        }
    }

    /// The value with its type, unchanged and absent ones as such.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row, Value};
    /// fn length(row: &Row) -> Result<Option<usize>> {
    ///     Ok(match row.value("note")? {
    ///         Value::Text(text) => Some(text.len()),
    ///         Value::Unchanged | Value::Absent => None,
    ///         _ => Some(0),
    ///     })
    /// }
    /// ```
    pub fn value(&self, column: impl ReadKey) -> Result<Value<'a>> {
        let position = column.position(self.read)?;
        match self.offsets.get(position) {
            Some(start) => Ok(Value::read(&mut Reader::starting_at(self.bytes, *start as usize))?),
            None => Err(Error::new("a column that this table's rows don't carry")),
        }
    }

    /// A text, or any value of a type that comes as Postgres' text; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_paid(row: &Row) -> Result<bool> {
    ///     Ok(row.text("status")? == Some("paid"))
    /// }
    /// ```
    #[inline]
    pub fn text(&self, column: impl ReadKey) -> Result<Option<&'a str>> {
        let position = column.position(self.read)?;
        match self.start(position).and_then(|start| ascii::short(self.bytes, start)) {
            Some(text) => Ok(Some(text)),
            None => any_text(*self, position),
        }
    }

    /// An integer, or a text that is one (a numeric without fraction); `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_large(row: &Row) -> Result<bool> {
    ///     Ok(row.int("total")? >= Some(100))
    /// }
    /// ```
    #[inline]
    pub fn int(&self, column: impl ReadKey) -> Result<Option<i64>> {
        let position = column.position(self.read)?;
        match self.start(position).and_then(|start| short_int(self.bytes, start)) {
            Some(value) => Ok(Some(value)),
            None => any_int(*self, position),
        }
    }

    /// A number as a float, with the loss that this has for large ones; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_warm(row: &Row) -> Result<bool> {
    ///     Ok(row.float("degrees")? > Some(20.5))
    /// }
    /// ```
    #[inline]
    pub fn float(&self, column: impl ReadKey) -> Result<Option<f64>> {
        let position = column.position(self.read)?;
        match self.start(position).and_then(|start| short_f64(self.bytes, start)) {
            Some(value) => Ok(Some(value)),
            None => any_float(*self, position),
        }
    }

    /// `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_active(row: &Row) -> Result<bool> {
    ///     Ok(row.bool("active")? == Some(true))
    /// }
    /// ```
    #[inline]
    pub fn bool(&self, column: impl ReadKey) -> Result<Option<bool>> {
        let position = column.position(self.read)?;
        match self.start(position).and_then(|start| self.bytes.get(start)) {
            Some(0xc2) => Ok(Some(false)),
            Some(0xc3) => Ok(Some(true)),
            _ => any_bool(*self, position),
        }
    }

    /// A bytea; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn size(row: &Row) -> Result<usize> {
    ///     Ok(row.bytes("picture")?.map_or(0, |bytes| bytes.len()))
    /// }
    /// ```
    #[inline]
    pub fn bytes(&self, column: impl ReadKey) -> Result<Option<&'a [u8]>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Bin(bytes) => Ok(Some(bytes)),
            Token::Nil => Ok(None),
            other => Err(no(*self, other, position, "a bytea")),
        }
    }

    /// A value of any type that can be read from Postgres' text, such as those of [`postgres`], or from the number or
    /// boolean that the column comes as; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row, postgres::Date};
    /// fn born(row: &Row) -> Result<Option<Date>> {
    ///     row.get("born")
    /// }
    /// ```
    #[inline]
    pub fn get<T: FromText<'a>>(&self, column: impl ReadKey) -> Result<Option<T>> {
        let position = column.position(self.read)?;
        match self.short_text(position).and_then(T::from_bytes) {
            Some(value) => Ok(Some(value)),
            None => get_any(*self, position),
        }
    }

    /// A uuid; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.uuid("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn uuid(&self, column: impl ReadKey) -> Result<Option<postgres::Uuid>> {
        self.get(column)
    }

    /// A date; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.date("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn date(&self, column: impl ReadKey) -> Result<Option<postgres::Date>> {
        self.get(column)
    }

    /// A time; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.time("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn time(&self, column: impl ReadKey) -> Result<Option<postgres::Time>> {
        self.get(column)
    }

    /// A time with time zone; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.time_tz("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn time_tz(&self, column: impl ReadKey) -> Result<Option<postgres::TimeTz>> {
        self.get(column)
    }

    /// A timestamp; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.timestamp("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn timestamp(&self, column: impl ReadKey) -> Result<Option<postgres::Timestamp>> {
        self.get(column)
    }

    /// A timestamptz; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.timestamp_tz("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn timestamp_tz(&self, column: impl ReadKey) -> Result<Option<postgres::TimestampTz>> {
        self.get(column)
    }

    /// An interval; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.interval("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn interval(&self, column: impl ReadKey) -> Result<Option<postgres::Interval>> {
        self.get(column)
    }

    /// A numeric or an integer, without loss; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.numeric("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn numeric(&self, column: impl ReadKey) -> Result<Option<postgres::Numeric<'a>>> {
        self.get(column)
    }

    /// A json or jsonb, read as far as it is asked for; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.json("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn json(&self, column: impl ReadKey) -> Result<Option<postgres::Json<'a>>> {
        self.get(column)
    }

    /// An array; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.array("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn array(&self, column: impl ReadKey) -> Result<Option<postgres::Array<'a>>> {
        self.get(column)
    }

    /// A range; `None` is NULL.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_set(row: &Row) -> Result<bool> {
    ///     Ok(row.range("c")?.is_some())
    /// }
    /// ```
    #[inline]
    pub fn range(&self, column: impl ReadKey) -> Result<Option<postgres::Range<'a>>> {
        self.get(column)
    }

    /// Whether it is NULL, which neither unchanged nor absent values are.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, Row};
    /// fn is_open(row: &Row) -> Result<bool> {
    ///     row.is_null("paid_at")
    /// }
    /// ```
    #[inline]
    pub fn is_null(&self, column: impl ReadKey) -> Result<bool> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Nil => Ok(true),
            other @ Token::Ext(..) => Err(no(*self, other, position, "a value")),
            _ => Ok(false),
        }
    }

    /// Whether a column has no value that could leave: absent, or unchanged.
    pub(crate) fn gap(&self, position: u16) -> Option<i8> {
        match self.token(position.into()) {
            Ok(Token::Ext(kind, _)) => Some(kind),
            _ => None,
        }
    }
}

// What follows gets the row by value, not by reference: so a row of which nothing unusual is asked lives in registers.

#[inline(never)]
fn any_text(row: Row<'_>, position: usize) -> Result<Option<&str>> {
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
fn any_int(row: Row<'_>, position: usize) -> Result<Option<i64>> {
    match row.token(position)? {
        Token::Int(value) => Ok(Some(value)),
        Token::Nil => Ok(None),
        other => parsed(row, other, position, "an integer"),
    }
}

#[inline(never)]
fn any_float(row: Row<'_>, position: usize) -> Result<Option<f64>> {
    match row.token(position)? {
        Token::F64(value) => Ok(Some(value)),
        Token::F32(value) => Ok(Some(value.into())),
        Token::Int(value) => Ok(Some(value as f64)),
        Token::Nil => Ok(None),
        other => parsed(row, other, position, "a number"),
    }
}

#[inline(never)]
fn any_bool(row: Row<'_>, position: usize) -> Result<Option<bool>> {
    match row.token(position)? {
        Token::Bool(value) => Ok(Some(value)),
        Token::Nil => Ok(None),
        other => Err(no(row, other, position, "a boolean")),
    }
}

#[inline(never)]
fn get_any<'a, T: FromText<'a>>(row: Row<'a>, position: usize) -> Result<Option<T>> {
    let token = row.token(position)?;
    let value = match token {
        Token::Str(text) => T::from_text(std::str::from_utf8(text)?),
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
fn no(row: Row<'_>, found: Token<'_>, position: usize, wanted: &str) -> Error {
    let column = row.read.get(position).map_or("", |column| &column.name);
    let (code, is) = match found {
        Token::Ext(ext::UNCHANGED, _) => ("unchanged", "unchanged TOAST that the server didn't send"),
        Token::Ext(ext::ABSENT, _) => ("absent", "absent from this image"),
        _ => return Error::new(format!("column {column} is not {wanted}")).with_code("type"),
    };
    Error::new(format!("column {column} is {is}")).with_code(code)
}
