//! Copied rows that go from one Postgres to another as they are: read by `COPY ... TO STDOUT (FORMAT binary)`, written by
//! `COPY ... FROM STDIN (FORMAT binary)`, without being cut into texts in between.
//!
//! ```text
//!   bytes   |d..| 3 | len id | len name | len total |d..| 3 | ...
//!                 ^----------- row ----------------^
//!   cells   [ id as text | name as it came | total as it came | row ]
//! ```
//!
//! Types that the source defines itself are read as what their bytes are ([`crate::batch::OwnTypes`]): a label's text, or a value
//! of the type under a domain.
//!
//! The key alone is made text, as the merge with the stream compares it with the stream's. Whoever needs more of a row, as
//! it isn't to be copied in after all, asks for all of it as text: [`as_text`].

use super::DecodeError;
use super::binary::{Columns, standard};
use crate::batch::{Batch, Cell, Relation, Row};
use std::borrow::Cow;
use std::sync::Arc;

/// Which of a relation's columns are text at once.
#[derive(Clone, Debug)]
pub(super) struct Straight {
    key: Box<[bool]>,
}

impl Straight {
    pub(super) fn new(relation: &Relation, key: &[String]) -> Self {
        let columns = relation.columns.iter();
        Self {
            key: columns.map(|column| key.contains(&column.name)).collect(),
        }
    }

    pub(super) fn is_text(&self, column: usize) -> bool {
        self.key.get(column).copied().unwrap_or(true)
    }
}

/// The cell of bytes that stay what they are.
pub(super) fn as_it_came(at: usize, len: usize) -> Result<Cell, DecodeError> {
    match len <= Cell::MAX_LEN {
        true => Ok(Cell::binary(at, len)),
        false => Err(DecodeError::TooLarge {
            what: "a copied row",
            limit: Cell::MAX_LEN,
        }),
    }
}

/// The batch with these of its rows as text, at the same places. Only what isn't text yet is made so.
///
/// # Errors
/// The index of a row with a value that isn't what its column's type is in binary form.
pub fn as_text<'a>(batch: &'a Batch, rows: &[Row]) -> Result<Cow<'a, Batch>, (usize, DecodeError)> {
    if !batch.straight {
        return Ok(Cow::Borrowed(batch));
    }
    let mut told = Batch {
        straight: false,
        ..batch.clone()
    };
    let mut columns = Columns::with_own(Arc::clone(standard()), Arc::clone(&batch.own_types));
    for (at, row) in rows.iter().enumerate() {
        let (Some(new), true) = (row.new, row.op.is_of_a_table()) else {
            continue;
        };
        let relation = Arc::clone(batch.relation(row));
        let of_relation = columns.of(&relation);
        for (column, described) in relation.columns.iter().enumerate() {
            let cell = batch.cells.get(new.0 as usize + usize::from(described.slot));
            let Some(place) = cell.and_then(|cell| cell.binary_range()) else {
                continue;
            };
            if let Some(value) = batch.bytes.get(place.clone()) {
                let cell = of_relation.cell(column, value, place.start, &mut told.arena);
                told.set(new, described.slot, cell.map_err(|error| (at, error))?);
            }
        }
    }
    Ok(Cow::Owned(told))
}
