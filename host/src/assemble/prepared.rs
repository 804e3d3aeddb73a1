//! Prepared transactions, kept on disk until they are committed or rolled back.
//!
//! ```text
//!   spill/7.frames    --fsync, rename-->   prepared/00000007                      at PREPARE TRANSACTION
//!   prepared/00000007 --rename-->          prepared/00000007-00000000015A3F28     at COMMIT PREPARED: it leaves now
//!                                          deleted                                that commit's end is acknowledged
//!   prepared/00000007                      deleted                                at ROLLBACK PREPARED
//! ```
//!
//! The server sends the rows of a prepared transaction once: behind a confirmed PREPARE it sends COMMIT PREPARED alone.
//! So nothing behind a PREPARE goes on, and no position with it, before its file is durable under its name; and a file
//! goes only once the server doesn't send what ends it again. Each change of a name is durable before anything behind
//! it goes on, so that whatever is found at a start is either needed or known to be not. What a failover has lost is known by
//! where its PREPARE stood: the server gives its id to another transaction.

use super::held::Held;
use super::spill::{Full, Spill, SpillStats};
use crate::batch::Lsn;
use rustc_hash::FxHashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const FOLDER: &str = "prepared";
const FOLDER_MODE: u32 = 0o700;
/// What the smallest file takes on disk: it counts as that much, so that the quota bounds their number too.
const BLOCK_BYTES: u64 = 4096;
/// At the end of each file: what it is, in which form. Before, it didn't say where the PREPARE stood.
const MAGIC: &[u8; 8] = b"RWPREP02";
const MAGIC_BEFORE: &[u8; 8] = b"RWPREP01";
/// Number of tables, of the frames' bytes, where the PREPARE stood, and the magic.
const FOOTER: usize = 4 + 8 + 8 + MAGIC.len();

/// Records ids durably.
pub type Record = Box<dyn Fn(&[u32]) -> io::Result<()> + Send>;

/// What the state says of prepared transactions.
pub struct Ledger {
    /// The ids of those whose files there must be.
    pub recorded: Vec<u32>,
    /// In place of those.
    pub record: Record,
    /// A transaction that was committed before it may have been handed to somebody else, where the slot was theirs.
    pub foreign_until: Lsn,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            recorded: Vec::new(),
            record: Box::new(|_| Ok(())),
            foreign_until: Lsn(0),
        }
    }
}

/// Makes an empty folder, for a slot that hasn't handed anything over. What lies there is deleted.
///
/// # Errors
/// A folder that can't be emptied or made.
pub fn begin_prepared(state_dir: &Path) -> io::Result<()> {
    let folder = state_dir.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(FOLDER_MODE).recursive(true).create(&folder)?;
    File::open(state_dir)?.sync_all()
}

/// Deletes those of which the server knows nothing any more, as it stands on a timeline that parts before their PREPARE: at
/// `parts_at`, or earlier. Returns their ids. Those that an older host has kept, without that place, stay.
///
/// # Errors
/// A folder that can't be read or written to, files that no session has written, and a record that can't be made.
pub fn drop_lost(state_dir: &Path, parts_at: Lsn, mut ledger: Ledger) -> io::Result<Vec<u32>> {
    let folder = state_dir.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        // It is made with the first, or missed by whoever asks for one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut lost = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some((xid, _)) = named(&path)
            && read(path.clone())?.prepared_at.is_some_and(|at| at >= parts_at)
        {
            lost.push((xid, path));
        }
    }
    let xids: Vec<u32> = lost.iter().map(|(xid, _)| *xid).collect();
    if !xids.is_empty() {
        // In this order: what is recorded is there.
        ledger.recorded.retain(|xid| !xids.contains(xid));
        (ledger.record)(&ledger.recorded)?;
        lost.iter().try_for_each(|(_, path)| fs::remove_file(path))?;
        File::open(&folder)?.sync_all()?;
    }
    Ok(xids)
}

/// One that waits for its end.
pub(super) struct Prepared {
    path: PathBuf,
    /// Of its frames, which the file begins with.
    pub(super) frames: u64,
    /// As they count in the quota.
    bytes: u64,
    /// The tables that it describes.
    pub(super) tables: Vec<u32>,
    /// Where its PREPARE stood; `None` where an older host has kept it.
    prepared_at: Option<Lsn>,
}

