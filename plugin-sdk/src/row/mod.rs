//! A row as plugins see it: a cursor over the batch that decodes a value when it is asked for, and allocates nothing.

mod change;
mod key;
mod typed;
mod unusual;

pub use change::{Image, Op, Transaction};
pub use key::ReadKey;

use crate::projection::Named;
use crate::relation::{Column, Relation};
use crate::value::Value;
use crate::{Error, Result, ascii, host};
use rowmill_abi::{Reader, Token, image, op, short_f64, short_int, short_str};

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
    #[inline]
    pub fn value(&self, column: impl ReadKey) -> Result<Value<'a>> {
        let position = column.position(self.read)?;
        match self.start(position).and_then(|start| ascii::short(self.bytes, start)) {
            Some(text) => Ok(Value::Text(text)),
            None => unusual::any_value(*self, position),
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
            None => unusual::any_text(*self, position),
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
            None => unusual::any_int(*self, position),
        }
    }

    /// A number as a float, with the loss that this has for large ones; `None` is NULL. NaN, which a float and a numeric may
    /// be, is neither above nor below anything here, and above all else in Postgres.
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
            None => unusual::any_float(*self, position),
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
            _ => unusual::any_bool(*self, position),
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
            other => Err(unusual::no(*self, other, position, "a bytea")),
        }
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
            other @ Token::Ext(..) => Err(unusual::no(*self, other, position, "a value")),
            _ => Ok(false),
        }
    }

    /// The column of the table that stands there.
    fn column(&self, position: usize) -> Option<&'a Column> {
        let named = self.read.get(position)?;
        self.relation.columns.get(usize::from(named.index))
    }

    /// Whether a column has no value that could leave: absent, or unchanged.
    pub(crate) fn gap(&self, position: u16) -> Option<i8> {
        match self.token(position.into()) {
            Ok(Token::Ext(kind, _)) => Some(kind),
            _ => None,
        }
    }
}
