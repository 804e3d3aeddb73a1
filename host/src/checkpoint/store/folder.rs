//! The folder of a pipeline's state: made for its owner alone, locked for one host.

use crate::problem::{Exit, Problem};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;
const GROUP_AND_OTHERS: u32 = 0o077;
/// A process id and a line end fit; anything longer in the lock file isn't ours.
const LOCK_TEXT_LIMIT: u64 = 32;

/// A state folder that this process alone works in.
pub struct StateFolder {
    path: PathBuf,
    /// The lock goes with the descriptor, however the process ends.
    _lock: File,
}

impl StateFolder {
    /// Makes the folder where it is missing and locks it. The lock file is of its own, so that it holds while the
    /// database is made, moved away or opened anew.
    pub(super) fn lock(path: &Path) -> Result<Self, Problem> {
        prepare(path).map_err(|error| unusable(path, &error))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock_path)
            .map_err(|error| unusable(path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(unusable(path, &error)),
        }
        // The number is for people; the lock doesn't depend on it.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// For whoever works in the folder without its database.
    ///
    /// # Errors
    /// [`super::STATE_HELD`] where another process has it.
    pub fn take(path: &Path) -> Result<Self, Problem> {
        Self::lock(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database_path(&self) -> PathBuf {
        self.path.join(super::StateStore::FILE)
    }

    /// Makes a rename inside the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    pub(super) fn held_elsewhere(&self) -> Problem {
        held_by(&self.path, "another process has the database open".to_owned())
    }
}

fn prepare(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & GROUP_AND_OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

fn held(path: &Path, lock: &mut File) -> Problem {
    let mut text = String::new();
    let process = match lock.take(LOCK_TEXT_LIMIT).read_to_string(&mut text) {
        Ok(_) => text.trim().parse::<u32>().ok(),
        Err(_) => None,
    };
    let holder = process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
    held_by(path, format!("{holder} has locked {}", path.join("lock").display()))
}

fn held_by(path: &Path, cause: String) -> Problem {
    let help = format!(
        "stop the other rowmill, or give this pipeline a `state_dir` other than {}",
        path.display()
    );
    Problem::new(super::STATE_HELD, Exit::Usage, "another rowmill holds the state", help).with_cause(cause)
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    let help = format!("make {} a folder that this user owns and can write", path.display());
    Problem::new("E0502", Exit::Usage, "the state folder can't be used", help)
        .with_cause(format!("{}: {error}", path.display()))
}
