//! Rows of `COPY ... TO STDOUT (FORMAT binary)`: <https://www.postgresql.org/docs/current/sql-copy.html>, binary format.

use super::DecodeError;
use super::binary::{Columns, Types, standard};
use super::copy::row;
use super::cursor::Cursor;
use super::straight::{Straight, as_it_came};
use crate::batch::{Batch, Cell, Lsn, OwnTypes, Relation};
use std::sync::Arc;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// In place of a row's number of columns: there are no more.
const TRAILER: u16 = 0xFFFF;
/// In place of a value's length.
const NULL: u32 = 0xFFFF_FFFF;

/// Reads the messages of one COPY, in order. Each holds the header, whole rows, or the trailer, or some of them.
#[derive(Debug)]
pub(super) struct BinaryRows {
    columns: Columns,
    straight: Option<Straight>,
    has_begun: bool,
}

impl BinaryRows {
    pub(super) fn new(types: Arc<Types>) -> Self {
        Self::of(Columns::new(types))
    }

    fn of(columns: Columns) -> Self {
        Self {
            columns,
            straight: None,
            has_begun: false,
        }
    }

    pub(super) fn straight(straight: Straight, own_types: Arc<OwnTypes>) -> Self {
        Self {
            straight: Some(straight),
            ..Self::of(Columns::with_own(Arc::clone(standard()), own_types))
        }
    }

    pub(super) fn is_straight(&self) -> bool {
        self.straight.is_some()
    }

    /// Takes the message from `begin` to `end` of the batch's bytes; its rows are numbered from `ordinal` on. Returns the
    /// next number.
    pub(super) fn index(
        &mut self,
        bytes: &[u8],
        begin: usize,
        end: usize,
        relation: &Relation,
        mut ordinal: u64,
        batch: &mut Batch,
    ) -> Result<u64, DecodeError> {
        let mut cursor = Cursor::new(bytes, begin, end, Lsn(0));
        if !self.has_begun {
            header(&mut cursor)?;
            self.has_begun = true;
        }
        let columns = self.columns.of(relation);
        let straight = self.straight.as_ref();
        let slots = usize::from(relation.slots);
        let Batch { cells, arena, rows, .. } = batch;
        while cursor.position() < end {
            let begin = cursor.position();
            let count = cursor.u16("the number of columns of a row")?;
            if count == TRAILER {
                continue;
            }
            if usize::from(count) != relation.columns.len() {
                return Err(DecodeError::CopyColumns {
                    expected: relation.columns.len(),
                    found: usize::from(count),
                });
            }
            let start = cells.len();
            cells.resize(start + slots, Cell::ABSENT);
            for (at, column) in relation.columns.iter().enumerate() {
                let len = cursor.u32("the length of a value")?;
                cells[start + usize::from(column.slot)] = match len {
                    NULL => Cell::NULL,
                    len => {
                        let position = cursor.position();
                        let value = cursor.take(len as usize, "the end of a value")?;
                        match straight {
                            Some(straight) if !straight.is_text(at) => as_it_came(position, value.len())?,
                            _ => columns.cell(at, value, position, arena)?,
                        }
                    }
                };
            }
            if straight.is_some() {
                cells.push(as_it_came(begin, cursor.position() - begin)?);
            }
            rows.push(row(start, ordinal));
            ordinal += 1;
        }
        Ok(ordinal)
    }
}

/// The signature, flags of which none is known to a COPY out, and an extension that is passed over.
fn header(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    if cursor.take(SIGNATURE.len(), "the signature of a binary COPY")? != SIGNATURE {
        return Err(DecodeError::CopyFrame);
    }
    cursor.u32("the flags of a binary COPY")?;
    let extension = cursor.u32("the length of a binary COPY's header")? as usize;
    cursor.take(extension, "the header of a binary COPY")?;
    Ok(())
}
