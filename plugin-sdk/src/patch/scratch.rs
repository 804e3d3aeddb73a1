//! What is known of the row at hand beside its action in the reply, and how that action is completed.

use crate::{Error, Result};
use rowmill_abi::{Malformed, Reader, Writer, action};
use std::borrow::Cow;

/// What becomes of the row, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// On, with the columns that were set.
    #[default]
    Patched,
    Replaced,
    FannedOut,
    Dropped,
    Stopped,
}

/// What is known of the row at hand beside the reply; used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What was said of the row: [`NOTHING`], [`FIRST_ELEMENTS`] where it is one column in the quick way, or [`MORE`]. It
    /// is all that most rows need.
    said: usize,
    /// Where the row's action begins in the reply.
    start: usize,
    /// From here on what holds where more was said.
    pub(super) fate: Fate,
    /// Where the header of its columns or rows stands.
    pub(super) header: usize,
    /// Elements behind that header; a column with its value counts as two.
    pub(super) elements: usize,
    /// Which of the first 64 columns were set, where one was.
    pub(super) written: u64,
    /// Whether anything but columns was said: those two, or another fate.
    pub(super) unusual: bool,
    pub(super) route: Option<Cow<'static, str>>,
    error: Option<Error>,
}

impl Scratch {
    #[inline]
    pub(super) fn begin(&mut self, start: usize) {
        self.start = start;
        self.said = NOTHING;
    }

    /// Takes note that the first thing said of the row is one of the first 64 columns. Returns what comes before its value,
    /// seven bytes, which the caller writes. `None` says nothing.
    #[inline]
    pub(super) fn begin_first(&mut self, row: u32, index: u16) -> Option<u64> {
        if self.said != NOTHING || index >= 64 || row > 0xffff {
            return None;
        }
        self.said = FIRST_ELEMENTS;
        self.written = 1 << index;
        Some(short_patch(row as u16, index as u8))
    }

    /// More is about to be said than the quick way has a place for.
    pub(super) fn more(&mut self) {
        if self.said == MORE {
            return;
        }
        self.fate = Fate::Patched;
        self.unusual = false;
        self.elements = self.said;
        self.header = self.start + SHORT_HEADER_AT;
        self.said = MORE;
    }

    /// The row is rejected, by the first of its errors.
    #[cold]
    #[inline(never)]
    pub(super) fn failed(&mut self, error: Error) {
        self.more();
        self.unusual = true;
        self.error.get_or_insert(error);
    }

    /// Whether this may become of the row. Not where it is dropped or stopped, which it stays; and where something else was
    /// said of it, the two contradict each other.
    #[cold]
    #[inline(never)]
    pub(super) fn takes(&mut self, fate: Fate) -> bool {
        self.more();
        let nothing_said = self.fate == Fate::Patched && self.elements == 0;
        match self.fate {
            Fate::Dropped | Fate::Stopped => false,
            was if was == fate || nothing_said => self.error.is_none(),
            _ => {
                self.failed(contradiction(
                    "a row is patched, replaced or made into several: two of these were said of it",
                ));
                false
            }
        }
    }

    /// Whether the row is dropped or stopped already.
    pub(super) fn is_done(&mut self) -> bool {
        self.more();
        matches!(self.fate, Fate::Dropped | Fate::Stopped)
    }

    /// Forgets what was said of the row.
    #[cold]
    pub(super) fn restart(&mut self, fate: Fate, out: &mut Writer) {
        self.more();
        out.truncate(self.start);
        self.fate = fate;
        self.unusual = true;
        self.elements = 0;
        self.written = 0;
    }

    /// Takes out what was set before, since a column may be named once only.
    #[cold]
    pub(super) fn unset(&mut self, index: u16, out: &mut Writer) {
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
        if result.is_ok() && self.said <= FIRST_ELEMENTS {
            return self.said != NOTHING;
        }
        self.finish_any(row, result, out)
    }

