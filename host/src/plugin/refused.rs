//! Rows that a plugin doesn't take: rejected, or such as can't be given to it. The plugin itself is well.

use super::error::RowErrorKind;
use crate::batch::Row;

/// The refused rows of the batch at hand, ascending.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Index among the stage's rows, and why.
    pub list: Vec<(usize, RowErrorKind)>,
    /// Index of the first row of the call at hand.
    pub base: usize,
    /// Whether refused rows go on as they are.
    pub pass: bool,
}

impl Refused {
    /// Takes a row of the call at hand out, or lets it go by.
    #[cold]
    pub fn add(&mut self, at: usize, kind: RowErrorKind, row: &Row, out: &mut Vec<Row>) {
        self.list.push((self.base + at, kind));
        if self.pass {
            out.push(*row);
        }
    }
}
