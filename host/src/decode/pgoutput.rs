//! The replication stream, pgoutput protocol 1: whole transactions in commit order.
//!
//! A transaction may come in several chunks of bytes; each becomes a batch with its part of it. Ordinals count on
//! over the parts.

use super::binary::{Columns, Types};
use super::cursor::Cursor;
use super::open::{Open, Size, alone, list, row};
use super::relations::{Described, Relations};
use super::tuple::{expect, tuple};
use super::{DecodeError, TableHint};
use crate::batch::{Batch, Message, OldImage, Op, Part, ReplicaIdentity, Row, Truncate, Tuple};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of one chunk; cells point with 32 bits.
const CHUNK_BYTES_MAX: usize = u32::MAX as usize;
/// Tag and length of a backend frame.
const FRAME_HEADER: usize = 5;
/// Upper bound of columns of a table; Postgres' own limit is 1,600.
const COLUMNS_MAX: usize = 1_664;

/// Decodes the chunks of one replication connection, in order. A new connection takes a new decoder: what was open is
/// sent again from its begin.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: Relations,
    /// What makes text of values in binary form, where the stream has those.
    binary: Option<Box<Columns>>,
    open: Option<Open>,
    last: Size,
}

impl Decoder {
    pub fn new(hints: impl IntoIterator<Item = TableHint>) -> Self {
        let mut decoder = Self::default();
        hints.into_iter().for_each(|hint| decoder.relations.hint(hint));
        decoder
    }

    /// What the catalog knows of a table that has come, or is another by now: from the next batch on.
    pub fn hint(&mut self, hint: TableHint) {
        self.relations.hint(hint);
    }

    /// The same for a stream in binary form, whose values become text.
    #[must_use]
    pub fn with_binary(mut self, types: Arc<Types>) -> Self {
        self.binary = Some(Box::new(Columns::new(types)));
        self
    }

