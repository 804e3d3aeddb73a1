//! The host's own copies of modules, by hash: what runs can always be loaded again, whatever happens to the user's file.

use super::ModuleHash;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// `<state_dir>/modules`, one file for each module. Only the host that holds the state folder writes there.
#[derive(Clone, Debug)]
pub struct ModuleStore {
    folder: PathBuf,
}

impl ModuleStore {
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("modules");
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder)?;
        Ok(Self { folder })
    }

    /// Where the module with this hash lies, if it is stored.
    pub fn path(&self, hash: &ModuleHash) -> PathBuf {
        self.folder.join(format!("{}.wasm", hash_hex(hash)))
    }

    /// Stores a module durably and returns its hash and place. What is there already and whole is left alone.
    pub fn put(&self, bytes: &[u8]) -> io::Result<(ModuleHash, PathBuf)> {
        let hash = hash_of(bytes);
        let path = self.path(&hash);
        if fs::read(&path).is_ok_and(|stored| stored == bytes) {
            return Ok((hash, path));
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok((hash, path))
    }

    /// The module with this hash. Bytes that no longer have it are an error, never returned.
    pub fn get(&self, hash: &ModuleHash) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.path(hash))?;
        if hash_of(&bytes) != *hash {
            let text = format!("stored module {} is damaged", hash_hex(hash));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(bytes)
    }

    /// As [`Self::get`], by the hash as it is written.
    pub fn get_hex(&self, hex: &str) -> io::Result<Vec<u8>> {
        let mut hash = ModuleHash::default();
        let digits: Option<Vec<u8>> = hex
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect();
        match digits {
            Some(digits) if digits.len() == 2 * hash.len() => {
                for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = pair[0] << 4 | pair[1];
                }
                self.get(&hash)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a SHA-256 in hex")),
        }
    }

    /// As [`Self::retain`], by hashes as they are written.
    pub fn retain_hex(&self, keep: &HashSet<String>) -> io::Result<usize> {
        let kept = keep.iter().map(|hash| self.folder.join(format!("{hash}.wasm")));
        self.remove_others(&kept.collect())
    }

    /// Removes every module but those in `keep`, and what an interrupted `put` left. Returns how many went.
    pub fn retain(&self, keep: &HashSet<ModuleHash>) -> io::Result<usize> {
        self.remove_others(&keep.iter().map(|hash| self.path(hash)).collect())
    }

    fn remove_others(&self, kept: &HashSet<PathBuf>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !kept.contains(&path) {
                fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

pub(super) fn hash_of(bytes: &[u8]) -> ModuleHash {
    Sha256::digest(bytes).into()
}

/// A hash as it stands in file names, the state store and logs.
pub fn hash_hex(hash: &ModuleHash) -> String {
    let mut text = String::with_capacity(hash.len() * 2);
    for byte in hash {
        write!(text, "{byte:02x}").expect("writing to a String can't fail");
    }
    text
}
