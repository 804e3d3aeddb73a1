//! The last commits of the stream that brought rows, until a position behind them is stored: by the last of them a server's
//! history is known again (`checkpoint::compare_history`).

use crate::batch::{Batch, Lsn, Op, Origin, Transaction};
use crate::checkpoint::{Commit, LastCommit};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One for each batch on its way to the sinks: 1.5 MB. Beyond, the last commit isn't known until the next session.
const WAITING_MAX: usize = 1 << 16;

/// Filled by the intake, looked at by who stores positions.
#[derive(Debug, Default)]
pub struct Commits(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    commits: VecDeque<Commit>,
    /// The transaction that a batch broke off in has had rows.
    open: bool,
    lost: bool,
}

impl Commits {
    /// A session begins: nothing is on its way.
    pub fn begin(&self) {
        *self.lock() = Waiting::default();
    }

    /// The last commit with rows up to `lsn`, which is about to be stored.
    pub fn up_to(&self, lsn: Lsn) -> LastCommit {
        let waiting = self.lock();
        if waiting.lost {
            return LastCommit::Unknown;
        }
        let passed = waiting.commits.iter().take_while(|commit| commit.end() <= lsn);
        passed.last().map_or(LastCommit::Same, |commit| LastCommit::Is(*commit))
    }

    /// `lsn` is stored.
    pub fn forget(&self, lsn: Lsn) {
        let mut waiting = self.lock();
        while waiting.commits.front().is_some_and(|commit| commit.end() <= lsn) {
            waiting.commits.pop_front();
        }
    }

    /// A batch of the stream as it was received, in order.
    pub(super) fn received(&self, batch: &Batch) {
        if batch.transactions.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        let (last, open) = last_with_rows(batch, waiting.open);
        waiting.open = open;
        let Some(transaction) = last else { return };
        waiting.lost |= waiting.commits.len() >= WAITING_MAX;
        if !waiting.lost {
            waiting.commits.push_back(Commit {
                lsn: transaction.commit_lsn.0,
                end_lsn: transaction.end_lsn.0,
                time_us: transaction.commit_us,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last transaction with rows that ends in the batch, and whether the one that it breaks off in has had any; `open`
/// says that of the one that it goes on with.
fn last_with_rows(batch: &Batch, open: bool) -> (Option<&Transaction>, bool) {
    let ends = |transaction: &&Transaction| transaction.origin == Origin::Stream && transaction.end_lsn != Lsn(0);
    let broken_off =
        batch.transactions.len() - usize::from(batch.transactions.last().is_some_and(|last| !last.is_complete()));
    let goes_on = broken_off < batch.transactions.len();
    let mut rows = batch.rows.iter().rev().filter(|row| row.op != Op::Message);
    let newest = rows.next().map(|row| row.transaction as usize);
    let still_open = goes_on && (newest == Some(broken_off) || open && broken_off == 0);
    let newest = match newest {
        // Most batches end at a commit.
        Some(at) if at < broken_off => Some(at),
        Some(_) => rows.map(|row| row.transaction as usize).find(|at| *at < broken_off),
        None => None,
    };
    let newest = newest.or_else(|| (open && broken_off > 0).then_some(0));
    let last = newest.and_then(|at| batch.transactions.get(at)).filter(ends);
    (last, still_open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{OldImage, Part, Row};

    /// Transactions as (where the commit begins; 0 where the batch breaks off), and the transaction and kind of each row.
    fn batch(transactions: &[u64], rows: &[(u32, Op)]) -> Batch {
        let transaction = |lsn: &u64| Transaction {
            xid: 7,
            commit_lsn: Lsn(*lsn),
            end_lsn: Lsn(if *lsn == 0 { 0 } else { lsn + 8 }),
            commit_us: 5,
            part: if *lsn == 0 { Part::First } else { Part::Whole },
            origin: Origin::Stream,
        };
        let row = |(transaction, op): &(u32, Op)| Row {
            relation: 0,
            transaction: *transaction,
            ordinal: 0,
            new: None,
            old: None,
            extra: 0,
            fan_out: 0,
            op: *op,
            old_image: OldImage::Key,
        };
        Batch {
            transactions: transactions.iter().map(transaction).collect(),
            rows: rows.iter().map(row).collect(),
            ..Batch::default()
        }
    }

    fn last(commits: &Commits, lsn: u64) -> Option<u64> {
        match commits.up_to(Lsn(lsn)) {
            LastCommit::Is(commit) => Some(commit.lsn),
            LastCommit::Same => None,
            LastCommit::Unknown => panic!("lost"),
        }
    }

    #[test]
    fn the_last_commit_with_rows_is_known_until_it_is_stored() {
        let commits = Commits::default();
        commits.received(&batch(
            &[0x10, 0x20, 0x30],
            &[(0, Op::Insert), (1, Op::Truncate), (2, Op::Message)],
        ));
        assert_eq!((last(&commits, 0x27), last(&commits, 0x100)), (None, Some(0x20)));
        commits.received(&batch(&[0x40], &[]));
        assert_eq!(last(&commits, 0x100), Some(0x20), "without rows");
        commits.forget(Lsn(0x100));
        assert_eq!(last(&commits, 0x100), None);
    }

    #[test]
    fn a_transaction_of_several_batches_has_rows_where_any_has() {
        let commits = Commits::default();
        commits.received(&batch(&[0x10, 0], &[(0, Op::Insert), (1, Op::Insert), (1, Op::Insert)]));
        assert_eq!(last(&commits, 0x100), Some(0x10));
        commits.received(&batch(&[0], &[]));
        commits.received(&batch(&[0x20, 0], &[(1, Op::Message)]));
        assert_eq!(last(&commits, 0x100), Some(0x20));
        commits.received(&batch(&[0x30], &[]));
        assert_eq!(last(&commits, 0x100), Some(0x20), "messages alone");
    }

    #[test]
    fn too_many_are_not_taken_for_the_last() {
        let commits = Commits::default();
        for at in 0..=WAITING_MAX as u64 {
            commits.received(&batch(&[0x10 * (at + 1)], &[(0, Op::Delete)]));
        }
        assert_eq!(commits.up_to(Lsn(u64::MAX)), LastCommit::Unknown);
        commits.begin();
        assert_eq!(commits.up_to(Lsn(u64::MAX)), LastCommit::Same);
    }
}