    /// Decodes whole backend frames into a batch that keeps them.
    pub fn decode(&mut self, bytes: Bytes) -> Result<Batch, DecodeError> {
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "a chunk of the stream",
                limit: CHUNK_BYTES_MAX,
            });
        }
        self.relations.next_batch();
        let mut batch = Batch {
            rows: Vec::with_capacity(self.last.of(self.last.rows, bytes.len())),
            // Twice: a plugin that writes into every row copies every tuple once.
            cells: Vec::with_capacity(2 * self.last.of(self.last.cells, bytes.len())),
            ..Batch::default()
        };
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + FRAME_HEADER) {
            let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let end = at + 1 + len;
            if end > bytes.len() || len < 4 {
                return Err(DecodeError::Truncated {
                    lsn: batch.end,
                    expected: "the end of a frame",
                });
            }
            if header[0] == b'd' {
                self.copy_data(&bytes, at + FRAME_HEADER, end, &mut batch)?;
            }
            at = end;
        }
        self.suspend(&mut batch);
        self.last = Size {
            bytes: bytes.len(),
            rows: batch.rows.len(),
            cells: batch.cells.len(),
        };
        batch.bytes = bytes;
        Ok(batch)
    }

    #[inline]
    fn copy_data(&mut self, bytes: &[u8], at: usize, end: usize, batch: &mut Batch) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(bytes, at, end, batch.end);
        match cursor.u8("the kind of a replication message")? {
            b'w' => {
                cursor.lsn = cursor.lsn("the start of XLogData")?;
                cursor.take(16, "the header of XLogData")?;
                self.message(&mut cursor, batch)
            }
            b'k' => {
                let wal_end = cursor.lsn("the position of a keepalive")?;
                if self.open.is_none() {
                    batch.end = batch.end.max(wal_end);
                }
                Ok(())
            }
            found => Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found,
                expected: "XLogData or a keepalive",
            }),
        }
    }

    #[inline]
    fn message(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        match cursor.u8("the kind of a pgoutput message")? {
            b'I' => self.insert(cursor, batch),
            b'U' => self.update(cursor, batch),
            b'D' => self.delete(cursor, batch),
            b'B' => self.begin(cursor),
            b'C' => self.commit(cursor, batch),
            b'R' => self.relation(cursor),
            b'T' => self.truncate(cursor, batch),
            b'M' => self.logical_message(cursor, batch),
            b'Y' => {
                let oid = cursor.u32("a type's OID")?;
                let schema = cursor.text("a type's schema")?;
                self.relations.name_type(oid, schema, cursor.text("a type's name")?);
                Ok(())
            }
            // Where the change came from before it came here: counts for loop prevention, not for decoding.
            b'O' => Ok(()),
            found => Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found,
                expected: "a message of protocol 1",
            }),
        }
    }

    fn begin(&mut self, cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
        if self.open.is_some() {
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found: b'B',
                expected: "a commit",
            });
        }
        let commit_lsn = cursor.lsn("a transaction's commit position")?;
        let commit_us = cursor.u64("a transaction's commit time")? as i64;
        let xid = cursor.u32("a transaction's id")?;
        self.open = Some(Open {
            xid,
            commit_lsn,
            commit_us,
            next_ordinal: 0,
            begun_before: false,
            listed: false,
        });
        Ok(())
    }

    fn commit(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let Some(mut open) = self.open.take() else {
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found: b'C',
                expected: "a begin",
            });
        };
        cursor.take(1 + 8, "a commit's flags and position")?;
        let end_lsn = cursor.lsn("a commit's end")?;
        batch.end = batch.end.max(end_lsn);
        if open.begun_before {
            list(&mut open, batch);
        }
        if open.listed
            && let Some(last) = batch.transactions.last_mut()
        {
            last.end_lsn = end_lsn;
            last.part = if open.begun_before { Part::Last } else { Part::Whole };
        }
        Ok(())
    }

    /// At the end of a chunk: an open transaction goes on in the next batch.
    fn suspend(&mut self, batch: &mut Batch) {
        let Some(open) = &mut self.open else { return };
        if open.begun_before {
            list(open, batch);
        }
        if open.listed {
            if let Some(last) = batch.transactions.last_mut() {
                last.part = if open.begun_before { Part::Middle } else { Part::First };
            }
            open.begun_before = true;
            open.listed = false;
        }
    }

    #[inline]
    fn insert(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let at = self.relation_of_row(cursor, batch)?;
        expect(cursor, b'N')?;
        let new = tuple(cursor, batch, at, false, self.binary.as_deref_mut())?;
        self.push(cursor, batch, Op::Insert, at, Some(new), None, OldImage::Key)
    }

    fn update(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let at = self.relation_of_row(cursor, batch)?;
        let mut kind = cursor.u8("the kind of a tuple")?;
        let mut old = None;
        let mut old_image = OldImage::Key;
        if kind == b'K' || kind == b'O' {
            old_image = if kind == b'O' { OldImage::Full } else { OldImage::Key };
            old = Some(tuple(cursor, batch, at, kind == b'K', self.binary.as_deref_mut())?);
            kind = cursor.u8("the kind of a tuple")?;
        }
        if kind != b'N' {
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found: kind,
                expected: "a new tuple",
            });
        }
        let new = tuple(cursor, batch, at, false, self.binary.as_deref_mut())?;
        self.push(cursor, batch, Op::Update, at, Some(new), old, old_image)
    }

    fn delete(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let at = self.relation_of_row(cursor, batch)?;
        let old_image = match cursor.u8("the kind of a tuple")? {
            b'K' => OldImage::Key,
            b'O' => OldImage::Full,
            found => {
                return Err(DecodeError::Unexpected {
                    lsn: cursor.lsn,
                    found,
                    expected: "an old tuple",
                });
            }
        };
        let old = tuple(
            cursor,
            batch,
            at,
            old_image == OldImage::Key,
            self.binary.as_deref_mut(),
        )?;
        self.push(cursor, batch, Op::Delete, at, None, Some(old), old_image)
    }

    fn truncate(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let count = cursor.u32("the number of truncated tables")? as usize;
        let flags = cursor.u8("the flags of a truncate")?;
        let mut relations = Vec::new();
        for _ in 0..count {
            relations.push(self.relation_of_row(cursor, batch)?);
        }
        let extra = batch.truncates.len() as u32;
        batch.truncates.push(Truncate {
            relations,
            cascade: flags & 1 != 0,
            restart_identity: flags & 2 != 0,
        });
        self.push(cursor, batch, Op::Truncate, 0, None, None, OldImage::Key)?;
        set_extra(batch, extra);
        Ok(())
    }

    fn logical_message(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<(), DecodeError> {
        let transactional = cursor.u8("the flags of a message")? & 1 != 0;
        let lsn = cursor.lsn("the position of a message")?;
        let prefix = cursor.text("the prefix of a message")?.to_owned();
        let len = cursor.u32("the length of a message")? as usize;
        let content = Bytes::copy_from_slice(cursor.take(len, "the content of a message")?);
        let extra = batch.messages.len() as u32;
        batch.messages.push(Message {
            transactional,
            lsn,
            prefix,
            content,
        });
        if transactional {
            self.push(cursor, batch, Op::Message, 0, None, None, OldImage::Key)?;
        } else {
            // It stands alone, outside of its neighbours' transactions, and moves no position.
            self.suspend(batch);
            batch.transactions.push(alone(lsn));
            let transaction = (batch.transactions.len() - 1) as u32;
            batch.rows.push(row(Op::Message, transaction, 0));
        }
        set_extra(batch, extra);
        Ok(())
    }

    fn relation(&mut self, cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
        let oid = cursor.u32("a relation's OID")?;
        let schema = match cursor.text("a relation's schema")? {
            "" => "pg_catalog",
            schema => schema,
        };
        let table = cursor.text("a relation's name")?;
        let identity = cursor.u8("a relation's replica identity")?;
        let Some(identity) = ReplicaIdentity::from_byte(identity) else {
            let expected = "a replica identity";
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found: identity,
                expected,
            });
        };
        let count = cursor.u16("a relation's number of columns")? as usize;
        if count > COLUMNS_MAX {
            return Err(DecodeError::TooLarge {
                what: "a relation's number of columns",
                limit: COLUMNS_MAX,
            });
        }
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let identity = cursor.u8("a column's flags")? & 1 != 0;
            let name = cursor.text("a column's name")?.to_owned();
            let type_oid = cursor.u32("a column's type")?;
            let typmod = cursor.u32("a column's type modifier")? as i32;
            columns.push(Described {
                name,
                type_oid,
                typmod,
                identity,
            });
        }
        self.relations.describe(oid, schema, table, identity, columns);
        Ok(())
    }

    /// The index in the batch of the relation that a row names.
    #[inline]
    fn relation_of_row(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Result<u32, DecodeError> {
        let oid = cursor.u32("a row's relation")?;
        let at = self.relations.index_in(oid, &mut batch.relations);
        at.ok_or(DecodeError::UnknownRelation { lsn: cursor.lsn, oid })
    }

    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "a row has this many parts, and none belongs with another"
    )]
    fn push(
        &mut self,
        cursor: &Cursor<'_>,
        batch: &mut Batch,
        op: Op,
        relation: u32,
        new: Option<Tuple>,
        old: Option<Tuple>,
        old_image: OldImage,
    ) -> Result<(), DecodeError> {
        let Some(open) = &mut self.open else {
            return Err(DecodeError::Unexpected {
                lsn: cursor.lsn,
                found: op as u8,
                expected: "a begin before a row",
            });
        };
        list(open, batch);
        let transaction = (batch.transactions.len() - 1) as u32;
        batch.rows.push(Row {
            relation,
            new,
            old,
            old_image,
            ..row(op, transaction, open.next_ordinal)
        });
        open.next_ordinal += 1;
        Ok(())
    }
}

fn set_extra(batch: &mut Batch, extra: u32) {
    if let Some(row) = batch.rows.last_mut() {
        row.extra = extra;
    }
}
