//! Streamed transactions (`stream_transactions: true`): from the blocks of transactions in progress, which alternate
//! and may be rolled back, to whole transactions in commit order, as protocol 1 has them.
//!
//! ```text
//!   S 7  I I  E   S 9  I  E   B I C   S 7  U  E   A 9   c 7         as the server sends it
//!        └────────────┬──────────────────┘
//!        held by transaction: in memory, then in a file
//!
//!   B I C   B I I U C                                               what the decoder gets
//! ```
//!
//! What comes out is bytes, not rows: the same frames without the transaction ids that they carry inside of a block. So
//! streamed transactions go through the very same decoder as all others, with the same ordinals and ids, in parts like
//! any transaction that is larger than a read. What isn't part of a block passes as it came, uncopied, in its place.
//!
//! Nothing of a transaction leaves before its commit. So a restart in the midst of one finds nothing delivered and
//! nothing acknowledged of it: keepalives may pass an open transaction, as its commit lies ahead of them, and the
//! server sends all of it again. Files that an earlier run has left are deleted.
//!
//! **Sub-transactions.** Changes come in the order of the WAL, and the abort of a sub-transaction comes before anything
//! that was written after it. Sub-transactions are nested, so all that a transaction has sent since the first change of
//! an aborted one belongs to it, to its children, or to a parent that is aborted with it. So an abort cuts off the end.
//!
//! **Descriptions of tables** inside of a block count for that transaction alone, until it commits. Then they count for
//! what follows, unless a newer description of the same table has come meanwhile: that one is given once more behind
//! the commit, since the server takes it for known.
//!
//! **Prepared transactions** (`two_phase: true`) are kept until their COMMIT PREPARED, durably, see [`two_phase`] and
//! [`prepared`].
//!
//! **Limits.** In memory [`MEMORY_BYTES`] over all transactions; what exceeds it goes to disk, the largest first. On
//! disk the quota (`spill:`); sub-transactions [`SUB_TRANSACTIONS_MAX`]. Beyond either it ends with [`Full`], never by
//! waiting: the source connects again with streaming off, and the server holds what is in progress itself.

mod descriptions;
mod frame;
mod held;
mod parts;
mod prepared;
mod spill;
#[cfg(test)]
mod tests;
mod two_phase;

pub use prepared::{Ledger, begin_prepared, drop_lost};
pub use spill::{Full, MEMORY_BYTES, SUB_TRANSACTIONS_MAX, SpillStats, clear};
pub use two_phase::PreparedLost;

use crate::batch::Lsn;
use crate::decode::DecodeError;
use bytes::Bytes;
use descriptions::Descriptions;
use frame::{Frame, begin, commit};
use held::Held;
use parts::Stored;
use prepared::PreparedStore;
use rustc_hash::FxHashMap;
use spill::Spill;
use std::path::Path;
use std::sync::Arc;

/// Why no more can be assembled. `E` is why nobody takes what comes out.
#[derive(Debug)]
pub enum Stop<E> {
    Undecodable(DecodeError),
    Full(Full),
    Lost(PreparedLost),
    Gone(E),
}

impl<E> From<DecodeError> for Stop<E> {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error)
    }
}

impl<E> From<Full> for Stop<E> {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

/// What is being received and doesn't pass.
#[derive(Clone, Copy)]
struct Block {
    /// The top-level id of its transaction.
    top: u32,
    /// From BEGIN PREPARE to PREPARE; else a block of a streamed transaction.
    prepared: bool,
}

/// Assembles the chunks of one replication connection, in order. A new connection takes a new assembler: what was in
/// progress is sent again from its begin.
pub struct Assembler {
    spill: Spill,
    /// By their top-level ids.
    transactions: FxHashMap<u32, Held>,
    block: Option<Block>,
    descriptions: Descriptions,
    /// Where prepared transactions are asked for.
    prepared: Option<PreparedStore>,
    /// [`parts::PART_BYTES`], but for tests.
    part_bytes: usize,
}

impl Assembler {
    /// Spills into a folder of its own under `state_dir`, up to `quota` bytes. What lies there is deleted.
    ///
    /// # Errors
    /// A folder that can't be made or emptied.
    pub fn new(state_dir: &Path, quota: u64, stats: Arc<SpillStats>) -> std::io::Result<Self> {
        Ok(Self {
            spill: Spill::new(state_dir, quota, stats)?,
            transactions: FxHashMap::default(),
            block: None,
            descriptions: Descriptions::default(),
            prepared: None,
            part_bytes: parts::PART_BYTES,
        })
    }

