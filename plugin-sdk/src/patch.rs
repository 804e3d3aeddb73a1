//! What a transform answers for a row. Nothing said is: it goes on as it is.

use crate::projection::{Named, WriteColumn};
use crate::row::Op;
use crate::value::{ToValue, Value};
use crate::{Error, Result};
use rowmill_abi::{Reader, Writer, action};
use std::borrow::Cow;

/// What becomes of the row, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// On, with the columns that were set.
    #[default]
    Patched,
    FannedOut,
    /// Dropped, replaced or stopped: the action is complete.
    Settled,
}

/// What is known of the row at hand beside the reply; used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    fate: Fate,
    /// Where the row's action begins in the reply.
    start: usize,
    /// Where the header of its columns or rows stands.
    header: usize,
    /// Elements behind that header; a column with its value counts as two.
    elements: usize,
    /// Which of the first 64 columns were set.
    written: u64,
    /// Whether anything but columns was said: those two, or another fate.
    unusual: bool,
    route: Option<Cow<'static, str>>,
    error: Option<Error>,
}

/// The changes to one image of a row.
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

    /// Sets a column. The last value counts. A column that wasn't declared as written rejects the row.
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
            Ok(index) => {
                self.begin_value(index);
                value.write(self.out);
            }
            Err(error) => self.scratch.failed(error),
        }
    }

    /// Writes what comes before the value of a column.
    #[inline]
    fn begin_value(&mut self, index: u16) {
        let scratch = &mut *self.scratch;
        if scratch.unusual && scratch.fate != Fate::Patched {
            scratch.restart(Fate::Patched, self.out);
        }
        if scratch.elements == 0 {
            begin_patch(self.out, self.row, index as u8);
            // The index stands behind the header, and is right where it is that small.
            scratch.header = self.out.len() - 2;
            if index < 64 {
                scratch.written = 1 << index;
                scratch.elements = FIRST_ELEMENTS;
                return;
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
    }

    /// Drops the whole change, both images.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.drop_change();
    /// }
    /// ```
    pub fn drop_change(&mut self) {
        self.scratch.restart(Fate::Settled, self.out);
        header(self.out, self.row, action::DROP, 2);
    }

    /// Replaces the image by a row of this output, counted from 0, with a value for each of its columns.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.replace(0, &[Value::Int(1), Value::Text("paid")]);
    /// }
    /// ```
    pub fn replace(&mut self, output: u16, values: &[Value<'_>]) {
        self.scratch.restart(Fate::Settled, self.out);
        header(self.out, self.row, action::REPLACE, 4);
        self.out.uint(output.into());
        self.out.array(values.len());
        values.iter().for_each(|value| value.write(self.out));
    }

    /// Puts a row in the place of this one; several calls, several rows, in order. Only for new images.
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
        if self.scratch.fate != Fate::FannedOut {
            self.scratch.restart(Fate::FannedOut, self.out);
            header(self.out, self.row, action::FAN_OUT, 3);
            self.scratch.header = self.out.len();
            self.out.long_array();
        }
        self.out.array(4);
        self.out.uint(op.to_wire().into());
        self.out.uint(output.into());
        self.out.array(values.len());
        values.iter().for_each(|value| value.write(self.out));
        self.out.nil();
        self.scratch.elements += 1;
    }

    /// Sends the row, with the columns that are set, to another topic or table.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.route("archive.orders");
    /// }
    /// ```
    pub fn route(&mut self, route: impl Into<Cow<'static, str>>) {
        self.scratch.unusual = true;
        self.scratch.route = Some(route.into());
    }

    /// Stops the pipeline, for what no later row could make good.
    ///
    /// ```
    /// # use rowmill_plugin::{Op, Patch, Value};
    /// fn answer(patch: &mut Patch) {
    ///     patch.stop("the rates are of last year");
    /// }
    /// ```
    pub fn stop(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.scratch.restart(Fate::Settled, self.out);
        header(self.out, self.row, action::STOP, 3);
        self.out.str(&reason.into());
    }
}

impl Scratch {
    #[inline]
    fn begin(&mut self, start: usize) {
        self.fate = Fate::Patched;
        self.start = start;
        self.elements = 0;
        self.unusual = false;
    }

    #[cold]
    #[inline(never)]
    fn failed(&mut self, error: Error) {
        self.unusual = true;
        self.error = Some(error);
    }

    /// Forgets what was said of the row.
    #[cold]
    fn restart(&mut self, fate: Fate, out: &mut Writer) {
        out.truncate(self.start);
        self.fate = fate;
        self.unusual = true;
        self.elements = 0;
        self.written = 0;
    }

    /// Takes out what was set before, since a column may be named once only.
    #[cold]
    fn unset(&mut self, index: u16, out: &mut Writer) {
        let mut reader = Reader::starting_at(out.as_slice(), self.header + 1);
        while !reader.is_at_end() {
            let start = reader.position();
            let (Ok(found), Ok(())) = (reader.uint(), reader.skip()) else {
                return;
            };
            let end = reader.position();
            if found == u64::from(index) {
                out.remove(start..end);
                self.elements -= 2;
                return;
            }
        }
    }

    /// Completes the action of this row in the reply, where there is one.
    #[inline]
    pub(crate) fn finish(&mut self, row: u32, result: Result<()>, out: &mut Writer) -> bool {
        // What most are. The header says already that there is one column.
        if result.is_ok() && !self.unusual && self.elements <= FIRST_ELEMENTS {
            return self.elements != 0;
        }
        self.finish_any(row, result, out)
    }

    #[inline(never)]
    fn finish_any(&mut self, row: u32, result: Result<()>, out: &mut Writer) -> bool {
        let (route, error) = (self.route.take(), self.error.take());
        if let Some(error) = result.err().or(error) {
            out.truncate(self.start);
            reject(out, row, &error);
            return true;
        }
        match (self.fate, route) {
            (Fate::Patched, Some(route)) => self.finish_route(row, &route, out),
            (Fate::Patched, None) if self.elements == 0 => return false,
            (Fate::Patched, None) if self.elements < 16 => out.set(self.header, ARRAY | self.elements as u8),
            (Fate::Patched, None) => {
                out.set(self.header, 0xdc);
                out.insert(self.header + 1, &(self.elements as u16).to_be_bytes());
            }
            (Fate::FannedOut, _) => out.set_long_array(self.header, self.elements as u32),
            (Fate::Settled, _) => {}
        }
        true
    }

    /// Makes a route of what is a patch so far.
    #[cold]
    fn finish_route(&mut self, row: u32, route: &str, out: &mut Writer) {
        let begin = if self.elements == 0 { out.len() } else { self.header + 1 };
        let columns = out.as_slice().get(begin..).unwrap_or_default().to_vec();
        out.truncate(self.start);
        header(out, row, action::ROUTE, 4);
        out.str(route);
        out.array(self.elements);
        out.raw(&columns);
    }
}

#[cold]
pub(crate) fn header(out: &mut Writer, row: u32, action: u8, elements: usize) {
    out.array(elements);
    out.uint(row.into());
    out.uint(action.into());
}

/// The header of an array of less than 16 elements.
const ARRAY: u8 = 0x90;
/// The first column of a patch and its value.
const FIRST_ELEMENTS: usize = 2;

/// `[row, PATCH, [index` with the header of an array of one column and its value; if there are to be more, their number is
/// filled in later.
#[inline]
fn begin_patch(out: &mut Writer, row: u32, index: u8) {
    const ARRAY_OF_3: u8 = 0x93;
    const COLUMNS: u8 = ARRAY | FIRST_ELEMENTS as u8;
    let [b0, b1, b2, b3] = row.to_be_bytes();
    if row > 0xffff {
        return out.fixed(&[ARRAY_OF_3, 0xce, b0, b1, b2, b3, action::PATCH, COLUMNS, index]);
    }
    // As one number, which is one store.
    const TEMPLATE: u64 = u64::from_le_bytes([ARRAY_OF_3, 0xcd, 0, 0, action::PATCH, COLUMNS, 0, 0]);
    let word = TEMPLATE | u64::from((row as u16).swap_bytes()) << 16 | u64::from(index) << 48;
    out.first_of(7, &word.to_le_bytes());
}

#[cold]
pub(crate) fn reject(out: &mut Writer, row: u32, error: &Error) {
    header(out, row, action::REJECT, 4);
    out.str(error.code());
    out.str(error.reason());
}
