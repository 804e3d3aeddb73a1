//! The transaction that the stream stands in.

use crate::batch::{Batch, Lsn, OldImage, Op, Origin, Part, Row, Transaction};

/// A transaction whose commit has not been seen yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) xid: u32,
    pub(super) commit_lsn: Lsn,
    pub(super) commit_us: i64,
    pub(super) next_ordinal: u64,
    /// Whether an earlier batch holds a part of it.
    pub(super) begun_before: bool,
    /// Whether the batch under way holds a part of it.
    pub(super) listed: bool,
}

/// Makes sure that the batch's last transaction is the open one.
#[inline]
pub(super) fn list(open: &mut Open, batch: &mut Batch) {
    if !open.listed {
        open.listed = true;
        batch.transactions.push(Transaction {
            xid: open.xid,
            commit_lsn: open.commit_lsn,
            end_lsn: Lsn(0),
            commit_us: open.commit_us,
            part: Part::Middle,
            origin: Origin::Stream,
        });
    }
}

pub(super) fn alone(lsn: Lsn) -> Transaction {
    Transaction {
        xid: 0,
        commit_lsn: lsn,
        end_lsn: Lsn(0),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Stream,
    }
}

pub(super) fn row(op: Op, transaction: u32, ordinal: u64) -> Row {
    let (relation, extra, fan_out) = (0, 0, 0);
    Row {
        relation,
        transaction,
        ordinal,
        new: None,
        old: None,
        extra,
        fan_out,
        op,
        old_image: OldImage::Key,
    }
}

/// What a batch held, for the size of the next one's vectors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) rows: usize,
    pub(super) cells: usize,
}

impl Size {
    /// How much of what it held so much of will be in so many bytes, and some more: what grows is copied.
    pub(super) fn of(self, held: usize, bytes: usize) -> usize {
        let expected = held as u128 * bytes as u128 / self.bytes.max(1) as u128;
        // Neither a row nor a cell is less than a byte.
        (expected + expected / 8).min(bytes as u128) as usize
    }
}
