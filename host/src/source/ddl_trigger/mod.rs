//! The DDL trigger: an event trigger at the source that says what was done to tables, in a logical message of the same
//! transaction, so at its place in the stream. It is installed on request alone; everything works without it.

use super::failure::server_text;
use super::preflight::codes;
use crate::problem::{Exit, Problem};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Takes the place of an earlier version.
pub const INSTALL: &str = include_str!("install.sql");
pub const DROP: &str = include_str!("drop.sql");

/// Runs [`INSTALL`] or [`DROP`], as a whole or not at all.
///
/// # Errors
/// What the server refuses: event triggers belong to superusers, where a provider doesn't allow them to others.
pub async fn run(client: &Client, statements: &str) -> Result<(), Box<Problem>> {
    // Statements that are sent together are one transaction.
    let ran = client.batch_execute(statements).await;
    ran.map_err(|error| {
        let help = match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                "run it with a superuser in `source.postgres.url`, or give the superuser what `rowmill ddl-trigger show` \
                 prints"
            }
            _ => "look up the SQLSTATE of the cause in the server's manual and log",
        };
        let headline = "the server refuses the statements of the DDL trigger";
        let problem = Problem::new(codes::DDL_TRIGGER_REFUSED, Exit::Preflight, headline, help);
        Box::new(problem.with_cause(server_text(&error)))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_messages_are_known_by_their_prefix() {
        let emits = format!("pg_logical_emit_message(true, '{}', ", crate::batch::DDL_PREFIX);
        assert!(super::INSTALL.contains(&emits));
        let keeps_apart = format!(
            "pg_logical_emit_message(true, '{}', '')",
            crate::batch::HEARTBEAT_PREFIX
        );
        assert!(super::INSTALL.contains(&keeps_apart), "passed over by whoever streams");
    }
}