    /// Keeps prepared transactions, and takes up those that were kept before, where the stream begins at `start`;
    /// `acknowledged` tells up to where it won't begin again. [`begin_prepared`] has made the folder for them, and `ledger`
    /// says what must be in it.
    ///
    /// # Errors
    /// A folder that isn't there, and files in it that can't be read.
    pub fn keep_prepared(
        mut self,
        state_dir: &Path,
        start: Lsn,
        acknowledged: impl Fn() -> Lsn + Send + 'static,
        ledger: Ledger,
    ) -> std::io::Result<Self> {
        let store = PreparedStore::open(state_dir, start, &mut self.spill, Box::new(acknowledged), ledger)?;
        self.prepared = Some(store);
        Ok(self)
    }

    /// Takes whole backend frames, and gives those that the decoder is to see, in chunks of whole frames.
    ///
    /// # Errors
    /// Bytes that don't follow the protocol, a spill that is full, and whatever `give` returns. After an error the
    /// assembler is of no use.
    pub fn feed<E>(&mut self, bytes: &Bytes, mut give: impl FnMut(Bytes) -> Result<(), E>) -> Result<(), Stop<E>> {
        if let Some(prepared) = &mut self.prepared {
            prepared.sweep(&mut self.spill).map_err(Full::Disk)?;
        }
        let (mut at, mut passed) = (0, 0);
        while let Some(frame) = Frame::at(bytes, at)? {
            let end = at + frame.len();
            if !self.passes(&frame)? {
                if passed < at {
                    give(bytes.slice(passed..at)).map_err(Stop::Gone)?;
                }
                passed = end;
                self.place(&frame, &mut give)?;
            }
            at = end;
        }
        if passed < bytes.len() {
            give(bytes.slice(passed..)).map_err(Stop::Gone)?;
        }
        Ok(())
    }

    /// Whether a frame goes on as it is: keepalives, and what belongs to no streamed transaction.
    #[inline]
    fn passes(&mut self, frame: &Frame<'_>) -> Result<bool, DecodeError> {
        let Some(kind) = frame.message() else {
            // No position passes rows that aren't durable yet.
            return Ok(self.block.is_none_or(|block| !block.prepared));
        };
        if self.block.is_some() {
            return Ok(false);
        }
        match kind {
            b'R' => {
                self.descriptions.seen(frame.u32_at(0)?, frame);
            }
            b'Y' => self.descriptions.named(frame),
            _ => {}
        }
        Ok(!matches!(
            kind,
            b'S' | b'E' | b'A' | b'c' | b'b' | b'P' | b'K' | b'r' | b'p'
        ))
    }

    fn place<E>(&mut self, frame: &Frame<'_>, give: &mut impl FnMut(Bytes) -> Result<(), E>) -> Result<(), Stop<E>> {
        let kind = frame.message();
        match (self.block, kind.unwrap_or_default()) {
            (Some(Block { top, prepared: false }), b'I' | b'U' | b'D' | b'T' | b'M' | b'Y' | b'R') => {
                self.change(top, frame)?;
            }
            // The only message in a block without an id.
            (Some(Block { top, prepared: false }), b'O') => self.append(top, frame, &[frame.bytes()])?,
            (Some(Block { prepared: false, .. }), b'E') => self.block = None,
            (Some(Block { top, prepared: true }), b'I' | b'U' | b'D' | b'T' | b'M' | b'Y' | b'R' | b'O') => {
                self.prepared_change(top, frame, give)?;
            }
            (Some(Block { prepared: true, .. }), b'P') | (None, b'P' | b'p') => self.prepare(frame, give)?,
            // What isn't a message is a keepalive: one with a later position comes behind the PREPARE.
            (Some(Block { prepared: true, .. }), _) if kind.is_none() => {}
            (None, b'S') => self.begin_block(frame)?,
            (None, b'A') => self.abort(frame)?,
            (None, b'c') => self.commit(frame, give)?,
            (None, b'b') => self.begin_prepare(frame)?,
            (None, b'K') => self.commit_prepared(frame, give)?,
            (None, b'r') => self.rollback_prepared(frame)?,
            (block, found) => {
                return Err(Stop::Undecodable(DecodeError::Unexpected {
                    lsn: frame.lsn(),
                    found,
                    expected: if block.is_some() {
                        "a change inside of a block"
                    } else {
                        "the begin of a block"
                    },
                }));
            }
        }
        Ok(())
    }

