//! What the pipeline counts.

use super::commits::Commits;
use super::state_stats::StateStats;
use crate::batch::{Batch, Lsn};
use crate::plugin::Counts;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counted by the intake and the outflow, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct LaneStats {
    pub rows_received: AtomicU64,
    pub rows_delivered: AtomicU64,
    pub transactions: AtomicU64,
    pub batches: AtomicU64,
    pub rows_copied: AtomicU64,
    pub bytes_received: AtomicU64,
    /// Rows that plugins rejected, whatever became of them.
    pub rows_rejected: AtomicU64,
    /// Of those, and of those that a plugin broke on: rows that went on past the plugin, as the file says.
    pub rows_passed_by: AtomicU64,
    /// Calls that broke a plugin.
    pub plugin_faults: AtomicU64,
    /// Whether tables are being copied still.
    pub copying: AtomicBool,
    /// The stream's position behind the last batch.
    pub position: AtomicU64,
    /// Commit time of the last transaction, in µs since 2000-01-01 UTC.
    pub commit_us: AtomicU64,
    /// What the plugins keep.
    pub states: StateStats,
    pub commits: Commits,
}

impl LaneStats {
    pub(super) fn plugins(&self, counts: &Counts) {
        if *counts == Counts::default() {
            return;
        }
        self.rows_rejected.fetch_add(counts.rejected, Ordering::Relaxed);
        self.rows_passed_by
            .fetch_add(counts.passed_by_policy + counts.bypassed, Ordering::Relaxed);
        self.plugin_faults.fetch_add(counts.faults, Ordering::Relaxed);
    }

    /// A batch of the stream came in, which now stands at `position`.
    pub(super) fn received(&self, batch: &Batch, position: Lsn) {
        let transactions = batch.transactions.iter().filter(|t| t.is_complete()).count();
        self.rows_received.fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
        self.transactions.fetch_add(transactions as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.position.store(position.0, Ordering::Relaxed);
        self.commits.received(batch);
        if let Some(last) = batch.transactions.last() {
            self.commit_us.store(last.commit_us as u64, Ordering::Relaxed);
        }
    }
}
