//! What a transform answers for a row. Nothing said is: it goes on as it is.

use crate::projection::{Named, WriteColumn};
use crate::row::Op;
use crate::value::{ToValue, Value};
use crate::{Error, Result};
use rowmill_abi::{Reader, Writer, action};
use std::borrow::Cow;

/// What becomes of the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// On, with the columns that were set.
    #[default]
    Patched,
    Dropped,
    Replaced {
        output: u16,
    },
    FannedOut,
    Stopped(Cow<'static, str>),
}

/// Collects the answer for one row; used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    fate: Fate,
    /// What follows the header: columns with values, values, or rows.
    content: Writer,
    /// Elements of `content`; a column with its value counts as two.
    elements: usize,
    /// Which of the first 64 columns were set.
    written: u64,
    route: Option<Cow<'static, str>>,
    error: Option<Error>,
}

/// The changes to one image of a row.
#[derive(Debug)]
pub struct Patch<'a> {
    scratch: &'a mut Scratch,
    writes: &'a [Named],
}

/// How a column is named: by the handle that [`Selection::write`](crate::Selection::write) gave, or by its name.
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
    pub(crate) fn new(scratch: &'a mut Scratch, writes: &'a [Named]) -> Self {
        scratch.reset();
        Self { scratch, writes }
    }

    /// Sets a column. The last value counts. A column that wasn't declared as written rejects the row.
    #[inline]
    pub fn set(&mut self, column: impl WriteKey, value: impl ToValue) {
        match column.index(self.writes) {
            Ok(index) => self.scratch.set(index, value),
            Err(error) => self.scratch.error = Some(error),
        }
    }

    /// Drops the whole change, both images.
    pub fn drop_change(&mut self) {
        self.scratch.restart(Fate::Dropped);
    }

    /// Replaces the image by a row of this output, counted from 0, with a value for each of its columns.
    pub fn replace(&mut self, output: u16, values: &[Value<'_>]) {
        self.scratch.restart(Fate::Replaced { output });
        values.iter().for_each(|value| value.write(&mut self.scratch.content));
        self.scratch.elements = values.len();
    }

    /// Puts a row in the place of this one; several calls, several rows, in order. Only for new images.
    pub fn emit(&mut self, op: Op, output: u16, values: &[Value<'_>]) {
        if self.scratch.fate != Fate::FannedOut {
            self.scratch.restart(Fate::FannedOut);
        }
        let content = &mut self.scratch.content;
        content.array(4);
        content.uint(op.to_wire().into());
        content.uint(output.into());
        content.array(values.len());
        values.iter().for_each(|value| value.write(content));
        content.nil();
        self.scratch.elements += 1;
    }

    /// Sends the row, with the columns that are set, to another topic or table.
    pub fn route(&mut self, route: impl Into<Cow<'static, str>>) {
        self.scratch.route = Some(route.into());
    }

    /// Stops the pipeline, for what no later row could make good.
    pub fn stop(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.scratch.restart(Fate::Stopped(reason.into()));
    }
}

impl Scratch {
    fn reset(&mut self) {
        self.restart(Fate::Patched);
        self.route = None;
        self.error = None;
    }

    #[inline]
    fn restart(&mut self, fate: Fate) {
        self.fate = fate;
        self.content.clear();
        self.elements = 0;
        self.written = 0;
    }

    #[inline]
    fn set(&mut self, index: u16, value: impl ToValue) {
        if self.fate != Fate::Patched {
            self.restart(Fate::Patched);
        }
        let bit = 1u64.checked_shl(index.into()).unwrap_or(0);
        if bit == 0 || self.written & bit != 0 {
            self.unset(index);
        }
        self.written |= bit;
        self.content.uint(index.into());
        value.write(&mut self.content);
        self.elements += 2;
    }

    /// Takes out what was set before, since a column may be named once only.
    fn unset(&mut self, index: u16) {
        let mut reader = Reader::new(self.content.as_slice());
        while !reader.is_at_end() {
            let start = reader.position();
            let (Ok(found), Ok(())) = (reader.uint(), reader.skip()) else {
                return;
            };
            let end = reader.position();
            if found == u64::from(index) {
                self.content.remove(start..end);
                self.elements -= 2;
                return;
            }
        }
    }

    /// Appends the action of this row to the reply, where there is one.
    #[inline]
    pub(crate) fn finish(&mut self, row: u32, result: Result<()>, out: &mut Writer) -> bool {
        if let Some(error) = result.err().or_else(|| self.error.take()) {
            reject(out, row, &error);
            return true;
        }
        match &self.fate {
            Fate::Patched => return self.finish_patch(row, out),
            Fate::Dropped => header(out, row, action::DROP, 2),
            Fate::Replaced { output } => {
                header(out, row, action::REPLACE, 4);
                out.uint((*output).into());
                self.append_content(out);
            }
            Fate::FannedOut => {
                header(out, row, action::FAN_OUT, 3);
                self.append_content(out);
            }
            Fate::Stopped(reason) => {
                header(out, row, action::STOP, 3);
                out.str(reason);
            }
        }
        true
    }

    #[inline]
    fn finish_patch(&self, row: u32, out: &mut Writer) -> bool {
        match &self.route {
            Some(route) => {
                header(out, row, action::ROUTE, 4);
                out.str(route);
            }
            None if self.elements == 0 => return false,
            None => header(out, row, action::PATCH, 3),
        }
        self.append_content(out);
        true
    }

    #[inline]
    fn append_content(&self, out: &mut Writer) {
        out.array(self.elements);
        out.raw(self.content.as_slice());
    }
}

#[inline]
pub(crate) fn header(out: &mut Writer, row: u32, action: u8, elements: usize) {
    out.array(elements);
    out.uint(row.into());
    out.uint(action.into());
}

#[cold]
pub(crate) fn reject(out: &mut Writer, row: u32, error: &Error) {
    header(out, row, action::REJECT, 4);
    out.str(error.code());
    out.str(error.reason());
}
