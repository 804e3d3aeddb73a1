//! Streamed changes of a table without a key, which wait until the table's rows are out: in memory, and on disk where they
//! are more than a piece.

mod piece;
mod room;

pub use room::WaitingRoom;
pub(super) use room::{NoRoom, is_full};

use super::visibility::Snapshot;
use crate::batch::{Batch, Lsn, Relation, Row};
use room::Pieces;
use std::io;
use std::sync::Arc;

/// A transaction is cut only where it is as long as so many pieces.
const PIECES_OF_TRANSACTION: usize = 16;

/// Changes in the order of the stream, copied out of their batches, which would be kept whole otherwise.
#[derive(Debug)]
pub(super) struct Waiting {
    room: WaitingRoom,
    table_oid: u32,
    relations: Vec<Arc<Relation>>,
    /// The transaction of the last change of [`Self::piece`].
    last: Option<(u32, Lsn)>,
    /// `None` while nothing is on disk.
    pieces: Option<Pieces>,
    /// Behind all of those.
    piece: Vec<u8>,
}

impl Waiting {
    pub(super) fn new(room: &WaitingRoom, table_oid: u32) -> Self {
        Self {
            room: room.clone(),
            table_oid,
            relations: Vec::new(),
            last: None,
            pieces: None,
            piece: Vec::new(),
        }
    }

    /// Takes a copy of `row`, which belongs to `batch`.
    pub(super) fn push(&mut self, batch: &Batch, row: &Row) -> Result<(), NoRoom> {
        let transaction = batch.transaction(row);
        let known = Some((transaction.xid, transaction.commit_lsn));
        // Whoever is told of a transaction in two pieces takes it for two.
        let most = match self.last == known {
            true => PIECES_OF_TRANSACTION * self.room.piece_bytes(),
            false => self.room.piece_bytes(),
        };
        if self.piece.len() >= most {
            self.spill()?;
        }
        if self.last != known {
            self.last = known;
            piece::write_transaction(&mut self.piece, transaction);
        }
        let relation = self.relation(batch.relation(row));
        piece::write_change(&mut self.piece, batch, row, relation);
        Ok(())
    }

    /// The changes that rows copied under `snapshot` don't show, to be delivered behind them.
    pub(super) fn release(&mut self, snapshot: Snapshot) -> Waited {
        let fresh = Self::new(&self.room, self.table_oid);
        let waiting = std::mem::replace(self, fresh);
        Waited {
            pieces: waiting.pieces,
            next: 0,
            piece: Some(waiting.piece),
            relations: waiting.relations,
            snapshot,
        }
    }

    fn spill(&mut self) -> Result<(), NoRoom> {
        let pieces = match &mut self.pieces {
            Some(pieces) => pieces,
            none => none.insert(Pieces::new(&self.room, self.table_oid)?),
        };
        pieces.push(&self.piece)?;
        // One row may have been huge.
        self.piece = Vec::new();
        self.last = None;
        Ok(())
    }

    fn relation(&mut self, relation: &Arc<Relation>) -> u32 {
        let known = self.relations.iter().rposition(|known| known.index == relation.index);
        let at = known.unwrap_or_else(|| {
            self.relations.push(Arc::clone(relation));
            self.relations.len() - 1
        });
        at as u32
    }
}

/// Changes that have waited, read back piece by piece; none is empty. A transaction may lie in several, each of them
/// whole.
#[derive(Debug)]
pub struct Waited {
    pieces: Option<Pieces>,
    next: usize,
    /// The last one.
    piece: Option<Vec<u8>>,
    relations: Vec<Arc<Relation>>,
    snapshot: Snapshot,
}

impl Waited {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(pieces) = &self.pieces {
            let piece = pieces.read(self.next)?;
            self.next += 1;
            if piece.is_some() {
                return Ok(piece);
            }
            self.pieces = None;
        }
        Ok(self.piece.take())
    }
}

impl Iterator for Waited {
    type Item = io::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = match self.read() {
                Ok(piece) => piece?,
                Err(error) => return Some(Err(error)),
            };
            let Some(batch) = piece::read(read, &self.relations, |xid| !self.snapshot.sees(xid)) else {
                let torn = io::Error::new(io::ErrorKind::InvalidData, "changes that waited are torn");
                return Some(Err(torn));
            };
            if !batch.rows.is_empty() {
                return Some(Ok(batch));
            }
        }
    }
}

#[cfg(test)]
mod tests;
