//! What a transform answers for a row. Nothing said is: it goes on as it is.

mod scratch;

pub(crate) use scratch::{Scratch, header, reject};

use crate::projection::{Named, WriteColumn};
use crate::row::Op;
use crate::value::{ToValue, Value};
use crate::{Error, Result};
use rowmill_abi::{FAN_OUT_MAX, Writer, action};
use scratch::{FIRST_ELEMENTS, Fate, begin_patch};
use std::borrow::Cow;

/// The changes to one image of a row.
///
/// What is said of a row holds together, in whatever order it is said:
///
/// - [`drop_change`](Self::drop_change) and [`stop`](Self::stop) are final: what is said before or behind them counts no
///   more, but that `stop` goes before `drop_change`. An error, the function's own or that of a column that isn't declared,
///   rejects a row that is dropped; one that stops the pipeline does so all the same.
/// - Else a row is patched ([`set`](Self::set)), replaced ([`replace`](Self::replace)) or made into several
///   ([`emit`](Self::emit), [`emit_to`](Self::emit_to)). Two of these reject it, under the code `patch`.
/// - [`route`](Self::route) goes for a row that is patched and for all rows that `emit` makes of it. One that is replaced
///   can't be sent elsewhere: it is rejected, under the code `patch`.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[transform(read(email), write(email))]
/// fn hide(row: &Row, patch: &mut Patch) -> Result<()> {
///     if row.text("email")?.is_some() {
///         patch.set("email", "***");
///     }
///     Ok(())
/// }
///
/// let mut plugin = testing::transform::<hide>();
/// assert_eq!(plugin.apply(row! { email: "ada@example.org" }).row(), row! { email: "***" });
/// ```
#[derive(Debug)]
pub struct Patch<'a> {
    scratch: &'a mut Scratch,
    writes: &'a [Named],
    /// The row's index in the batch.
    row: u32,
    /// The reply.
    out: &'a mut Writer,
}

/// How a column is named: by the handle that [`Selection::write`](crate::Selection::write) gave, or by its name.
///
/// ```
/// use rowmill_plugin::{Patch, WriteColumn, WriteKey};
///
/// fn blank(patch: &mut Patch, column: impl WriteKey) {
///     patch.set(column, "");
/// }
///
/// fn blank_both(patch: &mut Patch, email: WriteColumn) {
///     blank(patch, email);
///     blank(patch, "phone");
/// }
/// ```
pub trait WriteKey: Copy {
    #[doc(hidden)]
    fn index(self, writes: &[Named]) -> Result<u16>;
}

impl WriteKey for WriteColumn {
    #[inline]
    fn index(self, writes: &[Named]) -> Result<u16> {
        match writes.get(usize::from(self.0)) {
            Some(column) => Ok(column.index),
            None => Err(Error::new("a column that isn't written in this table")),
        }
    }
}

impl WriteKey for &str {
    fn index(self, writes: &[Named]) -> Result<u16> {
        writes
            .iter()
            .find(|column| column.name == self)
            .map(|column| column.index)
            .ok_or_else(|| Error::new(format!("column {self} is written but not declared as such")))
    }
}

impl<'a> Patch<'a> {
    #[inline]
    pub(crate) fn new(scratch: &'a mut Scratch, writes: &'a [Named], row: u32, out: &'a mut Writer) -> Self {
        scratch.begin(out.len());
        Self {
            scratch,
            writes,
            row,
            out,
        }
    }

    /// Sets a column. The last value counts. A column that wasn't declared as written rejects the row. Does nothing to a row
    /// that is dropped or stops the pipeline.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.set("email", "***");
    ///     patch.set("visits", 3);
    ///     patch.set("phone", None::<&str>);
    /// }
    /// ```
    #[inline]
    pub fn set(&mut self, column: impl WriteKey, value: impl ToValue) {
        match column.index(self.writes) {
            Ok(index) => match self.scratch.begin_first(self.row, index) {
                Some(head) => value.write_behind(head, self.out),
                None => {
                    if self.begin_value(index) {
                        value.write(self.out);
                    }
                }
            },
            Err(error) => self.scratch.failed(error),
        }
    }

    /// Writes what comes before the value of a column, unless the row isn't patched.
    #[inline(never)]
    fn begin_value(&mut self, index: u16) -> bool {
        let scratch = &mut *self.scratch;
        scratch.more();
        if scratch.unusual && scratch.fate != Fate::Patched && !scratch.takes(Fate::Patched) {
            return false;
        }
        if scratch.elements == 0 {
            begin_patch(self.out, self.row, index as u8);
            // The index stands behind the header, and is right where it is that small.
            scratch.header = self.out.len() - 2;
            if index < 64 {
                scratch.written = 1 << index;
                scratch.elements = FIRST_ELEMENTS;
                return true;
            }
            scratch.written = 0;
            self.out.truncate(scratch.header + 1);
        }
        let bit = 1u64.checked_shl(index.into()).unwrap_or(0);
        if bit == 0 || scratch.written & bit != 0 {
            scratch.unset(index, self.out);
        }
        scratch.written |= bit;
        scratch.elements += 2;
        self.out.uint(index.into());
        true
    }

