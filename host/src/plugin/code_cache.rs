//! Compiled code, kept between runs.
//!
//! Loading it runs native code. So the folder belongs to this user alone (0700), a file in it counts only where it is
//! this user's and nobody else may write to it, and each ends with a checksum of what comes before: one that was
//! damaged is compiled again. The checksum finds damage, not malice: against that stands the folder.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Writing by the group or by all.
const OTHERS_WRITE: u32 = 0o022;
/// How long code is kept that nobody loads: longer than a plugin rests between two of its versions.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Of all files: some hundred versions of a large plugin.
const BYTES_MAX: u64 = 1 << 30;
/// A file that is still being written is younger.
const PART_AGE_MAX: Duration = Duration::from_secs(60 * 60);
const SUFFIX: &str = "cwasm";
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    /// Stands for the engine's version and settings.
    compatibility: u64,
}

impl CodeCache {
    /// Makes the folder, or takes the one that is there if it is this user's own and nobody else could write to it.
    pub fn open(folder: &Path, compatibility: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let metadata = fs::symlink_metadata(folder)?;
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if !metadata.is_dir() || metadata.uid() != user() {
            return refused("it is no folder of this user");
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            return refused("other users may write to it, and what lies there is run as native code");
        }
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
        let cache = Self {
            folder: folder.to_owned(),
            compatibility,
        };
        // What can't be removed takes room, nothing else.
        let _ = cache.prune(SystemTime::now(), AGE_MAX, BYTES_MAX);
        Ok(cache)
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}-{:016x}.{SUFFIX}", self.compatibility))
    }

    /// The code compiled of the module with that hash, checked; the checksum's bytes behind it belong to nobody.
    pub fn get(&self, hash: &str) -> Option<File> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.path(hash))
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !is_private(&metadata) || !is_whole(&mut file, metadata.len()).ok()? {
            return None;
        }
        // So that what is used isn't pruned.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    /// Removes what was compiled of other modules than those in `keep`, by hash.
    pub fn retain(&self, keep: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let hash = name.split('-').next().unwrap_or_default();
            let whole = path.extension().is_some_and(|extension| extension == "cwasm");
            if whole && !keep.contains(hash) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Keeps code in place of what is there; by a rename, so that no reader meets half of it.
    pub fn put(&self, hash: &str, code: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(hash);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&part)?;
        let mut sum = Sum::default();
        code.chunks(CHUNK).for_each(|chunk| sum.add(chunk));
        file.write_all(code)?;
        file.write_all(&sum.finish())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        self.prune(SystemTime::now(), AGE_MAX, BYTES_MAX)
    }

    /// Removes what nobody has loaded for `age`, then the longest unused until `bytes` are left.
    fn prune(&self, now: SystemTime, age: Duration, bytes: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let unused = now.duration_since(metadata.modified()?).unwrap_or_default();
            let is_code = path.extension().is_some_and(|extension| extension == SUFFIX);
            match is_code {
                true if unused <= age => kept.push((unused, metadata.len(), path)),
                false if unused <= PART_AGE_MAX => {}
                _ => fs::remove_file(&path)?,
            }
        }
        kept.sort();
        let mut total = 0;
        for (_, len, path) in kept {
            total += len;
            if total > bytes {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn user() -> u32 {
    #[allow(
        unsafe_code,
        reason = "geteuid has no safe form in std; it can't fail and touches no memory"
    )]
    unsafe {
        libc::geteuid()
    }
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.uid() == user() && metadata.mode() & OTHERS_WRITE == 0
}

/// Whether the file's last bytes are the checksum of the others. Leaves it at its beginning.
fn is_whole(file: &mut File, len: u64) -> io::Result<bool> {
    let Some(mut left) = usize::try_from(len).ok().and_then(|len| len.checked_sub(SUM_LEN)) else {
        return Ok(false);
    };
    let mut sum = Sum::default();
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let chunk = &mut chunk[..left.min(CHUNK)];
        file.read_exact(chunk)?;
        sum.add(chunk);
        left -= chunk.len();
    }
    let mut kept = [0; SUM_LEN];
    file.read_exact(&mut kept)?;
    file.rewind()?;
    Ok(kept == sum.finish())
}

const LANES: usize = 4;
const SUM_LEN: usize = LANES * 8;

/// A checksum at the speed of memory: four independent lanes, each multiplied and added to word by word. SHA-256 of some
/// megabytes of code would take longer than all the rest of loading it.
#[derive(Default)]
struct Sum {
    lanes: [u64; LANES],
    len: u64,
}

