//! The folder of spilled transactions, and what all of them together may take.

use super::held::Held;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of all streamed transactions that are held in memory. Those that the server streams at all are larger than its
/// `logical_decoding_work_mem` (64 MB unless set), so most are spilled sooner or later; this makes the writes long.
pub const MEMORY_BYTES: usize = 8 << 20;
/// Sub-transactions with changes, of all transactions in progress: some 32 bytes of memory each. A loop with an
/// exception block makes one in every turn.
pub const SUB_TRANSACTIONS_MAX: usize = 1 << 18;

const FOLDER: &str = "spill";
const FOLDER_MODE: u32 = 0o700;

/// Why no more can be held here. The server can: it is asked again without streaming.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    #[error("transactions in progress need more than the {0} bytes of `spill`")]
    Quota(u64),
    #[error("transactions in progress have more than {SUB_TRANSACTIONS_MAX} sub-transactions")]
    SubTransactions,
    #[error("transactions in progress can't be spilled: {0}")]
    Disk(io::Error),
}

/// What is held at the moment, for status and metrics.
#[derive(Debug, Default)]
pub struct SpillStats {
    pub transactions: AtomicU64,
    pub memory_bytes: AtomicU64,
    /// Of changes that wait for the copy of their table, too.
    pub disk_bytes: AtomicU64,
    /// Prepared transactions that wait for their end.
    pub prepared: AtomicU64,
}

impl SpillStats {
    /// Takes so many bytes of what all that is spilled may take together, where there are so many left.
    pub(crate) fn take_disk(&self, bytes: u64, quota: u64) -> bool {
        let within = |taken: u64| taken.checked_add(bytes).filter(|all| *all <= quota);
        let taken = self
            .disk_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        taken.is_ok()
    }

    pub(crate) fn return_disk(&self, bytes: u64) {
        self.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Deletes what an earlier run has spilled. Nothing of it counts: it is sent again.
///
/// # Errors
/// Files that can't be deleted.
pub fn clear(state_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(state_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) struct Spill {
    folder: PathBuf,
    quota: u64,
    /// [`MEMORY_BYTES`], but for tests.
    memory_limit: usize,
    stats: Arc<SpillStats>,
    transactions: u64,
    memory: usize,
    /// What it has of [`SpillStats::disk_bytes`].
    disk: u64,
    sub_transactions: usize,
}

impl Spill {
    pub(super) fn new(state_dir: &Path, quota: u64, stats: Arc<SpillStats>) -> io::Result<Self> {
        clear(state_dir)?;
        let folder = state_dir.join(FOLDER);
        DirBuilder::new().mode(FOLDER_MODE).recursive(true).create(&folder)?;
        Ok(Self {
            folder,
            quota,
            memory_limit: MEMORY_BYTES,
            stats,
            transactions: 0,
            memory: 0,
            disk: 0,
            sub_transactions: 0,
        })
    }

    pub(super) fn stats(&self) -> Arc<SpillStats> {
        Arc::clone(&self.stats)
    }

    /// What an earlier session has left and still counts, within the quota or not.
    pub(super) fn found_on_disk(&mut self, bytes: u64) {
        self.disk += bytes;
        self.stats.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn set_memory_limit(&mut self, bytes: usize) {
        self.memory_limit = bytes;
    }

    pub(super) fn open(&mut self, xid: u32) -> Held {
        self.transactions += 1;
        self.stats.transactions.store(self.transactions, Ordering::Relaxed);
        Held::new(self.folder.join(format!("{xid}.frames")))
    }

    pub(super) fn closed(&mut self) {
        self.transactions -= 1;
        self.stats.transactions.store(self.transactions, Ordering::Relaxed);
    }

    pub(super) fn exceeds_memory(&self) -> bool {
        self.memory > self.memory_limit
    }

    pub(super) fn kept(&mut self, bytes: usize) {
        self.memory += bytes;
        self.stats.memory_bytes.store(self.memory as u64, Ordering::Relaxed);
    }

    pub(super) fn released(&mut self, bytes: usize) {
        self.memory -= bytes;
        self.stats.memory_bytes.store(self.memory as u64, Ordering::Relaxed);
    }

    pub(super) fn take_disk(&mut self, bytes: u64) -> Result<(), Full> {
        if !self.stats.take_disk(bytes, self.quota) {
            return Err(Full::Quota(self.quota));
        }
        self.disk += bytes;
        Ok(())
    }

    pub(super) fn return_disk(&mut self, bytes: u64) {
        self.disk -= bytes;
        self.stats.return_disk(bytes);
    }

    pub(super) fn sub_transactions(&mut self, more: usize) -> Result<(), Full> {
        self.sub_transactions += more;
        if self.sub_transactions > SUB_TRANSACTIONS_MAX {
            return Err(Full::SubTransactions);
        }
        Ok(())
    }

    pub(super) fn sub_transactions_gone(&mut self, gone: usize) {
        self.sub_transactions -= gone;
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        for count in [&self.stats.transactions, &self.stats.memory_bytes, &self.stats.prepared] {
            count.store(0, Ordering::Relaxed);
        }
        self.stats.return_disk(self.disk);
        let removed = fs::remove_dir_all(&self.folder);
        if let Err(error) = removed {
            tracing::debug!(%error, "the spill is deleted at the next start");
        }
    }
}
