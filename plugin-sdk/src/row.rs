//! A row as plugins see it: a cursor over the batch that decodes a value when it is asked for, and allocates nothing.

use crate::postgres::{self, FromText};
use crate::projection::{Named, ReadColumn};
use crate::relation::Relation;
use crate::value::Value;
use crate::{Error, Result, host};
use rowmill_abi::{Reader, Token, ext, image, op};

/// What the change does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Insert,
    Update,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
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

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::New => image::NEW,
            Self::Old => image::OLD,
            Self::OldKey => image::OLD_KEY,
        }
    }
}

/// The transaction that a row is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) index: u32,
    pub xid: u32,
    pub commit_lsn: u64,
    /// Microseconds since 1970.
    pub commit_us: i64,
}

/// One image of a row: an update with an old image is seen twice, old first.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where each of the columns read begins in `bytes`.
    pub(crate) offsets: &'a [u32],
    pub(crate) relation: &'a Relation,
    pub(crate) read: &'a [Named],
    pub(crate) transaction: &'a Transaction,
    pub(crate) index: u32,
    pub(crate) op: Op,
    pub(crate) image: Image,
    /// Whether any value is unchanged or absent.
    pub(crate) gaps: bool,
}

/// How a column is named: by the handle that [`Selection::read`](crate::Selection::read) gave, or by its name.
///
/// The attribute macros turn names into places while compiling. Elsewhere a name costs a comparison per column read.
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
    pub fn op(&self) -> Op {
        self.op
    }

    pub fn image(&self) -> Image {
        self.image
    }

    pub fn relation(&self) -> &'a Relation {
        self.relation
    }

    pub fn transaction(&self) -> &'a Transaction {
        self.transaction
    }

    /// Random bytes that are the same whenever this row is processed again.
    pub fn random(&self, bytes: &mut [u8]) {
        host::random(self.index, bytes);
    }

    #[inline]
    fn token(&self, position: usize) -> Result<Token<'a>> {
        match self.offsets.get(position) {
            Some(start) => Ok(Reader::starting_at(self.bytes, *start as usize).token_quick()?),
            None => Err(Error::new("a column that this table's rows don't carry")),
        }
    }

    /// The value with its type, unchanged and absent ones as such.
    pub fn value(&self, column: impl ReadKey) -> Result<Value<'a>> {
        let position = column.position(self.read)?;
        match self.offsets.get(position) {
            Some(start) => Ok(Value::read(&mut Reader::starting_at(self.bytes, *start as usize))?),
            None => Err(Error::new("a column that this table's rows don't carry")),
        }
    }

    /// A text, or any value of a type that comes as Postgres' text; `None` is NULL.
    #[inline]
    pub fn text(&self, column: impl ReadKey) -> Result<Option<&'a str>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Str(text) => Ok(Some(std::str::from_utf8(text)?)),
            Token::Nil => Ok(None),
            other => Err(self.no(other, position, "text")),
        }
    }

    /// An integer, or a text that is one (a numeric without fraction); `None` is NULL.
    #[inline]
    pub fn int(&self, column: impl ReadKey) -> Result<Option<i64>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Int(value) => Ok(Some(value)),
            Token::Nil => Ok(None),
            other => self.parsed(other, position, "an integer"),
        }
    }

    /// A number as a float, with the loss that this has for large ones; `None` is NULL.
    #[inline]
    pub fn float(&self, column: impl ReadKey) -> Result<Option<f64>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::F64(value) => Ok(Some(value)),
            Token::F32(value) => Ok(Some(value.into())),
            Token::Int(value) => Ok(Some(value as f64)),
            Token::Nil => Ok(None),
            other => self.parsed(other, position, "a number"),
        }
    }

    /// `None` is NULL.
    #[inline]
    pub fn bool(&self, column: impl ReadKey) -> Result<Option<bool>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Bool(value) => Ok(Some(value)),
            Token::Nil => Ok(None),
            other => Err(self.no(other, position, "a boolean")),
        }
    }

    /// A bytea; `None` is NULL.
    #[inline]
    pub fn bytes(&self, column: impl ReadKey) -> Result<Option<&'a [u8]>> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Bin(bytes) => Ok(Some(bytes)),
            Token::Nil => Ok(None),
            other => Err(self.no(other, position, "a bytea")),
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
    pub fn get<T: FromText<'a>>(&self, column: impl ReadKey) -> Result<Option<T>> {
        let position = column.position(self.read)?;
        let token = self.token(position)?;
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
            None => Err(self.no(token, position, T::WANTED)),
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
    pub fn range(&self, column: impl ReadKey) -> Result<Option<postgres::Range<'a>>> {
        self.get(column)
    }

    /// Whether it is NULL, which neither unchanged nor absent values are.
    #[inline]
    pub fn is_null(&self, column: impl ReadKey) -> Result<bool> {
        let position = column.position(self.read)?;
        match self.token(position)? {
            Token::Nil => Ok(true),
            other @ Token::Ext(..) => Err(self.no(other, position, "a value")),
            _ => Ok(false),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, found: Token<'_>, position: usize, wanted: &str) -> Result<Option<T>> {
        let text = match found {
            Token::Str(text) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        match text.and_then(|text| text.parse().ok()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.no(found, position, wanted)),
        }
    }

    /// Names the column, never the value.
    #[cold]
    fn no(&self, found: Token<'_>, position: usize, wanted: &str) -> Error {
        let column = self.read.get(position).map_or("", |column| &column.name);
        let (code, is) = match found {
            Token::Ext(ext::UNCHANGED, _) => ("unchanged", "unchanged TOAST that the server didn't send"),
            Token::Ext(ext::ABSENT, _) => ("absent", "absent from this image"),
            _ => return Error::new(format!("column {column} is not {wanted}")).with_code("type"),
        };
        Error::new(format!("column {column} is {is}")).with_code(code)
    }

    /// Whether a column has no value that could leave: absent, or unchanged.
    pub(crate) fn gap(&self, position: u16) -> Option<i8> {
        match self.token(position.into()) {
            Ok(Token::Ext(kind, _)) => Some(kind),
            _ => None,
        }
    }
}
