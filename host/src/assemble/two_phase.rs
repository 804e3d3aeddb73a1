//! Prepared transactions: from BEGIN PREPARE to COMMIT PREPARED.
//!
//! ```text
//!   b 7  R I I  P 7     B I C     K 7             as the server sends it
//!        └──┬───┘                 │
//!        durable with P           └─ leaves now, with this commit's position
//!
//!        R            B I C     B R I I C         what the decoder gets
//! ```
//!
//! What leaves is what would have been sent without `two_phase`, where such a transaction is decoded at its COMMIT
//! PREPARED: the same rows and ordinals, the same transaction id, position and time.
//!
//! **Descriptions of tables** that come with a prepared transaction count for the whole connection, for the server, from
//! there on. So they go to the decoder at once, and are kept with the rows too, as are those that the transaction only
//! relies on: it may leave over another connection, which has none of them. Behind its commit the connection's own are
//! given once more. Nobody else writes to a table meanwhile that the transaction has altered: it holds the lock.
//!
//! **Streamed and prepared** it ends with `p` and not with `c`. A server that begins behind a PREPARE may stream the
//! transaction once more, without a `p`, before it sends COMMIT PREPARED: what is held of that is dropped.

use super::frame::{Frame, begin, commit};
use super::parts::{self, Stored};
use super::spill::Full;
use super::{Assembler, Block, Stop, unknown};
use crate::batch::Lsn;
use crate::decode::DecodeError;
use bytes::Bytes;

/// A transaction that was prepared before, and whose rows aren't here. They won't be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rows of prepared transaction {xid}, committed at {lsn}, are not in the state folder")]
pub struct PreparedLost {
    pub xid: u32,
    pub lsn: Lsn,
    /// Whether the slot was somebody else's when it was prepared.
    pub foreign: bool,
}

/// Behind the kind of P and p, of K, and of r.
const LSN_OF_PREPARE: usize = 1;
const XID_OF_PREPARE: usize = 1 + 3 * 8;
const XID_OF_COMMIT: usize = 1 + 3 * 8;
const XID_OF_ROLLBACK: usize = 1 + 4 * 8;
/// Behind the kind of b.
const XID_OF_BEGIN: usize = 3 * 8;

impl Assembler {
    pub(super) fn begin_prepare(&mut self, frame: &Frame<'_>) -> Result<(), DecodeError> {
        if self.prepared.is_none() {
            return Err(unknown(frame));
        }
        let xid = frame.u32_at(XID_OF_BEGIN)?;
        self.forget(xid);
        self.transactions.insert(xid, self.spill.open(xid));
        self.block = Some(Block {
            top: xid,
            prepared: true,
        });
        Ok(())
    }

    /// A message between BEGIN PREPARE and PREPARE, which has no id behind its kind.
    pub(super) fn prepared_change<E>(
        &mut self,
        xid: u32,
        frame: &Frame<'_>,
        give: &mut impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        match frame.message() {
            Some(b'R') => {
                let table = frame.u32_at(0)?;
                let described = self.descriptions.seen(table, frame);
                self.held(xid, frame)?.describe(table, described);
                give(Bytes::copy_from_slice(frame.bytes())).map_err(Stop::Gone)?;
            }
            Some(b'Y') => {
                self.descriptions.named(frame);
                give(Bytes::copy_from_slice(frame.bytes())).map_err(Stop::Gone)?;
            }
            Some(b'I' | b'U' | b'D') => self.relies_on(xid, frame.u32_at(0)?, frame)?,
            Some(b'T') => {
                let count = frame.u32_at(0)? as usize;
                for table in 0..count {
                    self.relies_on(xid, frame.u32_at(5 + 4 * table)?, frame)?;
                }
            }
            _ => {}
        }
        self.append(xid, frame, &[frame.bytes()])
    }

    /// Keeps the description of a table that has come before the transaction, ahead of its first row.
    fn relies_on<E>(&mut self, xid: u32, table: u32, frame: &Frame<'_>) -> Result<(), Stop<E>> {
        if self.held(xid, frame)?.describes(table) {
            return Ok(());
        }
        let lsn = frame.lsn();
        let newest = self.descriptions.newest(table);
        let newest = newest.ok_or(DecodeError::UnknownRelation { lsn, oid: table })?;
        let bytes = newest.frames();
        self.held(xid, frame)?.describe(table, newest);
        self.append(xid, frame, &[&bytes])
    }

    /// PREPARE, and the same of a streamed transaction: from here on its rows are ours to keep.
    pub(super) fn prepare<E>(
        &mut self,
        frame: &Frame<'_>,
        give: &mut impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let (xid, lsn) = (frame.u32_at(XID_OF_PREPARE)?, Lsn(frame.u64_at(LSN_OF_PREPARE)?));
        let block = self.block.take();
        // From 18 on a transaction without a change has no begin.
        if block.is_none() && frame.message() == Some(b'P') {
            return Ok(());
        }
        if block.is_some_and(|block| block.top != xid) {
            return Err(unknown(frame).into());
        }
        let held = self.transactions.remove(&xid).ok_or_else(|| unknown(frame))?;
        let store = self.prepared.as_mut().ok_or_else(|| unknown(frame))?;
        let known_now = self.descriptions.adopt(held.descriptions());
        store.keep(&mut self.spill, xid, lsn, held)?;
        match known_now.is_empty() {
            true => Ok(()),
            false => give(Bytes::from(known_now)).map_err(Stop::Gone),
        }
    }

    /// It takes its place in the order of commits: it is given as one that has just been sent.
    pub(super) fn commit_prepared<E>(
        &mut self,
        frame: &Frame<'_>,
        give: &mut impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let flags = frame.u8_at(0)?;
        let (commit_lsn, end_lsn, time) = (frame.u64_at(1)?, frame.u64_at(9)?, frame.u64_at(17)?);
        let xid = frame.u32_at(XID_OF_COMMIT)?;
        let sent_again = self.forget(xid);
        let store = self.prepared.as_mut().ok_or_else(|| unknown(frame))?;
        let prepared = store.leaves(xid, Lsn(end_lsn)).map_err(Full::Disk)?;
        let head = begin(frame.lsn(), commit_lsn, time, xid);
        let mut tail = commit(frame.lsn(), flags, commit_lsn, end_lsn, time);
        let Some(prepared) = prepared else {
            let lsn = Lsn(commit_lsn);
            let foreign = store.is_foreign(lsn);
            // One without a change is committed without having been sent.
            return match sent_again || foreign {
                true => Err(Stop::Lost(PreparedLost { xid, lsn, foreign })),
                false => give(Bytes::from([head, tail].concat())).map_err(Stop::Gone),
            };
        };
        self.descriptions.again(&prepared.tables, &mut tail);
        let stored = Stored {
            file: Some(prepared.open().map_err(Full::Disk)?),
            on_disk: prepared.frames,
            memory: &[],
        };
        parts::give(stored, head, &tail, self.part_bytes, give)
    }

    pub(super) fn rollback_prepared<E>(&mut self, frame: &Frame<'_>) -> Result<(), Stop<E>> {
        let xid = frame.u32_at(XID_OF_ROLLBACK)?;
        self.forget(xid);
        let store = self.prepared.as_mut().ok_or_else(|| unknown(frame))?;
        store.drop(&mut self.spill, xid).map_err(Full::Disk)?;
        Ok(())
    }

    /// Drops what has been streamed of a transaction; whether there was anything.
    fn forget(&mut self, xid: u32) -> bool {
        match self.transactions.remove(&xid) {
            Some(held) => {
                held.discard(&mut self.spill);
                true
            }
            None => false,
        }
    }
}
