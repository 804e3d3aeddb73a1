//! Reading a module's file: what lies there now, and whether it may be taken.

use super::ModuleHash;
use super::store::hash_of;
use crate::problem::{Exit, Problem};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// By what a file is told from another and from itself before a change. The change time moves even where a tool
/// sets the modification time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` where there is nothing, or nothing that can be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why the file isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum ModuleRefusal {
    #[error("there is no such file")]
    Missing,
    #[error("it leads out of {0}")]
    OutsideRoot(String),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("{0}")]
    Exposed(String),
    #[error("it has more than {0} bytes, the limit for modules")]
    TooLarge(u64),
    #[error("it can't be read: {0}")]
    Unreadable(io::Error),
}

impl ModuleRefusal {
    /// The problem at a start, where there is no running version that could stay.
    pub fn into_problem(self, plugin: &str, module: &Path) -> Problem {
        let path = module.display();
        let (code, help) = match &self {
            Self::Missing => (
                "E0320",
                format!("build the plugin, or correct `plugins.{plugin}.module`"),
            ),
            Self::OutsideRoot(root) => ("E0321", format!("put the module of `{plugin}` into {root}")),
            Self::TooLarge(_) => ("E0322", format!("raise `plugins.{plugin}.limits.module`")),
            Self::Exposed(_) => (
                "E0324",
                format!("chown and chmod {path} and its folder so that only this user may write to them"),
            ),
            Self::NotAFile | Self::Unreadable(_) => ("E0323", format!("make {path} a file that this user can read")),
        };
        let headline = format!("the module of plugin `{plugin}` can't be loaded");
        Problem::new(code, Exit::Plugin, headline, help).with_cause(format!("{path}: {self}"))
    }
}

/// A file as it was read once.
#[derive(Debug)]
pub(super) struct Reading {
    pub stamp: Stamp,
    pub bytes: Vec<u8>,
    pub hash: ModuleHash,
}

/// Reads a module that has at most `limit` bytes and, where `root` is given, lies under it with all links followed.
pub fn read_module(module: &Path, root: Option<&Path>, limit: u64) -> Result<(Vec<u8>, ModuleHash), ModuleRefusal> {
    read(module, root, limit).map(|reading| (reading.bytes, reading.hash))
}

pub(super) fn read(module: &Path, root: Option<&Path>, limit: u64) -> Result<Reading, ModuleRefusal> {
    let file = open(module, root)?;
    let metadata = file.metadata().map_err(ModuleRefusal::Unreadable)?;
    if !metadata.is_file() {
        return Err(ModuleRefusal::NotAFile);
    }
    if metadata.size() > limit {
        return Err(ModuleRefusal::TooLarge(limit));
    }
    is_ours(&metadata, "it")?;
    let mut bytes = Vec::new();
    // One byte beyond what the file said to have tells one that grows under the reader.
    (&file)
        .take(metadata.size() + 1)
        .read_to_end(&mut bytes)
        .map_err(ModuleRefusal::Unreadable)?;
    let hash = hash_of(&bytes);
    Ok(Reading {
        stamp: Stamp::from(&metadata),
        bytes,
        hash,
    })
}

const STICKY: u32 = 0o1000;
const ALL_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;

/// Whoever may write to a module decides what the rows become: that must be this user or root. A group may where it is
/// this process's own, as it is where each user has one.
fn is_ours(metadata: &Metadata, what: &str) -> Result<(), ModuleRefusal> {
    #[allow(
        unsafe_code,
        reason = "geteuid and getegid have no safe form in std; they can't fail and touch no memory"
    )]
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let exposed = if owner != user && owner != 0 {
        format!("{what} belongs to another user, {owner}")
    } else if mode & ALL_WRITE != 0 {
        format!("every user may write to {what}")
    } else if mode & GROUP_WRITES != 0 && metadata.gid() != group {
        format!("another group, {}, may write to {what}", metadata.gid())
    } else {
        return Ok(());
    };
    Err(ModuleRefusal::Exposed(exposed))
}

/// The last step is opened without following a link: between looking and opening, the file may have been swapped.
/// Without blocking: a named pipe would wait for a writer.
fn open(module: &Path, root: Option<&Path>) -> Result<File, ModuleRefusal> {
    let from_io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ModuleRefusal::Missing,
        _ => ModuleRefusal::Unreadable(error),
    };
    let canonical = module.canonicalize().map_err(from_io)?;
    if let Some(root) = root {
        let root = root.canonicalize().map_err(from_io)?;
        if !canonical.starts_with(&root) {
            return Err(ModuleRefusal::OutsideRoot(root.display().to_string()));
        }
    }
    if let Some(folder) = canonical.parent() {
        let metadata = folder.metadata().map_err(from_io)?;
        // In a sticky folder nobody can take away or replace what is another's.
        if metadata.mode() & STICKY == 0 {
            is_ours(&metadata, "its folder")?;
        }
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&canonical)
        .map_err(from_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn a_module_that_is_missing_at_the_start_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("mask.wasm");
        let problem = read_module(&module, None, LIMIT)
            .unwrap_err()
            .into_problem("mask", &module);
        assert_eq!((problem.code, problem.exit), ("E0320", Exit::Plugin));
        std::fs::write(&module, "one").unwrap();
        assert_eq!(
            read_module(&module, None, LIMIT).unwrap(),
            (b"one".to_vec(), hash_of(b"one"))
        );
    }

    /// X6: what others may write to isn't taken, nor what is theirs.
    #[test]
    fn x6_a_module_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("mask.wasm");
        std::fs::write(&module, "one").unwrap();
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let refused = |told: &str| {
            let refusal = read_module(&module, None, LIMIT).unwrap_err();
            assert!(refusal.to_string().contains(told), "{refusal}");
            assert_eq!(refusal.into_problem("mask", &module).code, "E0324");
        };
        mode(&module, 0o666);
        refused("every user may write to it");
        mode(&module, 0o644);
        mode(folder.path(), 0o777);
        refused("every user may write to its folder");
        // As /tmp is: others can add files, not replace this one.
        mode(folder.path(), 0o1777);
        read_module(&module, None, LIMIT).unwrap();
        mode(folder.path(), 0o775);
        read_module(&module, None, LIMIT).unwrap();
        let other = Some(12_345);
        // Only root can give files away.
        if std::os::unix::fs::chown(&module, None, other).is_ok() {
            mode(&module, 0o664);
            refused("another group, 12345, may write to it");
            std::os::unix::fs::chown(&module, other, None).unwrap();
            mode(&module, 0o600);
            refused("it belongs to another user, 12345");
        }
    }
}
