//! What a lane counts.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counted by the lane, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct LaneStats {
    pub rows_received: AtomicU64,
    pub rows_delivered: AtomicU64,
    pub transactions: AtomicU64,
    pub batches: AtomicU64,
    pub rows_copied: AtomicU64,
    pub bytes_received: AtomicU64,
    /// Whether tables are being copied still.
    pub copying: AtomicBool,
    /// The stream's position behind the last batch.
    pub position: AtomicU64,
    /// Commit time of the last transaction, in µs since 2000-01-01 UTC.
    pub commit_us: AtomicU64,
}
