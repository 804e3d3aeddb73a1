//! What can go wrong with the state store, and as which problem it is told.

use super::folder::StateFolder;
use crate::problem::{Exit, Problem};
use std::io;

/// The state can't be written because the disk is full: the old state is intact, and the call may be tried again.
pub const STATE_DISK_FULL: &str = "E0506";

/// Another host works in the state folder.
pub const STATE_HELD: &str = "E0501";

const STATE_DAMAGED: &str = "E0505";
const STATE_WRITE_FAILED: &str = "E0507";

/// An error inside a transaction.
#[derive(Debug)]
pub(super) enum Failure {
    Engine(Box<redb::Error>),
    /// A record that its own format can't read: neither a crash nor an older version leaves such a thing.
    Record(serde_json::Error),
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Record(error)
    }
}

macro_rules! from_engine {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Engine(Box::new(error.into()))
            }
        }
    )*};
}

from_engine!(
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

impl Failure {
    pub(super) fn into_problem(self, folder: &StateFolder) -> Problem {
        match self {
            Self::Record(error) => damaged(folder, error),
            Self::Engine(error) => match *error {
                redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => damaged(folder, error),
                redb::Error::Io(error) => io_failed(folder, &error),
                redb::Error::DatabaseAlreadyOpen => folder.held_elsewhere(),
                redb::Error::UpgradeRequired(_) => newer(folder, "an older database format"),
                error @ (redb::Error::Corrupted(_)
                | redb::Error::RepairAborted
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TypeDefinitionChanged { .. }
                | redb::Error::TableDoesNotExist(_)) => damaged(folder, error),
                error => {
                    let headline = "the state can't be stored";
                    Problem::new(STATE_WRITE_FAILED, Exit::Bug, headline, "start rowmill again").with_cause(error)
                }
            },
        }
    }
}

/// The file is there and can't be trusted. Going on from the slot's position is safe as a floor, so that is the fix.
pub(super) fn damaged(folder: &StateFolder, cause: impl std::fmt::Display) -> Problem {
    let headline = "the state store is damaged";
    let help = format!(
        "move {} away and start again: tables are copied anew and the stream goes on at the slot's \
         confirmed_flush_lsn, which is never too far",
        folder.database_path().display()
    );
    Problem::new(STATE_DAMAGED, Exit::Preflight, headline, help)
        .with_cause(format!("{}: {cause}", folder.database_path().display()))
}

pub(super) fn newer(folder: &StateFolder, found: &str) -> Problem {
    let headline = format!(
        "the state was written in {found}, this is format {}",
        super::format::FORMAT
    );
    let help = "run the version of rowmill that wrote it, or a newer one";
    Problem::new("E0503", Exit::Usage, headline, help).with_cause(folder.database_path().display())
}

pub(super) fn other_pipeline(folder: &StateFolder, expected: &str, found: &str) -> Problem {
    let headline = format!("the state belongs to pipeline `{found}`, not to `{expected}`");
    let help = format!("give `{expected}` a `state_dir` of its own in pipeline.yaml");
    Problem::new("E0504", Exit::Usage, headline, help).with_cause(folder.database_path().display())
}

pub(super) fn io_failed(folder: &StateFolder, error: &io::Error) -> Problem {
    let cause = format!("{}: {error}", folder.database_path().display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let help = format!("make room on the disk of {}", folder.path().display());
            Problem::new(STATE_DISK_FULL, Exit::Usage, "no room to store the position", help)
        }
        _ => {
            let help = format!(
                "check the disk of {}, then start rowmill again",
                folder.path().display()
            );
            Problem::new(
                STATE_WRITE_FAILED,
                Exit::Usage,
                "the state can't be read or written",
                help,
            )
        }
    }
    .with_cause(cause)
}

pub(super) fn closed(folder: &StateFolder) -> Problem {
    io_failed(folder, &io::Error::other("the database is closed"))
}