    fn begin_block(&mut self, frame: &Frame<'_>) -> Result<(), DecodeError> {
        let top = frame.u32_at(0)?;
        let first = frame.u8_at(4)? & 1 != 0;
        if self.transactions.contains_key(&top) == first {
            return Err(unknown(frame));
        }
        if first {
            self.transactions.insert(top, self.spill.open(top));
        }
        self.block = Some(Block { top, prepared: false });
        Ok(())
    }

    /// A message of a block: without the id behind its kind it is as protocol 1 has it.
    fn change<E>(&mut self, top: u32, frame: &Frame<'_>) -> Result<(), Stop<E>> {
        let xid = frame.u32_at(0)?;
        let (head, rest) = frame.without_xid()?;
        if frame.message() == Some(b'R') {
            let described = self.descriptions.described(&[&head, rest]);
            self.held(top, frame)?.describe(frame.u32_at(4)?, described);
        }
        let held = self.transactions.get_mut(&top).ok_or_else(|| unknown(frame))?;
        held.append(&mut self.spill, xid, &[&head, rest])?;
        self.trim()?;
        Ok(())
    }

    fn held(&mut self, top: u32, frame: &Frame<'_>) -> Result<&mut Held, DecodeError> {
        self.transactions.get_mut(&top).ok_or_else(|| unknown(frame))
    }

    /// What belongs to the transaction itself.
    fn append<E>(&mut self, top: u32, frame: &Frame<'_>, pieces: &[&[u8]]) -> Result<(), Stop<E>> {
        let held = self.transactions.get_mut(&top).ok_or_else(|| unknown(frame))?;
        held.append(&mut self.spill, top, pieces)?;
        self.trim()?;
        Ok(())
    }

    /// Brings what is in memory below its bound: the largest goes first, so that each write is worth its while.
    fn trim(&mut self) -> Result<(), Full> {
        while self.spill.exceeds_memory() {
            let largest = self.transactions.values_mut().max_by_key(|held| held.in_memory());
            match largest {
                Some(held) => held.flush(&mut self.spill)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Of a transaction, or of a sub-transaction. One that nothing was sent of has nothing to be dropped.
    fn abort<E>(&mut self, frame: &Frame<'_>) -> Result<(), Stop<E>> {
        let (top, aborted) = (frame.u32_at(0)?, frame.u32_at(4)?);
        if top == aborted {
            if let Some(held) = self.transactions.remove(&top) {
                held.discard(&mut self.spill);
            }
        } else if let Some(held) = self.transactions.get_mut(&top) {
            held.abort(&mut self.spill, aborted)?;
        }
        Ok(())
    }

    /// A transaction takes its place in the order of commits: it is given as one that has just been sent.
    fn commit<E>(&mut self, frame: &Frame<'_>, give: &mut impl FnMut(Bytes) -> Result<(), E>) -> Result<(), Stop<E>> {
        let top = frame.u32_at(0)?;
        let flags = frame.u8_at(4)?;
        let (commit_lsn, end_lsn, time) = (frame.u64_at(5)?, frame.u64_at(13)?, frame.u64_at(21)?);
        let mut held = self.transactions.remove(&top).ok_or_else(|| unknown(frame))?;
        let mut tail = commit(frame.lsn(), flags, commit_lsn, end_lsn, time);
        self.descriptions.committed(held.take_descriptions(), &mut tail);
        let stored = Stored {
            file: held.file().map_err(Full::Disk)?,
            on_disk: held.on_disk(),
            memory: held.memory(),
        };
        let given = parts::give(
            stored,
            begin(frame.lsn(), commit_lsn, time, top),
            &tail,
            self.part_bytes,
            give,
        );
        held.discard(&mut self.spill);
        given
    }
}

fn unknown(frame: &Frame<'_>) -> DecodeError {
    DecodeError::Unexpected {
        lsn: frame.lsn(),
        found: frame.message().unwrap_or_default(),
        expected: "a streamed transaction that is in progress",
    }
}

/// The position of a frame whose header isn't there.
const NOWHERE: Lsn = Lsn(0);
