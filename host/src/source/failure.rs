//! A server's refusal of one of our own queries, as a problem.

use super::preflight::codes;
use crate::postgres::told;
use crate::problem::{Exit, Problem};
use std::error::Error as _;
use tokio_postgres::error::SqlState;

/// Columns that a headline may have.
const HEADLINE_COLUMNS: usize = 80;
/// Characters of a name that a headline shows; the cause and the help have all of it.
const NAME_COLUMNS: usize = 34;

/// The server's own text with its SQLSTATE, or the chain of causes where the server said nothing.
pub(crate) fn server_text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
        return format!("{}{detail} ({})", db.message(), db.code().code());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The same of a statement that reads rows: without what may quote a value of one.
pub(crate) fn server_text_of_rows(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => told(db.code().code(), db.message()),
        None => server_text(error),
    }
}

/// A query of ours that the server refused, or that the connection did not survive. `what` ends the sentence
/// "can't ...".
pub(super) fn refused(what: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    let help = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => "grant the role the privilege that the cause names",
        Some(_) => "look up the SQLSTATE of the cause in the server's manual and log",
        None => "start it again once the server answers `SELECT 1`",
    };
    Box::new(
        Problem::new(
            codes::QUERY_REFUSED,
            Exit::Preflight,
            headline(format!("can't {what}")),
            help,
        )
        .with_cause(server_text(error)),
    )
}

/// A name as a headline shows it: in backquotes, control characters escaped, not longer than fits.
pub(super) fn shown(name: &str) -> String {
    let clean: String = name
        .chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect();
    if clean.chars().count() <= NAME_COLUMNS {
        return format!("`{clean}`");
    }
    let start: String = clean.chars().take(NAME_COLUMNS - 3).collect();
    format!("`{start}...`")
}

/// Cuts a headline to the columns it may have.
pub(super) fn headline(text: String) -> String {
    if text.chars().count() <= HEADLINE_COLUMNS {
        return text;
    }
    let start: String = text.chars().take(HEADLINE_COLUMNS - 3).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_in_one_line_that_fits() {
        assert_eq!(shown("public.orders"), "`public.orders`");
        assert_eq!(shown("a\nb"), "`a\\nb`");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), NAME_COLUMNS + 2);
        assert_eq!(headline("é".repeat(200)).chars().count(), HEADLINE_COLUMNS);
    }
}