impl Prepared {
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

/// One that has left, up to this commit's end.
struct Left {
    xid: u32,
    path: PathBuf,
    end: Lsn,
    bytes: u64,
}

/// All of a pipeline, by their transaction ids: a global id may be used again as soon as its transaction has ended.
pub(super) struct PreparedStore {
    folder: PathBuf,
    waiting: FxHashMap<u32, Prepared>,
    left: Vec<Left>,
    acknowledged: Box<dyn Fn() -> Lsn + Send>,
    ledger: Ledger,
    stats: Arc<SpillStats>,
}

impl PreparedStore {
    /// Takes up what an earlier session has kept, where the stream begins at `start`.
    ///
    /// # Errors
    /// A folder or a file that isn't there though it must be, and files that no session has written.
    pub(super) fn open(
        state_dir: &Path,
        start: Lsn,
        spill: &mut Spill,
        acknowledged: Box<dyn Fn() -> Lsn + Send>,
        ledger: Ledger,
    ) -> io::Result<Self> {
        let mut store = Self {
            folder: state_dir.join(FOLDER),
            waiting: FxHashMap::default(),
            left: Vec::new(),
            acknowledged,
            ledger,
            stats: spill.stats(),
        };
        let mut missing = std::mem::take(&mut store.ledger.recorded);
        let mut over = Vec::new();
        for entry in fs::read_dir(&store.folder)? {
            let path = entry?.path();
            let Some((xid, end)) = named(&path) else { continue };
            missing.retain(|recorded| *recorded != xid);
            if end.is_some_and(|end| end <= start) {
                over.push(path);
                continue;
            }
            let prepared = read(path)?;
            spill.found_on_disk(prepared.bytes);
            store.waiting.insert(xid, prepared);
        }
        if let Some(xid) = missing.first() {
            let text = format!("the file of prepared transaction {xid}, `{xid:08x}`, is missing");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        store.record()?;
        // What is recorded has a file, whatever happens in between.
        over.into_iter().try_for_each(fs::remove_file)?;
        store.count();
        Ok(store)
    }

    /// Makes a transaction durable that has been prepared.
    pub(super) fn keep(&mut self, spill: &mut Spill, xid: u32, prepared_at: Lsn, held: Held) -> Result<(), Full> {
        let tables = held.tables();
        let frames = held.len();
        let trailer = trailer(&tables, frames, prepared_at);
        let padding = (frames + trailer.len() as u64).next_multiple_of(BLOCK_BYTES) - frames;
        let from = held.seal(spill, &trailer, padding)?;
        let path = self.folder.join(format!("{xid:08x}"));
        fs::rename(from, &path).map_err(Full::Disk)?;
        self.sync().map_err(Full::Disk)?;
        let bytes = frames + padding;
        let prepared = Prepared {
            path,
            frames,
            bytes,
            tables,
            prepared_at: Some(prepared_at),
        };
        // The server has sent it again: its position hadn't passed.
        if let Some(before) = self.waiting.insert(xid, prepared) {
            spill.return_disk(before.bytes);
        }
        self.record().map_err(Full::Disk)?;
        self.count();
        Ok(())
    }

    /// It is committed and about to leave. `None` where nothing of it was ever sent.
    pub(super) fn leaves(&mut self, xid: u32, end: Lsn) -> io::Result<Option<Prepared>> {
        let Some(mut prepared) = self.waiting.remove(&xid) else {
            return Ok(None);
        };
        let path = self.folder.join(format!("{xid:08x}-{:016x}", end.0));
        fs::rename(&prepared.path, &path)?;
        self.sync()?;
        prepared.path.clone_from(&path);
        let bytes = prepared.bytes;
        self.left.push(Left { xid, path, end, bytes });
        self.count();
        Ok(Some(prepared))
    }

    /// It is rolled back.
    pub(super) fn drop(&mut self, spill: &mut Spill, xid: u32) -> io::Result<()> {
        let Some(prepared) = self.waiting.remove(&xid) else {
            return Ok(());
        };
        // In this order: what is recorded is there.
        self.record()?;
        fs::remove_file(&prepared.path)?;
        self.sync()?;
        spill.return_disk(prepared.bytes);
        self.count();
        Ok(())
    }

    /// Deletes those that have left and won't be asked for again.
    #[inline]
    pub(super) fn sweep(&mut self, spill: &mut Spill) -> io::Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let acknowledged = (self.acknowledged)();
        let gone: Vec<Left> = self.left.extract_if(.., |left| left.end <= acknowledged).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.record()?;
        for gone in gone {
            fs::remove_file(&gone.path)?;
            spill.return_disk(gone.bytes);
        }
        Ok(())
    }

