//! What can go wrong between here and a Postgres, typed by what has to be done about it.

use crate::problem::{Exit, Problem};
use std::{fmt, io};

/// SQLSTATE classes and codes that a later try can cure: shutdown, crash, starting up, network; no room on the server's
/// disk or in its memory, too many connections; an error of its disk. Not a limit that its configuration sets (53400).
const TRANSIENT_SQLSTATES: [&str; 7] = ["57P0", "08", "53000", "53100", "53200", "53300", "58030"];
/// `database_dropped` begins like a shutdown but no retry cures it.
const DATABASE_DROPPED: &str = "57P04";
/// Password, pg_hba.conf, database, privilege: what a person, or whoever rotates secrets, changes on both sides, one after
/// the other.
const LOGIN_SQLSTATES: [&str; 4] = ["28P01", "28000", "3D000", "42501"];
/// What a lost link counts as: `connection_failure`.
pub(crate) const CONNECTION_FAILURE: &str = "08006";
/// What an answer that breaks the protocol counts as: `protocol_violation`.
pub(crate) const PROTOCOL_VIOLATION: &str = "08P01";

/// What may be told of an error of a statement that reads rows: the server's message names objects in most classes, and
/// quotes values in class 22 (data exceptions).
pub(crate) fn told(sqlstate: &str, message: &str) -> String {
    match quotes_values(sqlstate) {
        true => format!("a row's value is refused; the server's log has it (SQLSTATE {sqlstate})"),
        false => format!("{message} (SQLSTATE {sqlstate})"),
    }
}

fn quotes_values(sqlstate: &str) -> bool {
    sqlstate.starts_with("22")
}

/// What the server answered to a query, or 08006 where it didn't and 08P01 where the answer made no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the server it happened.
    pub context: Option<String>,
}

impl QueryError {
    pub(crate) fn lost(error: &io::Error) -> Self {
        Self::of(CONNECTION_FAILURE, format!("connection lost: {error}"))
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::of(PROTOCOL_VIOLATION, message.into())
    }

    fn of(sqlstate: &str, message: String) -> Self {
        Self {
            sqlstate: sqlstate.to_owned(),
            message,
            detail: None,
            hint: None,
            context: None,
        }
    }

    /// Whether the server can't make text of a value, or a message of a row, since it would be 1 GiB or more:
    /// `program_limit_exceeded`, or without a code of its own.
    pub fn is_too_large(&self) -> bool {
        self.sqlstate == "54000" || self.message.starts_with("invalid memory alloc request size")
    }

    /// True where a later try can succeed without anybody doing something.
    pub fn is_transient(&self) -> bool {
        self.sqlstate != PROTOCOL_VIOLATION && is_transient(&self.sqlstate)
    }
}

fn is_transient(sqlstate: &str) -> bool {
    sqlstate != DATABASE_DROPPED && TRANSIENT_SQLSTATES.iter().any(|prefix| sqlstate.starts_with(prefix))
}

/// Without a row's value.
impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told(&self.sqlstate, &self.message))?;
        match &self.detail {
            Some(detail) if !quotes_values(&self.sqlstate) => write!(f, "; {detail}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for QueryError {}

/// Why a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Worth another try after a while: refused, reset, timed out, shutting down, too many connections.
    #[error("{0}")]
    Transient(Failure),
    /// No retry cures it: password, pg_hba.conf, database, privilege, certificate.
    #[error("{0}")]
    Fatal(Failure),
}

/// What failed, at which host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// `host:port` or the socket's path.
    pub host: String,
    pub sqlstate: Option<String>,
    /// The system's or the server's own words.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection, or it broke.
    Link,
    /// The certificate is not the one that was asked for.
    Tls,
    /// TLS is asked for and not offered.
    NoTls,
    /// The password is missing or wrong, or the server asks for a method that isn't safe here.
    Password,
    /// The server answered with an error.
    Server,
    /// The server is a standby where a primary is wanted, or the other way round.
    SessionKind,
    /// The answers make no sense.
    Protocol,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.message)?;
        match &self.sqlstate {
            Some(sqlstate) => write!(f, " (SQLSTATE {sqlstate})"),
            None => Ok(()),
        }
    }
}

