//! What can go wrong while copying, as the user meets it.

use super::plan::TableCopy;
use super::sql;
use super::waiting::{NoRoom, is_full};
use crate::checkpoint::STATE_DISK_FULL;
use crate::decode::DecodeError;
use crate::postgres::{QueryError, told};
use crate::problem::{Exit, Problem};

/// The server's own reason is the cause.
pub(super) const REFUSED: &str = "E0605";
/// A session that ends by it is worth another one.
pub const ALTERED: &str = "E0603";

/// Why a unit wasn't read.
#[derive(Debug)]
pub(super) enum Fault {
    /// Worth another try on a new connection.
    Transient(anyhow::Error),
    Definite(Box<Problem>),
}

/// Class 08 is a broken connection, 53 too few resources, 57 a server going down, 40 a rollback.
const TRANSIENT_CLASSES: [&str; 4] = ["08", "53", "57", "40"];
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_TABLE: &str = "42P01";
const UNDEFINED_COLUMN: &str = "42703";
const INVALID_SCHEMA_NAME: &str = "3F000";

impl Fault {
    pub(super) fn of(table: &TableCopy, error: QueryError) -> Self {
        let code = error.sqlstate.as_str();
        if TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class)) || code == LOCK_NOT_AVAILABLE {
            return Self::Transient(error.into());
        }
        let name = table.relation.full_name();
        let cause = told(code, &error.message);
        let problem = match code {
            _ if error.is_too_large() => too_large(&name, table.types.is_some() || table.straight),
            INSUFFICIENT_PRIVILEGE => Problem::new(
                "E0601",
                Exit::Preflight,
                format!("table {name} can't be read"),
                format!(
                    "GRANT SELECT ON TABLE {} TO the role of source.url;",
                    sql::name(&table.relation)
                ),
            ),
            UNDEFINED_TABLE | UNDEFINED_COLUMN | INVALID_SCHEMA_NAME => *changed(table),
            _ => Problem::new(
                REFUSED,
                Exit::Preflight,
                format!("the server refused to copy table {name}"),
                "remove the cause that the server or its log names, then start again",
            ),
        };
        Self::Definite(Box::new(problem.with_cause(cause)))
    }
}

/// In either form the server sends less than 1 GiB of a row; a `bytea` takes twice its size as text.
fn too_large(name: &str, binary: bool) -> Problem {
    let (headline, help) = match binary {
        false => (
            format!("a row of {name} is too large as text"),
            "set `binary: true` under source.postgres, then start again",
        ),
        true => (
            format!("a row of {name} is too large to be copied"),
            "make its values smaller, then start again",
        ),
    };
    Problem::new("E0265", Exit::Preflight, headline, help)
}

impl From<Box<Problem>> for Fault {
    fn from(problem: Box<Problem>) -> Self {
        Self::Definite(problem)
    }
}

/// What was copied can't be read. A type that was made since the session began is known to the next one.
pub(super) fn undecodable(table: &TableCopy, error: DecodeError) -> Fault {
    match error {
        DecodeError::NoText { .. } => Fault::Definite(changed(table)),
        error => Fault::Transient(error.into()),
    }
}

/// The attempts are used up.
pub(super) fn unreachable(table: &TableCopy, error: &anyhow::Error) -> Box<Problem> {
    let headline = format!("the copy of table {} broke off", table.relation.full_name());
    let help = "start again once the server answers: the copy goes on where it was";
    Box::new(Problem::new("E0602", Exit::Preflight, headline, help).with_cause(format!("{error:#}")))
}

/// The table is not what it was when the copy began.
pub(super) fn changed(table: &TableCopy) -> Box<Problem> {
    let headline = format!("table {} was altered while it was copied", table.relation.full_name());
    let help = "alter it no more until its copy is through, then start again: the copy of the table starts over";
    Box::new(Problem::new(ALTERED, Exit::Preflight, headline, help))
}

/// Changes of a table without a key find no room to wait. A full disk is waited for, as elsewhere.
pub(super) fn too_much_waits(table: &TableCopy, no_room: &NoRoom) -> Box<Problem> {
    let name = table.relation.full_name();
    let problem = match no_room {
        NoRoom::Filled(_) => Problem::new(
            "E0604",
            Exit::Preflight,
            format!("changes of {name} have filled the disk during its copy"),
            "put the state folder on a disk that has room for them (`state_dir`), then start again",
        ),
        NoRoom::Disk(error) if is_full(error) => Problem::new(
            STATE_DISK_FULL,
            Exit::Usage,
            format!("no room for changes of {name}, which wait for its copy"),
            "make room on the disk of the state folder",
        ),
        NoRoom::Disk(_) => Problem::new(
            "E0604",
            Exit::Preflight,
            format!("changes of {name} can't be kept during its copy"),
            "let the user who runs rowmill write to the state folder, then start again",
        ),
        NoRoom::Quota(_) => Problem::new(
            "E0604",
            Exit::Preflight,
            format!("changes of {name} outgrew the spill during its copy"),
            "set a larger `spill` under source.postgres, on a disk that has it, then start again",
        ),
    };
    Box::new(problem.with_cause(no_room))
}

/// What waited can't be read back.
pub fn lost_what_waited(error: &std::io::Error) -> Box<Problem> {
    let headline = "changes that waited for a table's copy can't be read back";
    let help = "start again: the copies of tables without a key start over";
    Box::new(Problem::new("E0604", Exit::Preflight, headline, help).with_cause(error))
}

/// A row whose key can't be told.
pub(super) fn no_key(table: &TableCopy) -> Box<Problem> {
    let headline = format!("a row of {} came without its key", table.relation.full_name());
    let help = format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", sql::name(&table.relation));
    let cause = format!("the old row must hold {}", table.key.join(", "));
    Box::new(Problem::new("E0606", Exit::Preflight, headline, help).with_cause(cause))
}

/// The tasks that read are gone, without saying why: the process is being stopped.
pub(super) fn stopped() -> Box<Problem> {
    let help = "start again: the copy goes on where it was";
    Box::new(Problem::new("E0607", Exit::Bug, "the copy has been stopped", help))
}
