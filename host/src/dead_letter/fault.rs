//! What the user is told.

use super::codes;
use super::line::ScanError;
use crate::problem::{Exit, Problem};
use std::io;
use std::path::Path;

fn problem(code: &'static str, headline: impl Into<String>, help: impl Into<String>) -> Box<Problem> {
    Box::new(Problem::new(code, Exit::Usage, headline, help))
}

pub(super) fn io(path: &Path, error: &io::Error) -> Box<Problem> {
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room on the disk of {}, then start again", path.display())
        }
        _ => format!("check the disk and the owner of {}, then start again", path.display()),
    };
    let headline = "the dead-letter store can't be read or written";
    Box::new(problem(codes::DISK, headline, help).with_cause(format!("{}: {error}", path.display())))
}

pub(super) fn scan(path: &Path, error: &ScanError) -> Box<Problem> {
    if let ScanError::Io(error) = error {
        return io(path, error);
    }
    let help = format!(
        "restore {0} from a backup, or move it away: its letters are lost then",
        path.display()
    );
    let damaged = problem(codes::DAMAGED, "the dead-letter store is damaged", help);
    Box::new(damaged.with_cause(format!("{}: {error}", path.display())))
}

pub(super) fn full(used: u64, wanted: u64, quota: u64) -> Box<Problem> {
    let help = "replay or drop letters (`rowmill dead-letter list`), or raise `dead_letters: quota`";
    let full = problem(codes::FULL, "the dead-letter store is full", help);
    Box::new(full.with_cause(format!(
        "{used} bytes are used, {wanted} more are needed, the quota is {quota}"
    )))
}

pub(super) fn too_many(count: usize) -> Box<Problem> {
    let help = "drop letters that nobody needs: `rowmill dead-letter drop --table TABLE`";
    let full = problem(codes::FULL, "the dead-letter store is full", help);
    Box::new(full.with_cause(format!("it holds {count} letters, the most that it keeps")))
}

pub(super) fn behind(table: &str, max: usize) -> Box<Problem> {
    let headline = format!("too many changes of {table} wait behind a dead letter");
    let help = format!("mend the plugin, then `rowmill dead-letter replay --table {table}` and start again");
    Box::new(problem(codes::BEHIND, headline, help).with_cause(format!("`dead_letters: max_behind` is {max}")))
}

pub(super) fn superseded(number: u64, table: &str) -> Box<Problem> {
    let headline = format!("letter {number}: table {table} was truncated since");
    let help = format!("rowmill dead-letter drop {number}, or replay it all the same with `--force`");
    problem(codes::SUPERSEDED, headline, help)
}

pub(super) fn unknown(number: u64) -> Box<Problem> {
    problem(
        codes::UNKNOWN,
        format!("there is no dead letter {number}"),
        "rowmill dead-letter list",
    )
}

pub(super) fn busy(number: u64) -> Box<Problem> {
    let headline = format!("dead letter {number} is being sent again");
    problem(codes::BUSY, headline, "try again in a moment")
}

pub(super) fn other_format(path: &Path, cause: String) -> Box<Problem> {
    let headline = "the dead-letter store is of another version or pipeline";
    let help = "run the version of rowmill that wrote it, or give the pipeline a `state_dir` of its own";
    Box::new(problem(codes::NEWER, headline, help).with_cause(format!("{}: {cause}", path.display())))
}

pub(super) fn no_row(plugin: &str) -> Box<Problem> {
    let headline = format!("plugin {plugin} refused a message or a truncate");
    let help = format!("let {plugin} pass what is no row, or drop it by an action of its own");
    problem(codes::NO_ROW, headline, help)
}

/// After a failed write nothing is known of the file until it is opened anew.
pub(super) fn broken() -> Box<Problem> {
    let headline = "the dead-letter store can't be read or written";
    let failed = problem(codes::DISK, headline, "start rowmill again");
    Box::new(failed.with_cause("an earlier write failed"))
}

pub(super) fn too_many_requests(max: usize) -> Box<Problem> {
    let headline = format!("{max} replays of dead letters wait already");
    problem(codes::BUSY, headline, "start the pipeline: it takes them up")
}
