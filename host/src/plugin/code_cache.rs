//! Compiled code, kept between runs.
//!
//! Loading it runs native code, so the folder belongs to this user alone (0700), and each file begins with the SHA-256
//! of the rest: one that was cut off by a crash is compiled again.

use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const DIGEST_LEN: usize = 32;

#[derive(Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    /// Stands for the engine's version and settings.
    compatibility: u64,
}

impl CodeCache {
    /// Makes the folder, or takes the one that is there if it is this user's own.
    pub fn open(folder: &Path, compatibility: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let metadata = fs::symlink_metadata(folder)?;
        #[allow(
            unsafe_code,
            reason = "geteuid has no safe form in std; it can't fail and touches no memory"
        )]
        let user = unsafe { libc::geteuid() };
        if !metadata.is_dir() || metadata.uid() != user {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is no folder of this user",
            ));
        }
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
        Ok(Self {
            folder: folder.to_owned(),
            compatibility,
        })
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}-{:016x}.cwasm", self.compatibility))
    }

    /// The code compiled of the module with that hash.
    pub fn get(&self, hash: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(hash)).ok()?;
        let digest = bytes.get(..DIGEST_LEN)?;
        if Sha256::digest(&bytes[DIGEST_LEN..]).as_slice() != digest {
            return None;
        }
        bytes.drain(..DIGEST_LEN);
        Some(bytes)
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

    /// Keeps code; by a rename, so that no reader meets half of it.
    pub fn put(&self, hash: &str, code: &[u8]) -> io::Result<()> {
        let path = self.path(hash);
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&part)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&part, &path)
    }
}
