//! What a connection string says, with libpq's defaults filled in.

use super::given::Given;
use super::host::Host;
use super::passfile;
use crate::config::Secret;
use crate::problem::{Exit, Problem};
use std::path::PathBuf;
use std::time::Duration;

/// What is wrong with a connection string. Never holds its text, for that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    #[error("parameter `{0}` is unknown")]
    Unknown(String),
    #[error("parameter `{parameter}` must be {expected}")]
    Value {
        parameter: &'static str,
        expected: &'static str,
    },
    #[error("`{parameter}` lists {found} values for {hosts} hosts")]
    Count {
        parameter: &'static str,
        found: usize,
        hosts: usize,
    },
    #[error("a parameter has no `=` and value behind it")]
    MissingValue,
    #[error("a query parameter has more than one `=`; write %3D for those in its value")]
    ExtraEquals,
    #[error("a `%` is not followed by two hexadecimal digits, or encodes no text")]
    PercentEncoding,
    #[error("an `@` stands behind the user's; write %40 for one in the password")]
    AtSign,
    #[error("a `[` has no matching `]` before the port")]
    UnclosedBracket,
    #[error("a quote has no end")]
    UnclosedQuote,
    #[error("no user is given")]
    NoUser,
}

impl From<ConninfoError> for Problem {
    /// E0250: the connection string can't be read.
    fn from(error: ConninfoError) -> Self {
        Problem::new(
            "E0250",
            Exit::Usage,
            format!("the connection string can't be used: {error}"),
            "write it as postgresql://user:password@host:5432/database?sslmode=require",
        )
    }
}

/// How much of TLS is asked for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    /// Encrypted where the server offers it. libpq's `allow` counts as this.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What a server's certificate has to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificate {
    /// The roots that browsers trust.
    System,
    /// A PEM file.
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby if one answers, else any.
    PreferStandby,
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Conninfo {
    /// At least one; tried in order.
    pub hosts: Vec<Host>,
    pub user: String,
    pub dbname: String,
    pub ssl_mode: SslMode,
    /// `None` only where the mode checks no certificate.
    pub ssl_root: Option<RootCertificate>,
    pub options: Option<String>,
    /// What the connection string asks for; stronger than the caller's own.
    pub application_name: Option<String>,
    pub channel_binding: ChannelBinding,
    /// For one host, from dialling to the end of authentication. `None` waits for ever.
    pub connect_timeout: Option<Duration>,
    pub session_kind: SessionKind,
    password: Option<Secret>,
    passfile: Option<PathBuf>,
}

impl Conninfo {
    /// Reads a URL or keyword string; what it leaves open comes from the `PG*` variables and libpq's defaults.
    pub fn parse(text: &str) -> Result<Self, ConninfoError> {
        Self::parse_with(text, &|name| std::env::var(name).ok())
    }

    /// True where any host is a connection pooler by its name: those take no replication connections.
    pub fn is_pooler_host(&self) -> bool {
        self.hosts.iter().any(Host::is_pooler)
    }

    /// The password for a host. A password file is read anew each time, so that a rotation needs no restart.
    pub(super) fn password(&self, host: &Host) -> Option<Secret> {
        self.password.clone().or_else(|| {
            let wanted = passfile::Wanted {
                host: host.name(),
                port: host.port(),
                dbname: &self.dbname,
                user: &self.user,
            };
            passfile::find(self.passfile.as_deref()?, &wanted)
        })
    }

    pub(super) fn parse_with(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let given = Given::read(text.trim(), environment)?;
        let user = given
            .get("user")
            .or_else(|| given.environment("USER"))
            .or_else(|| given.environment("LOGNAME"))
            .ok_or(ConninfoError::NoUser)?;
        let hosts = given.hosts()?;
        let (ssl_mode, ssl_root) = given.tls(&hosts)?;
        Ok(Self {
            ssl_mode,
            ssl_root,
            dbname: given.get("dbname").unwrap_or_else(|| user.clone()),
            options: given.get("options"),
            application_name: given.get("application_name"),
            channel_binding: given.channel_binding()?,
            connect_timeout: given.connect_timeout()?,
            session_kind: given.session_kind()?,
            password: given.get("password").map(Secret::new),
            passfile: given
                .get("passfile")
                .map(PathBuf::from)
                .or_else(|| given.home_file(".pgpass")),
            user,
            hosts,
        })
    }
}

#[cfg(test)]
#[path = "conninfo_tests.rs"]
mod tests;
