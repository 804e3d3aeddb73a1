//! What has come of one transaction in progress.

use super::descriptions::Description;
use super::spill::{Full, Spill};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const FILE_MODE: u32 = 0o600;
/// A message larger than this goes straight to disk: copying it would double a row of hundreds of megabytes.
const DIRECT_BYTES: usize = 1 << 20;

/// Frames as protocol 1 has them, without Begin and Commit: first those on disk, then those in memory.
pub(super) struct Held {
    path: PathBuf,
    on_disk: u64,
    memory: Vec<u8>,
    /// Where the first change of each transaction and sub-transaction stands, ascending.
    firsts: Vec<(u32, u64)>,
    seen: FxHashSet<u32>,
    /// The one whose change came last; 0 is none.
    last: u32,
    /// The descriptions of each table, and where they stand: an abort takes later ones away, and those before count again.
    descriptions: FxHashMap<u32, Vec<(u64, Description)>>,
}

impl Held {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            on_disk: 0,
            memory: Vec::new(),
            firsts: Vec::new(),
            seen: FxHashSet::default(),
            last: 0,
            descriptions: FxHashMap::default(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.on_disk + self.memory.len() as u64
    }

    pub(super) fn in_memory(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn on_disk(&self) -> u64 {
        self.on_disk
    }

    pub(super) fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// The spilled part from its start; `None` where there is none.
    pub(super) fn file(&self) -> io::Result<Option<File>> {
        match self.on_disk {
            0 => Ok(None),
            _ => File::open(&self.path).map(Some),
        }
    }

    /// A description that is about to be appended.
    pub(super) fn describe(&mut self, table: u32, description: Description) {
        let at = self.len();
        self.descriptions.entry(table).or_default().push((at, description));
    }

    pub(super) fn describes(&self, table: u32) -> bool {
        self.descriptions.get(&table).is_some_and(|of| !of.is_empty())
    }

    /// The newest of each table.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = (u32, &Description)> {
        let described = self.descriptions.iter();
        described.filter_map(|(table, of)| of.last().map(|(_, newest)| (*table, newest)))
    }

    pub(super) fn tables(&self) -> Vec<u32> {
        self.descriptions().map(|(table, _)| table).collect()
    }

    pub(super) fn take_descriptions(&mut self) -> FxHashMap<u32, Description> {
        let taken = std::mem::take(&mut self.descriptions);
        let newest = |mut of: Vec<(u64, Description)>| of.pop().map(|(_, newest)| newest);
        taken
            .into_iter()
            .filter_map(|(table, of)| Some((table, newest(of)?)))
            .collect()
    }

    /// Appends one frame, in pieces, that belongs to `xid`: the transaction itself or a sub-transaction of it.
    #[inline]
    pub(super) fn append(&mut self, spill: &mut Spill, xid: u32, pieces: &[&[u8]]) -> Result<(), Full> {
        if xid != self.last {
            self.last = xid;
            if self.seen.insert(xid) {
                self.firsts.push((xid, self.len()));
                spill.sub_transactions(1)?;
            }
        }
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if bytes > DIRECT_BYTES {
            self.flush(spill)?;
            return self.write(spill, pieces);
        }
        pieces.iter().for_each(|piece| self.memory.extend_from_slice(piece));
        spill.kept(bytes);
        Ok(())
    }

    /// Writes what is in memory behind what is on disk.
    pub(super) fn flush(&mut self, spill: &mut Spill) -> Result<(), Full> {
        let memory = std::mem::take(&mut self.memory);
        spill.released(memory.len());
        self.write(spill, &[&memory])
    }

    /// The file is opened for each write: there may be more transactions than descriptors.
    fn write(&mut self, spill: &mut Spill, pieces: &[&[u8]]) -> Result<(), Full> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        if bytes == 0 {
            return Ok(());
        }
        spill.take_disk(bytes)?;
        self.on_disk += bytes;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(FILE_MODE).open(&self.path)?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))
        };
        write().map_err(Full::Disk)
    }

    /// Drops what a sub-transaction wrote, which is all since its first change.
    pub(super) fn abort(&mut self, spill: &mut Spill, aborted: u32) -> Result<(), Full> {
        if !self.seen.contains(&aborted) {
            return Ok(());
        }
        while let Some((xid, first)) = self.firsts.pop() {
            self.seen.remove(&xid);
            spill.sub_transactions_gone(1);
            if xid == aborted {
                self.last = 0;
                return self.cut(spill, first);
            }
        }
        Ok(())
    }

    fn cut(&mut self, spill: &mut Spill, len: u64) -> Result<(), Full> {
        for of in self.descriptions.values_mut() {
            of.truncate(of.partition_point(|(at, _)| *at < len));
        }
        let kept = usize::try_from(len.saturating_sub(self.on_disk)).unwrap_or(usize::MAX);
        spill.released(self.memory.len().saturating_sub(kept));
        self.memory.truncate(kept);
        if len < self.on_disk {
            let cut = OpenOptions::new().write(true).open(&self.path);
            cut.and_then(|file| file.set_len(len)).map_err(Full::Disk)?;
            spill.return_disk(self.on_disk - len);
            self.on_disk = len;
        }
        Ok(())
    }

    /// Makes it durable with `trailer` behind it, where it counts as `padding` bytes more; it is the caller's then, and so
    /// is what it has taken of the quota.
    pub(super) fn seal(mut self, spill: &mut Spill, trailer: &[u8], padding: u64) -> Result<PathBuf, Full> {
        self.flush(spill)?;
        spill.take_disk(padding)?;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(FILE_MODE).open(&self.path)?;
            file.write_all(trailer)?;
            file.sync_all()
        };
        write().map_err(Full::Disk)?;
        spill.sub_transactions_gone(self.firsts.len());
        spill.closed();
        Ok(self.path)
    }

    /// It has ended, one way or the other.
    pub(super) fn discard(self, spill: &mut Spill) {
        spill.sub_transactions_gone(self.firsts.len());
        spill.released(self.memory.len());
        spill.closed();
        if self.on_disk > 0 {
            spill.return_disk(self.on_disk);
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::debug!(%error, "a spilled transaction can't be deleted before the next start");
            }
        }
    }
}
