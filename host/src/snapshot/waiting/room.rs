//! The disk for changes that wait.

use crate::assemble::SpillStats;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE_MODE: u32 = 0o600;
/// Bytes of a table's changes in memory. The stages behind are made for batches of about that size.
const PIECE_BYTES: usize = 1 << 20;

/// Why a change can't wait.
#[derive(Debug, thiserror::Error)]
pub(in crate::snapshot) enum NoRoom {
    #[error("they need more than the {0} bytes of `spill`, with transactions in progress and prepared ones")]
    Quota(u64),
    /// What waits has filled the disk itself: to wait for room would be to fill it again.
    #[error("{0}")]
    Filled(io::Error),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Where changes wait that memory isn't for, within the quota of all that is spilled.
#[derive(Clone, Debug)]
pub struct WaitingRoom {
    folder: PathBuf,
    quota: u64,
    stats: Arc<SpillStats>,
    piece_bytes: usize,
}

impl WaitingRoom {
    /// In `folder`, with `quota` bytes of which `stats` says how many are taken.
    pub fn new(folder: &Path, quota: u64, stats: Arc<SpillStats>) -> Self {
        Self {
            folder: folder.to_owned(),
            quota,
            stats,
            piece_bytes: PIECE_BYTES,
        }
    }

    #[cfg(test)]
    pub(super) fn with_piece_bytes(self, piece_bytes: usize) -> Self {
        Self { piece_bytes, ..self }
    }

    pub(super) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }
}

/// Pieces in a file that has no name any more: whatever ends the process, nothing of it stays.
#[derive(Debug)]
pub(super) struct Pieces {
    file: File,
    room: WaitingRoom,
    /// Where each ends.
    ends: Vec<u64>,
}

impl Pieces {
    pub(super) fn new(room: &WaitingRoom, table_oid: u32) -> io::Result<Self> {
        let path = room.folder.join(format!("waiting-{table_oid}"));
        // Left by a process that was killed between these two.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = file.open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self {
            file,
            room: room.clone(),
            ends: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), NoRoom> {
        let bytes = piece.len() as u64;
        if !self.room.stats.take_disk(bytes, self.room.quota) {
            return Err(NoRoom::Quota(self.room.quota));
        }
        let before = self.end();
        self.ends.push(before + bytes);
        self.file
            .write_all(piece)
            .map_err(|error| match is_full(&error) && before > 0 {
                true => NoRoom::Filled(error),
                false => NoRoom::Disk(error),
            })
    }

    pub(super) fn read(&self, at: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(end) = self.ends.get(at) else {
            return Ok(None);
        };
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = start.copied().unwrap_or_default();
        let mut piece = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut piece, start)?;
        Ok(Some(piece))
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// Whether room would help.
pub(in crate::snapshot) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.room.stats.return_disk(self.end());
    }
}