/// Odd, so that no factor loses a bit: the golden ratio of 64 bits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Sum {
    /// All chunks but the last have [`CHUNK`] bytes.
    fn add(&mut self, chunk: &[u8]) {
        self.len += chunk.len() as u64;
        let mut blocks = chunk.chunks_exact(SUM_LEN);
        for block in &mut blocks {
            self.block(block);
        }
        let rest = blocks.remainder();
        if !rest.is_empty() {
            let mut last = [0; SUM_LEN];
            last[..rest.len()].copy_from_slice(rest);
            self.block(&last);
        }
    }

    #[inline]
    fn block(&mut self, block: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(block.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            *lane = (lane.rotate_left(29) ^ u64::from_le_bytes(bytes)).wrapping_mul(FACTOR);
        }
    }

    fn finish(&self) -> [u8; SUM_LEN] {
        let mut bytes = [0; SUM_LEN];
        for (out, lane) in bytes.chunks_exact_mut(8).zip(self.lanes) {
            out.copy_from_slice(&(lane ^ self.len).wrapping_mul(FACTOR).to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, CodeCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&folder.path().join("code"), 1).unwrap();
        (folder, cache)
    }

    fn read(cache: &CodeCache, hash: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        cache.get(hash)?.read_to_end(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - SUM_LEN);
        Some(bytes)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_kept_is_private() {
        let (_folder, cache) = cache();
        cache.put("a", b"code").unwrap();
        assert_eq!(read(&cache, "a").as_deref(), Some(&b"code"[..]));
        let of = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((of(&cache.folder), of(&cache.path("a"))), (0o700, 0o600));
    }

    #[test]
    fn a_folder_that_others_could_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = || CodeCache::open(folder.path(), 1);
        for others in [0o777, 0o770, 0o702, 0o1777] {
            mode(folder.path(), others);
            let error = open().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        // What could only be read is closed.
        mode(folder.path(), 0o755);
        open().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(CodeCache::open(&link, 1).is_err());
    }

    #[test]
    fn a_file_that_others_could_write_to_is_passed_over_and_replaced() {
        let (_folder, cache) = cache();
        cache.put("a", b"code").unwrap();
        mode(&cache.path("a"), 0o666);
        assert!(cache.get("a").is_none());
        cache.put("a", b"code").unwrap();
        assert!(cache.get("a").is_some());
        // A link leads out of the folder.
        fs::rename(cache.path("a"), cache.path("b")).unwrap();
        std::os::unix::fs::symlink(cache.path("b"), cache.path("a")).unwrap();
        assert!(cache.get("a").is_none());
        cache.put("a", b"other").unwrap();
        assert_eq!(read(&cache, "a").as_deref(), Some(&b"other"[..]));
        assert_eq!(read(&cache, "b").as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (_folder, cache) = cache();
        let code: Vec<u8> = (0..CHUNK + 45).map(|at| at as u8).collect();
        cache.put("a", &code).unwrap();
        let whole = fs::read(cache.path("a")).unwrap();
        for at in (0..whole.len()).step_by(997).chain([CHUNK - 1, CHUNK, whole.len() - 1]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(cache.path("a"), damaged).unwrap();
            assert!(cache.get("a").is_none(), "byte {at}");
        }
        for len in [0, 1, SUM_LEN, whole.len() - 1] {
            fs::write(cache.path("a"), &whole[..len]).unwrap();
            assert!(cache.get("a").is_none(), "{len} bytes");
        }
        fs::write(cache.path("a"), &whole).unwrap();
        assert!(cache.get("a").is_some());
    }

    #[test]
    fn what_is_old_or_too_much_goes() {
        let (_folder, cache) = cache();
        let now = SystemTime::now();
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let aged = |path: PathBuf, age: Duration| {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .unwrap();
            file.set_modified(now - age).unwrap();
        };
        for (hash, age) in [("a", 31), ("b", 3), ("c", 2), ("d", 1)] {
            cache.put(hash, &[0; 100]).unwrap();
            aged(cache.path(hash), days(age));
        }
        aged(cache.folder.join("a.1-1.part"), days(1));
        aged(cache.folder.join("a.1-2.part"), Duration::ZERO);
        let left = || {
            let mut names: Vec<String> = fs::read_dir(&cache.folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy()[..1].to_owned())
                .collect();
            names.sort();
            names.concat()
        };
        cache.prune(now, AGE_MAX, BYTES_MAX).unwrap();
        assert_eq!(left(), "abcd", "the part that is being written, and the young");
        assert!(!cache.path("a").exists());
        cache.prune(now, AGE_MAX, 300).unwrap();
        assert_eq!(left(), "acd", "the longest unused goes first");
        // What is loaded is young again.
        assert!(cache.get("c").is_some());
        cache.prune(SystemTime::now(), AGE_MAX, 150).unwrap();
        assert_eq!(left(), "ac");
    }
}