    #[inline(never)]
    fn finish_any(&mut self, row: u32, result: Result<()>, out: &mut Writer) -> bool {
        self.more();
        let (route, error) = (self.route.take(), self.error.take());
        let misrouted = (self.fate == Fate::Replaced && route.is_some())
            .then(|| contradiction("a row that is replaced can't be sent elsewhere: see `emit_to`"));
        let error = result.err().or(error).or(misrouted);
        if let Some(error) = error.filter(|_| self.fate != Fate::Stopped) {
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
            (Fate::FannedOut, route) => {
                out.set_long_array(self.header, self.elements as u32);
                if let Some(route) = route {
                    self.finish_rows(&route, out);
                }
            }
            (Fate::Replaced | Fate::Dropped | Fate::Stopped, _) => {}
        }
        true
    }

    /// Sends the rows that have no place of their own to this one.
    #[cold]
    fn finish_rows(&mut self, route: &str, out: &mut Writer) {
        let begin = self.header + LONG_ARRAY_LEN;
        let rows = out.as_slice().get(begin..).unwrap_or_default().to_vec();
        out.truncate(begin);
        let (mut reader, mut copied) = (Reader::new(&rows), 0);
        while pass_to_place(&mut reader).is_ok() {
            let at = reader.position();
            if reader.take_nil() {
                out.raw(rows.get(copied..at).unwrap_or_default());
                out.str(route);
                copied = reader.position();
            } else if reader.skip().is_err() {
                break;
            }
        }
        out.raw(rows.get(copied..).unwrap_or_default());
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

/// Passes over `[op, output, values` of a row of a fan-out.
fn pass_to_place(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.array()?;
    (0..3).try_for_each(|_| reader.skip())
}

#[cold]
fn contradiction(reason: &'static str) -> Error {
    Error::new(reason).with_code("patch")
}

#[cold]
pub(crate) fn header(out: &mut Writer, row: u32, action: u8, elements: usize) {
    out.array(elements);
    out.uint(row.into());
    out.uint(action.into());
}

/// The header of an array of less than 16 elements.
const ARRAY: u8 = 0x90;
/// How long the header is that [`Writer::long_array`] writes.
const LONG_ARRAY_LEN: usize = 5;
/// The first column of a patch and its value.
pub(super) const FIRST_ELEMENTS: usize = 2;
/// Nothing was said of the row.
const NOTHING: usize = 0;
/// More was said of it than one column.
const MORE: usize = FIRST_ELEMENTS + 1;

const ARRAY_OF_3: u8 = 0x93;
/// The header of an array of one column and its value; if there are to be more, their number is filled in later.
const COLUMNS: u8 = ARRAY | FIRST_ELEMENTS as u8;
/// Where that stands in [`short_patch`].
const SHORT_HEADER_AT: usize = 5;

/// `[row, PATCH, [index` with the header of the columns, for a row and an index that are small.
#[inline]
fn short_patch(row: u16, index: u8) -> u64 {
    // As one number, which is one store.
    const TEMPLATE: u64 = u64::from_le_bytes([ARRAY_OF_3, 0xcd, 0, 0, action::PATCH, COLUMNS, 0, 0]);
    TEMPLATE | u64::from(row.swap_bytes()) << 16 | u64::from(index) << 48
}

/// The same for any row.
pub(super) fn begin_patch(out: &mut Writer, row: u32, index: u8) {
    let [b0, b1, b2, b3] = row.to_be_bytes();
    match u16::try_from(row) {
        Ok(row) => out.first_of(7, &short_patch(row, index).to_le_bytes()),
        Err(_) => out.fixed(&[ARRAY_OF_3, 0xce, b0, b1, b2, b3, action::PATCH, COLUMNS, index]),
    }
}

#[cold]
pub(crate) fn reject(out: &mut Writer, row: u32, error: &Error) {
    header(out, row, action::REJECT, 4);
    out.str(error.code());
    out.str(error.reason());
}
