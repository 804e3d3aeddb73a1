//! Which description of a table counts, where transactions bring their own and commit in another order.

use super::frame::Frame;
use bytes::Bytes;
use rustc_hash::FxHashMap;

/// A Relation message as protocol 1 has it, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Description {
    number: u64,
    frame: Bytes,
}

/// The newest description of each table among those that count: sent outside of blocks, or by transactions that have
/// committed. As many as there are tables.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    newest: FxHashMap<u32, Description>,
    /// Counts them as they come.
    numbered: u64,
}

impl Descriptions {
    /// One outside of any block: it counts at once.
    pub(super) fn seen(&mut self, table: u32, frame: &Frame<'_>) {
        let description = self.described(&[frame.bytes()]);
        self.newest.insert(table, description);
    }

    /// One inside of a block, to be kept with its transaction.
    pub(super) fn described(&mut self, frame: &[&[u8]]) -> Description {
        self.numbered += 1;
        Description {
            number: self.numbered,
            frame: Bytes::from(frame.concat()),
        }
    }

    /// A transaction has committed: its descriptions count now. Where a newer one was there already, it is put behind
    /// the transaction's `tail` to take its place again.
    pub(super) fn committed(&mut self, of_transaction: FxHashMap<u32, Description>, tail: &mut Vec<u8>) {
        for (table, described) in of_transaction {
            match self.newest.get(&table) {
                Some(newest) if newest.number > described.number => tail.extend_from_slice(&newest.frame),
                _ => {
                    self.newest.insert(table, described);
                }
            }
        }
    }
}
