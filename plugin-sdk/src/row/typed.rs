//! Accessors of Postgres' types beyond integers, floats, booleans, text and bytes.

use super::{ReadKey, Row, unusual};
use crate::Result;
use crate::postgres::{self, FromText};
use rowmill_abi::short_block;

impl<'a> Row<'a> {
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
        let block = self.start(position).and_then(|start| short_block(self.bytes, start));
        match block.and_then(|(text, len)| T::from_block(text, len)) {
            Some(value) => Ok(Some(value)),
            None => unusual::get_any(*self, position),
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

    /// A json or jsonb, read as far as it is asked for, or a text that is one, which is checked first; `None` is NULL.
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

    /// An array; `None` is NULL. One of a type of your own that has another delimiter than a comma is read by
    /// [`Array::delimited`](postgres::Array::delimited).
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
}
