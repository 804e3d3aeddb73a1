//! The one file that holds the letters: appended to, made durable before an append returns, written anew once more than
//! half of it is dead.
//!
//! One file and not several: then what says that a letter is gone can never be lost while the letter stays.

use super::fault;
use super::line::{self, Place, Record, Scanned};
use crate::problem::Problem;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The folder inside the state folder.
pub(super) const FOLDER: &str = "dead_letters";
const FILE: &str = "letters.jsonl";
/// The file while it is written anew.
const NEW_FILE: &str = "letters.jsonl.new";
/// Read at once while opening.
const READ_BYTES: usize = 256 * 1024;

pub(super) struct LetterFile {
    folder: PathBuf,
    file: File,
    len: u64,
    append: u64,
}

/// The file of a state folder.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER).join(FILE)
}

/// Reads a file that another process may be appending to: its torn end is passed over.
pub(super) fn peek(state_dir: &Path, with: impl FnMut(Place, Record)) -> Result<bool, Box<Problem>> {
    let path = path(state_dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fault::io(&path, &error)),
    };
    let scanned = line::scan(&mut BufReader::with_capacity(READ_BYTES, file), with);
    scanned.map(|_| true).map_err(|error| fault::scan(&path, &error))
}

impl LetterFile {
    /// Opens the file, makes it where there is none, and cuts off what a crash has left half-written.
    pub(super) fn open(state_dir: &Path, with: impl FnMut(Place, Record)) -> Result<Self, Box<Problem>> {
        let folder = state_dir.join(FOLDER);
        let path = path(state_dir);
        let opened = prepare(&folder).and_then(|()| {
            let _ = fs::remove_file(folder.join(NEW_FILE));
            let file = options().create(true).truncate(false).open(&path)?;
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            File::open(&folder)?.sync_all()?;
            Ok(file)
        });
        let file = opened.map_err(|error| fault::io(&path, &error))?;
        let mut reader = BufReader::with_capacity(READ_BYTES, &file);
        let Scanned { sound_len, append } =
            line::scan(&mut reader, with).map_err(|error| fault::scan(&path, &error))?;
        let cut = file.metadata().and_then(|metadata| {
            if metadata.len() > sound_len {
                tracing::info!(
                    bytes = metadata.len() - sound_len,
                    "dead letters: cut what a crash left half-written"
                );
                file.set_len(sound_len)?;
                file.sync_all()?;
            }
            Ok(())
        });
        cut.map_err(|error| fault::io(&path, &error))?;
        Ok(Self {
            folder,
            file,
            len: sound_len,
            append,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Frames records as the next append; their places count from the file's beginning.
    pub(super) fn frame(&self, records: &[Record]) -> Result<(Vec<u8>, Vec<Place>), Box<Problem>> {
        frame(records.iter(), records.len(), self.append + 1, self.len).map_err(|error| fault::io(&self.path(), &error))
    }

    /// Makes framed records durable. After an error the file is as it was, as far as the disk lets us, and the store
    /// must not be used further.
    pub(super) fn append(&mut self, framed: &[u8]) -> Result<(), Box<Problem>> {
        let written = self
            .file
            .write_all_at(framed, self.len)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The next start cuts it off anyway.
            let _ = self.file.set_len(self.len).and_then(|()| self.file.sync_all());
            return Err(fault::io(&self.path(), &error));
        }
        self.len += framed.len() as u64;
        self.append += 1;
        Ok(())
    }

    /// The record at a place.
    pub(super) fn read(&self, place: Place) -> Result<Record, Box<Problem>> {
        let mut line = vec![
            0;
            usize::try_from(place.len)
                .unwrap_or(usize::MAX)
                .min(isize::MAX as usize)
        ];
        let read = self.file.read_exact_at(&mut line, place.offset);
        read.map_err(|error| fault::io(&self.path(), &error))?;
        let record = line
            .strip_suffix(b"\n")
            .and_then(line::read)
            .map(|(_, _, record)| record);
        record.ok_or_else(|| fault::scan(&self.path(), &line::ScanError::Damaged(place.offset)))
    }

    /// Puts a file in its place that holds `count` records alone. Where it fails the old file stands, unless it is the
    /// last step that failed.
    pub(super) fn replace(
        &mut self,
        count: usize,
        mut records: impl FnMut(&Self, usize) -> Result<Record, Box<Problem>>,
    ) -> Result<Vec<Place>, Box<Problem>> {
        let new_path = self.folder.join(NEW_FILE);
        let failed = |error: &io::Error| fault::io(&new_path, error);
        let file = options().create(true).truncate(true).open(&new_path);
        let file = file.map_err(|error| failed(&error))?;
        let mut places = Vec::with_capacity(count);
        let mut len = 0;
        for at in 0..count {
            let record = records(self, at)?;
            let left = (count - 1 - at) as u64;
            let mut framed = Vec::new();
            line::write(&record, 1, left, &mut framed).map_err(|error| failed(&error.into()))?;
            (&file).write_all(&framed).map_err(|error| failed(&error))?;
            places.push(Place {
                offset: len,
                len: framed.len() as u64,
            });
            len += framed.len() as u64;
        }
        let renamed = file
            .sync_all()
            .and_then(|()| fs::rename(&new_path, self.path()))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        renamed.map_err(|error| failed(&error))?;
        self.file = file;
        self.len = len;
        self.append = 1;
        Ok(places)
    }
}

fn frame<'a>(
    records: impl Iterator<Item = &'a Record>,
    count: usize,
    append: u64,
    start: u64,
) -> io::Result<(Vec<u8>, Vec<Place>)> {
    let (mut framed, mut places) = (Vec::new(), Vec::with_capacity(count));
    for (at, record) in records.enumerate() {
        let before = framed.len();
        line::write(record, append, (count - 1 - at) as u64, &mut framed)?;
        places.push(Place {
            offset: start + before as u64,
            len: (framed.len() - before) as u64,
        });
    }
    Ok((framed, places))
}

fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

/// What can be read of any bytes at all: for tests and fuzzing.
pub fn read_any(bytes: impl Read) -> usize {
    let mut records = 0;
    let _ = line::scan(&mut BufReader::new(bytes), |_, _| records += 1);
    records
}
