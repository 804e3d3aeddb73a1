//! Tuples that are changed in place, and what stood there before.
//!
//! A tuple is as wide as its table, however few of its columns a plugin writes: a copy of it costs what nobody reads. Where
//! nobody but the chain at work refers to a batch's tuples, it writes over their cells instead. Each cell that goes is
//! noted, so that a call that comes to nothing, and whoever asks for the rows as they came, has them again.

use super::{Batch, Cell, Tuple};
use std::borrow::Cow;

#[derive(Clone, Debug, Default)]
pub struct Overwritten {
    /// Whether tuples are changed in place at present.
    in_place: bool,
    /// Where a cell lies and what it was, in the order in which they were written.
    cells: Vec<(u32, Cell)>,
}

impl Overwritten {
    /// Sets a cell of the batch, and notes what it was where tuples are changed `in_place`.
    #[inline(always)]
    fn write(&mut self, cell: &mut Cell, at: usize, to: Cell, in_place: bool) {
        let was = std::mem::replace(cell, to);
        if in_place {
            self.cells.push((at as u32, was));
        }
    }

    /// [`Batch::change_present`] among the batch's cells, for who changes many and knows whether it is in place.
    #[inline(always)]
    pub(crate) fn write_present(&mut self, cells: &mut [Cell], tuple: Tuple, slot: u16, to: Cell, in_place: bool) {
        let at = tuple.0 as usize + usize::from(slot);
        let cell = &mut cells[at];
        if *cell != Cell::ABSENT {
            self.write(cell, at, to, in_place);
        }
    }
}

impl Batch {
    /// Whether tuples may be changed in place from here on. No two rows, of whatever list, may share a tuple then.
    pub fn change_in_place(&mut self, in_place: bool) {
        self.overwritten.in_place = in_place;
    }

    /// The tuple to write what becomes of one with `slots` cells: a copy of it, or itself.
    #[inline]
    pub(crate) fn writable(&mut self, tuple: Tuple, slots: u16) -> Tuple {
        match self.overwritten.in_place {
            true => tuple,
            false => self.copy_tuple(tuple, slots),
        }
    }

    #[inline]
    pub(crate) fn changes_in_place(&self) -> bool {
        self.overwritten.in_place
    }

    /// There is room to note so many cells.
    pub(crate) fn expect_changes(&mut self, cells: usize) {
        self.overwritten.cells.reserve(cells);
    }

    /// Sets a cell of a tuple of [`Self::writable`].
    #[inline]
    pub(crate) fn change(&mut self, tuple: Tuple, slot: u16, to: Cell) {
        let at = tuple.0 as usize + usize::from(slot);
        let in_place = self.overwritten.in_place;
        self.overwritten.write(&mut self.cells[at], at, to, in_place);
    }

    /// Sets it where the image has that column.
    #[inline]
    pub(crate) fn change_present(&mut self, tuple: Tuple, slot: u16, to: Cell) {
        let in_place = self.overwritten.in_place;
        self.overwritten
            .write_present(&mut self.cells, tuple, slot, to, in_place);
    }

    /// How many cells were written over so far, for [`Self::take_back`].
    #[inline]
    pub fn changes(&self) -> usize {
        self.overwritten.cells.len()
    }

    /// Puts back what was written over since there were `to` of them.
    pub fn take_back(&mut self, to: usize) {
        let mut noted = std::mem::take(&mut self.overwritten.cells);
        for (at, was) in noted.drain(to.min(noted.len())..).rev() {
            if let Some(cell) = self.cells.get_mut(at as usize) {
                *cell = was;
            }
        }
        self.overwritten.cells = noted;
    }

    /// The batch in which the rows are as they came.
    pub fn as_it_came(&self) -> Cow<'_, Self> {
        if self.overwritten.cells.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut original = self.clone();
        original.take_back(0);
        Cow::Owned(original)
    }

    /// Nobody will ask for the rows as they came.
    pub fn forget_changes(&mut self) {
        self.overwritten = Overwritten::default();
    }
}
