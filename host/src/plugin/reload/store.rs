//! The host's own copies of modules, by hash: what runs can always be loaded again, whatever happens to the user's file.

use super::ModuleHash;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// How long a version is kept that no row can need any more, so that one can go back to it.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Of all versions that are kept for that: a thousand of 256 KiB.
const BYTES_MAX: u64 = 256 << 20;
/// A file that is still being written is younger.
const PART_AGE_MAX: Duration = Duration::from_secs(60 * 60);

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
            // It is young again; where that can't be told it is pruned earlier.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
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

    /// Removes what an interrupted `put` left, modules stored longer ago than [`AGE_MAX`], and of the others the oldest
    /// until [`BYTES_MAX`] are left; none of those in `needed`, hashes in hex. Returns how many went.
    pub fn prune(&self, needed: &HashSet<String>) -> io::Result<usize> {
        self.prune_to(needed, SystemTime::now(), AGE_MAX, BYTES_MAX)
    }

    fn prune_to(&self, needed: &HashSet<String>, now: SystemTime, age: Duration, bytes: u64) -> io::Result<usize> {
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let stored = now.duration_since(metadata.modified()?).unwrap_or_default();
            let hash = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".wasm"));
            match hash {
                Some(hash) if needed.contains(hash) => {}
                Some(_) if stored <= age => kept.push((stored, metadata.len(), path)),
                None if stored <= PART_AGE_MAX => {}
                _ => gone.push(path),
            }
        }
        kept.sort();
        let mut total = 0;
        for (_, len, path) in kept {
            total += len;
            if total > bytes {
                gone.push(path);
            }
        }
        gone.iter().try_for_each(fs::remove_file)?;
        Ok(gone.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_row_can_need_is_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(folder.path()).unwrap();
        let now = SystemTime::now();
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let put = |bytes: &[u8], age: Duration| {
            let (hash, path) = store.put(bytes).unwrap();
            File::open(&path).unwrap().set_modified(now - age).unwrap();
            hash
        };
        let needed = put(b"needed", days(400));
        let old = put(b"old", days(31));
        let (third, second, first) = (put(b"3", days(3)), put(b"2", days(2)), put(b"1", days(1)));
        let part = folder.path().join("modules/interrupted.new");
        File::create(&part).unwrap().set_modified(now - days(1)).unwrap();
        let keep = HashSet::from([hash_hex(&needed)]);

        assert_eq!(store.prune_to(&keep, now, AGE_MAX, BYTES_MAX).unwrap(), 2);
        assert!(!part.exists() && store.get(&old).is_err());
        assert_eq!(store.get(&needed).unwrap(), b"needed");
        // Beyond the bytes that may be left, the oldest goes; what is needed doesn't count.
        assert_eq!(store.prune_to(&keep, now, AGE_MAX, 2).unwrap(), 1);
        assert!(store.get(&third).is_err() && store.get(&second).is_ok() && store.get(&first).is_ok());
        assert_eq!(store.prune_to(&keep, now, AGE_MAX, 0).unwrap(), 2);
        assert_eq!(store.get(&needed).unwrap(), b"needed");
        // What is stored once more is young again.
        store.put(b"needed").unwrap();
        assert_eq!(store.prune(&HashSet::new()).unwrap(), 0);
    }
}
