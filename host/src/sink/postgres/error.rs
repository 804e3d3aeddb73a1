//! What to do about an error of the target, by its SQLSTATE.
//!
//! The server's text is passed on only where it can't hold a row's value: it names objects in most classes, but quotes
//! values in class 22 (data exceptions), in every DETAIL and in the CONTEXT of a COPY.

use crate::batch::Lsn;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// A change that meets another row of the same key.
pub(super) const CONFLICT: &str = "E0414";
/// A change that the target doesn't take for another reason.
pub(super) const REFUSED: &str = "E0410";

/// Whether a change is the reason, so that others may be taken.
pub(super) fn is_refusal(error: &SinkError) -> bool {
    matches!(error, SinkError::Definite(problem) if [CONFLICT, REFUSED].contains(&problem.code))
}

/// A change that the target refused, as far as it may be told.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) table: String,
    pub(super) commit_lsn: Lsn,
    /// Whether it is part of the stream, whose transactions can be skipped.
    pub(super) streamed: bool,
}

/// A lock that others hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Blocked(String);

/// Whether a statement gave up on a lock.
pub(super) fn is_blocked(error: &SinkError) -> bool {
    matches!(error, SinkError::Transient(error) if error.is::<Blocked>())
}

pub(super) fn of(error: &Error, context: &SinkContext) -> SinkError {
    of_change(error, context, None)
}

pub(super) fn of_change(error: &Error, context: &SinkContext, change: Option<&Change>) -> SinkError {
    match error.as_db_error() {
        Some(database) if !is_transient(database.code()) => definite(database, context, change).into(),
        Some(database) => {
            let code = database.code().code();
            let text = format!("sink {}: {} ({code})", context.sink, told(database));
            SinkError::Transient(match code {
                "55P03" | "40P01" => Blocked(text).into(),
                _ => anyhow::Error::msg(text),
            })
        }
        // Without a SQLSTATE it is the connection.
        None => SinkError::Transient(anyhow::anyhow!("sink {}: {}", context.sink, connection_text(error))),
    }
}

/// Of a statement that makes what wasn't there: somebody else who makes the same at this moment is no reason to stop. The next
/// session finds it.
pub(super) fn of_making(error: &Error, context: &SinkContext) -> SinkError {
    match error.code().map(SqlState::code) {
        // `IF NOT EXISTS` doesn't see what isn't committed yet, and then meets it in an index of the catalog.
        Some(code @ ("23505" | "42P06" | "42P07" | "42710")) => {
            let text = format!(
                "sink {}: somebody else makes the same at its target ({code})",
                context.sink
            );
            SinkError::Transient(anyhow::Error::msg(text))
        }
        _ => of(error, context),
    }
}

fn connection_text(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Serialization failure, deadlock, server going down or coming up, a primary that has become a standby, a time-out of
/// transactions, connection lost, out of resources; and a transaction in which something has failed before.
fn is_transient(state: &SqlState) -> bool {
    let code = state.code();
    matches!(
        code,
        "40001" | "40P01" | "55P03" | "55006" | "25006" | "25P02" | "25P03" | "25P04"
    ) || code.starts_with("57P")
        || code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("58")
}

/// The server's text, or what stands for it where it may quote a value.
fn told(error: &DbError) -> String {
    if !error.code().code().starts_with("22") {
        return error.message().to_owned();
    }
    match copy_column(error.where_().unwrap_or_default()) {
        Some(column) => format!("a value of column {column} doesn't fit its type"),
        None => "a value doesn't fit its column's type".to_owned(),
    }
}

/// The column that a COPY's context names: `COPY orders, line 1, column total: "..."`.
fn copy_column(context: &str) -> Option<&str> {
    let (_, behind) = context.strip_prefix("COPY ")?.split_once(", column ")?;
    Some(behind.split_once(':').map_or(behind, |(column, _)| column))
}

fn definite(error: &DbError, context: &SinkContext, change: Option<&Change>) -> Problem {
    let sink = &context.sink;
    let code = error.code();
    let (problem, headline, help) = match code.code() {
        "28P01" | "28000" => (
            "E0401",
            format!("the target of sink {sink} refuses the login"),
            "correct the sink's url".to_owned(),
        ),
        "3D000" => (
            "E0401",
            format!("the database of sink {sink} isn't there"),
            "create it, or correct the sink's url".to_owned(),
        ),
        "42501" => (
            "E0408",
            format!("the role of sink {sink} lacks a privilege"),
            "grant the target's role what the cause names".to_owned(),
        ),
        // Of a unique or an exclusion constraint.
        "23505" | "23P01" if let Some(change) = change => (
            CONFLICT,
            format!("{} at sink {sink} has another row of the same key", change.table),
            match change.streamed {
                true => format!(
                    "settle it at the target, or let it be by `rowmill skip {sink} --to {}`, then start again",
                    change.commit_lsn
                ),
                false => "settle it at the target, then start again".to_owned(),
            },
        ),
        _ => match change {
            Some(change) => (
                REFUSED,
                format!("{} at sink {sink} refuses a change", change.table),
                match change.streamed {
                    true => format!(
                        "make the target's {} take what the source has, or let the change be by `rowmill skip {sink} --to \
                         {}`, then start again",
                        change.table, change.commit_lsn
                    ),
                    false => format!("make the target's {} take what the source has", change.table),
                },
            ),
            None => (
                "E0411",
                format!("the target of sink {sink} refuses a statement"),
                "make the target as the cause asks for".to_owned(),
            ),
        },
    };
    let mut cause = format!("{} (SQLSTATE {})", told(error), code.code());
    if let Some(constraint) = error.constraint() {
        cause.push_str(&format!(", constraint {constraint}"));
    }
    if let Some(change) = change {
        cause.push_str(&format!(", in {} at position {}", change.table, change.commit_lsn));
    }
    Problem::new(problem, Exit::Sink, headline, help).with_cause(cause)
}