    /// Drops the whole change, both images, for good.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.drop_change();
    /// }
    /// ```
    pub fn drop_change(&mut self) {
        if self.scratch.is_done() {
            return;
        }
        self.scratch.restart(Fate::Dropped, self.out);
        header(self.out, self.row, action::DROP, 2);
    }

    /// Replaces the image by a row of this output, counted from 0, with a value for each of its columns. The last one counts.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.replace(0, &[Value::Int(1), Value::Text("paid")]);
    /// }
    /// ```
    pub fn replace(&mut self, output: u16, values: &[Value<'_>]) {
        if !self.scratch.takes(Fate::Replaced) {
            return;
        }
        self.scratch.restart(Fate::Replaced, self.out);
        header(self.out, self.row, action::REPLACE, 4);
        self.out.uint(output.into());
        self.out.array(values.len());
        values.iter().for_each(|value| value.write(self.out));
    }

    /// Puts a row in the place of this one; several calls, several rows, in order. Only for new images. More than 1,000 rows
    /// of one reject it, under the code `fan_out`.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     for item in ["left", "right"] {
    ///         patch.emit(Op::Insert, 0, &[Value::Int(1), Value::Text(item)]);
    ///     }
    /// }
    /// ```
    pub fn emit(&mut self, op: Op, output: u16, values: &[Value<'_>]) {
        self.push(op, output, values, None);
    }

    /// As [`emit`](Self::emit), for a row that goes to another topic or table, whatever [`route`](Self::route) says of the
    /// others.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome};
    /// use rowmill_plugin::row;
    ///
    /// /// A row of each kind.
    /// #[transform(read(id), write(id))]
    /// fn twice(row: &Row, patch: &mut Patch) -> Result<()> {
    ///     let id = row.value("id")?;
    ///     patch.emit(Op::Insert, 0, &[id]);
    ///     patch.emit_to("archive.orders", Op::Insert, 0, &[id]);
    ///     Ok(())
    /// }
    ///
    /// let mut plugin = testing::transform::<twice>();
    /// let rows = vec![row! { id: 7 }, row! { id: 7 }.of("archive.orders")];
    /// assert_eq!(plugin.apply(row! { id: 7 }), Outcome::Rows(rows));
    /// ```
    pub fn emit_to(&mut self, route: &str, op: Op, output: u16, values: &[Value<'_>]) {
        self.push(op, output, values, Some(route));
    }

    fn push(&mut self, op: Op, output: u16, values: &[Value<'_>], route: Option<&str>) {
        if !self.scratch.takes(Fate::FannedOut) {
            return;
        }
        if self.scratch.fate != Fate::FannedOut {
            self.scratch.restart(Fate::FannedOut, self.out);
            header(self.out, self.row, action::FAN_OUT, 3);
            self.scratch.header = self.out.len();
            self.out.long_array();
        }
        // Beyond it the host takes the whole reply for a fault, though it may be the row that is to blame.
        if self.scratch.elements == FAN_OUT_MAX {
            let reason = "more rows were made of it than the host allows";
            return self.scratch.failed(Error::new(reason).with_code("fan_out"));
        }
        self.out.array(4);
        self.out.uint(op.to_wire().into());
        self.out.uint(output.into());
        self.out.array(values.len());
        values.iter().for_each(|value| value.write(self.out));
        match route {
            Some(route) => self.out.str(route),
            None => self.out.nil(),
        }
        self.scratch.elements += 1;
    }

    /// Sends the row, with the columns that are set, to another topic or table; where rows are put in its place, all of
    /// those that [`emit`](Self::emit) makes. The last one counts.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.route("archive.orders");
    /// }
    /// ```
    pub fn route(&mut self, route: impl Into<Cow<'static, str>>) {
        self.scratch.more();
        self.scratch.unusual = true;
        self.scratch.route = Some(route.into());
    }

    /// Stops the pipeline, for what no later row could make good. The first reason counts.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.stop("the rates are of last year");
    /// }
    /// ```
    pub fn stop(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.scratch.more();
        if self.scratch.fate == Fate::Stopped {
            return;
        }
        self.scratch.restart(Fate::Stopped, self.out);
        header(self.out, self.row, action::STOP, 3);
        self.out.str(&reason.into());
    }
}