impl ConnectError {
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Transient(failure) | Self::Fatal(failure) => failure,
        }
    }

    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }

    /// True where the server was reached and doesn't let this role in, as it calls itself, or not over TLS: one that has
    /// let it in before may be in the midst of a change.
    pub fn is_of_the_login(&self) -> bool {
        let is_told = self.sqlstate().is_some_and(|code| LOGIN_SQLSTATES.contains(&code));
        let by_reason = [Reason::Password, Reason::Tls, Reason::NoTls].contains(&self.failure().reason);
        !self.is_transient() && (is_told || by_reason)
    }

    pub fn sqlstate(&self) -> Option<&str> {
        self.failure().sqlstate.as_deref()
    }

    pub(super) fn fatal(reason: Reason, host: &str, message: impl Into<String>) -> Self {
        Self::Fatal(Failure {
            reason,
            host: host.to_owned(),
            sqlstate: None,
            message: message.into(),
        })
    }

    pub(super) fn link(host: &str, message: impl fmt::Display) -> Self {
        Self::Transient(Failure {
            reason: Reason::Link,
            host: host.to_owned(),
            sqlstate: None,
            message: message.to_string(),
        })
    }

    pub(super) fn query(host: &str, error: QueryError) -> Self {
        let transient = error.is_transient();
        let reason = match error.sqlstate.as_str() {
            CONNECTION_FAILURE => Reason::Link,
            PROTOCOL_VIOLATION => Reason::Protocol,
            "28P01" => Reason::Password,
            _ => Reason::Server,
        };
        let message = match error.detail {
            Some(detail) => format!("{}; {detail}", error.message),
            None => error.message,
        };
        let failure = Failure {
            reason,
            host: host.to_owned(),
            sqlstate: Some(error.sqlstate),
            message,
        };
        if transient {
            Self::Transient(failure)
        } else {
            Self::Fatal(failure)
        }
    }
}

impl From<ConnectError> for Problem {
    /// E0251 not reached, E0252 TLS, E0253 password, E0254 pg_hba.conf, E0255 no such database, E0256 no privilege,
    /// E0257 wrong kind of server, E0258 any other answer of the server's.
    fn from(error: ConnectError) -> Self {
        let failure = error.failure();
        let host = &failure.host;
        let (code, headline, help) = match (failure.reason, failure.sqlstate.as_deref()) {
            (Reason::Tls, _) => (
                "E0252",
                format!("no trusted TLS connection to Postgres at {host}"),
                "point sslrootcert at the CA of the server's certificate and connect by the name that it was made for",
            ),
            (Reason::NoTls, _) => (
                "E0252",
                format!("no trusted TLS connection to Postgres at {host}"),
                "switch TLS on at the server: `ssl = on`, with a certificate and its key",
            ),
            (Reason::Password, _) => (
                "E0253",
                format!("Postgres at {host} doesn't accept the password"),
                "put the role's present password into the connection string",
            ),
            (Reason::Server, Some("28000")) => (
                "E0254",
                format!("Postgres at {host} doesn't let this role in from here"),
                "add a line for this role, database and address to pg_hba.conf and reload the server",
            ),
            (Reason::Server, Some("3D000")) => (
                "E0255",
                format!("the database doesn't exist on Postgres at {host}"),
                "correct the database's name in the connection string",
            ),
            (Reason::Server, Some("42501")) => (
                "E0256",
                format!("the role lacks a privilege on Postgres at {host}"),
                "grant the role what the message names: for a replication connection, ALTER ROLE ... REPLICATION",
            ),
            (Reason::SessionKind, _) => (
                "E0257",
                format!("Postgres at {host} is not the kind of server asked for"),
                "correct host or target_session_attrs in the connection string",
            ),
            (Reason::Server | Reason::Protocol, _) if !error.is_transient() => (
                "E0258",
                format!("Postgres at {host} refuses the connection"),
                "do what the server's message says, then try again",
            ),
            _ => (
                "E0251",
                format!("Postgres at {host} can't be reached"),
                "check host and port, and that the server runs and listens there",
            ),
        };
        let cause = failure.to_string();
        Problem::new(code, Exit::Preflight, headline, help).with_cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_value_is_told_without_it() {
        let refused = |sqlstate, message: &str| QueryError {
            detail: Some("Token \"hunter2\" is invalid.".to_owned()),
            ..QueryError::of(sqlstate, message.to_owned())
        };
        for sqlstate in ["22P02", "22003", "22008"] {
            let text = refused(sqlstate, "invalid input syntax for type integer: \"hunter2\"").to_string();
            assert!(!text.contains("hunter2") && text.contains(sqlstate), "{text}");
        }
        let named = refused("42P01", "relation \"shop\" does not exist");
        assert_eq!(
            named.to_string(),
            "relation \"shop\" does not exist (SQLSTATE 42P01); Token \"hunter2\" is invalid."
        );
    }
}
