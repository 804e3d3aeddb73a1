//! Which description of a table counts, where transactions bring their own and commit in another order.

use super::frame::Frame;
use bytes::Bytes;
use rustc_hash::FxHashMap;

/// Bytes of type names that wait for the table that they belong to: one of 1,600 columns of as many types, each with the
/// longest names.
const NAMES_BYTES_MAX: usize = 1600 * 256;

/// A Relation message as protocol 1 has it, behind the names of types that came with it, and when it came.
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
    /// Type messages that came since the last description.
    names: Vec<u8>,
}

impl Description {
    pub(super) fn frames(&self) -> Bytes {
        self.frame.clone()
    }
}

impl Descriptions {
    /// The name of a type outside of any block. Those of a table come ahead of its description.
    pub(super) fn named(&mut self, frame: &Frame<'_>) {
        if self.names.len() + frame.len() <= NAMES_BYTES_MAX {
            self.names.extend_from_slice(frame.bytes());
        }
    }

    /// One outside of any block: it counts at once.
    pub(super) fn seen(&mut self, table: u32, frame: &Frame<'_>) -> Description {
        let names = std::mem::take(&mut self.names);
        let description = self.described(&[&names, frame.bytes()]);
        self.newest.insert(table, description.clone());
        description
    }

    pub(super) fn newest(&self, table: u32) -> Option<Description> {
        self.newest.get(&table).cloned()
    }

    /// Those of a transaction that is prepared count from now on, unless a newer one is there. What of them is new to
    /// the decoder.
    pub(super) fn adopt<'a>(&mut self, of_transaction: impl Iterator<Item = (u32, &'a Description)>) -> Vec<u8> {
        let mut new = Vec::new();
        for (table, described) in of_transaction {
            let newest = self.newest.get(&table).map_or(0, |newest| newest.number);
            if newest < described.number {
                new.extend_from_slice(&described.frame);
                self.newest.insert(table, described.clone());
            }
        }
        new
    }

    /// The newest of these tables once more, behind a transaction that has brought its own.
    pub(super) fn again(&self, tables: &[u32], tail: &mut Vec<u8>) {
        let newest = tables.iter().filter_map(|table| self.newest.get(table));
        newest.for_each(|newest| tail.extend_from_slice(&newest.frame));
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