    /// Whether somebody else may have got the rows of one that is committed there.
    pub(super) fn is_foreign(&self, commit: Lsn) -> bool {
        commit < self.ledger.foreign_until
    }

    /// Records whose files there are, so that one that goes missing is missed.
    fn record(&self) -> io::Result<()> {
        let left = self.left.iter().map(|left| left.xid);
        let mut xids: Vec<u32> = self.waiting.keys().copied().chain(left).collect();
        xids.sort_unstable();
        (self.ledger.record)(&xids)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn count(&self) {
        self.stats.prepared.store(self.waiting.len() as u64, Ordering::Relaxed);
    }
}

/// `0000007b`, or `0000007b-00000000015a3f28` of one that has left.
fn named(path: &Path) -> Option<(u32, Option<Lsn>)> {
    let name = path.file_name()?.to_str()?;
    let (xid, end) = match name.split_once('-') {
        Some((xid, end)) => (xid, Some(Lsn(u64::from_str_radix(end, 16).ok()?))),
        None => (name, None),
    };
    Some((u32::from_str_radix(xid, 16).ok()?, end))
}

fn trailer(tables: &[u32], frames: u64, prepared_at: Lsn) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(tables.len() * 4 + FOOTER);
    tables.iter().for_each(|oid| trailer.extend(oid.to_be_bytes()));
    trailer.extend((tables.len() as u32).to_be_bytes());
    trailer.extend(frames.to_be_bytes());
    trailer.extend(prepared_at.0.to_be_bytes());
    trailer.extend(MAGIC);
    trailer
}

/// Number of tables, of the frames' bytes, where the PREPARE stood, and how long all of that is.
fn footer(end: &[u8]) -> Option<(u64, u64, Option<Lsn>, u64)> {
    let (rest, magic) = end.split_last_chunk()?;
    let (rest, prepared_at, len) = match magic {
        MAGIC => {
            let (rest, at) = rest.split_last_chunk()?;
            (rest, Some(Lsn(u64::from_be_bytes(*at))), FOOTER)
        }
        MAGIC_BEFORE => (rest, None, FOOTER - 8),
        _ => return None,
    };
    let (rest, frames) = rest.split_last_chunk()?;
    let (_, tables) = rest.split_last_chunk()?;
    let tables = u32::from_be_bytes(*tables);
    Some((u64::from(tables), u64::from_be_bytes(*frames), prepared_at, len as u64))
}

fn read(path: PathBuf) -> io::Result<Prepared> {
    let mut file = File::open(&path)?;
    let len = file.metadata()?.len();
    let broken = || {
        let name = path.display();
        io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not as it was written"))
    };
    file.seek(SeekFrom::Start(len.saturating_sub(FOOTER as u64)))?;
    let mut end = Vec::with_capacity(FOOTER);
    file.by_ref().take(FOOTER as u64).read_to_end(&mut end)?;
    let (count, frames, prepared_at, footer_bytes) = footer(&end).ok_or_else(broken)?;
    let tables_bytes = count * 4;
    if frames.checked_add(tables_bytes + footer_bytes) != Some(len) {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(frames))?;
    let mut tables = Vec::new();
    file.take(tables_bytes).read_to_end(&mut tables)?;
    let tables = tables
        .as_chunks()
        .0
        .iter()
        .map(|oid| u32::from_be_bytes(*oid))
        .collect();
    Ok(Prepared {
        path,
        frames,
        bytes: len.next_multiple_of(BLOCK_BYTES),
        tables,
        prepared_at,
    })
}
