//! From parameters and `PG*` variables to hosts and modes: libpq's defaults and what goes with what.

use super::conninfo::{ChannelBinding, ConninfoError, RootCertificate, SessionKind, SslMode};
use super::host::{self, Host};
use super::syntax;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_PORT: u16 = 5432;
/// libpq waits for ever unless told otherwise; a pipeline has to notice and try again.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// libpq rounds shorter ones up to this.
const MIN_CONNECT_TIMEOUT_S: u64 = 2;
/// Accepted for libpq's sake; they change nothing here.
const IGNORED: [&str; 10] = [
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "gssencmode",
    "krbsrvname",
    "gsslib",
];

/// Keywords that are understood, and the variable that stands in for each.
const KEYWORDS: [(&str, &str); 16] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    // The session is UTF-8 whatever they say, and SNI is always sent.
    ("client_encoding", ""),
    ("sslsni", ""),
];

/// Parameters as given, before they are made sense of.
pub(super) struct Given<'a> {
    parameters: syntax::Parameters,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Given<'a> {
    pub(super) fn read(text: &str, environment: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let parameters = syntax::parse(text)?;
        let known = |key: &str| KEYWORDS.iter().any(|(name, _)| *name == key) || IGNORED.contains(&key);
        match parameters.iter().find(|(key, _)| !known(key)) {
            Some((key, _)) => Err(ConninfoError::Unknown(key.clone())),
            None => Ok(Self {
                parameters,
                environment,
            }),
        }
    }

    /// The last one given wins; an empty value counts as none.
    pub(super) fn get(&self, keyword: &str) -> Option<String> {
        let given = self.parameters.iter().rev().find(|(key, _)| key == keyword);
        let value = match given {
            Some((_, value)) => Some(value.clone()),
            None => KEYWORDS
                .iter()
                .find(|(name, variable)| *name == keyword && !variable.is_empty())
                .and_then(|(_, variable)| self.environment(variable)),
        };
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn environment(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn home_file(&self, path: &str) -> Option<PathBuf> {
        Some(Path::new(&self.environment("HOME")?).join(path))
    }

    pub(super) fn hosts(&self) -> Result<Vec<Host>, ConninfoError> {
        let list = |keyword| {
            self.get(keyword)
                .map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let (names, addresses) = (list("host"), list("hostaddr"));
        let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
        let ports = list("port").unwrap_or_else(|| vec![String::new()]);
        if ports.len() != 1 && ports.len() != count {
            return Err(ConninfoError::Count {
                parameter: "port",
                found: ports.len(),
                hosts: count,
            });
        }
        if let Some(names) = names.as_ref().filter(|names| names.len() != count) {
            return Err(ConninfoError::Count {
                parameter: "host",
                found: names.len(),
                hosts: count,
            });
        }
        let at = |values: &Option<Vec<String>>, index: usize| {
            values
                .as_ref()
                .and_then(|values| values.get(index))
                .filter(|value| !value.is_empty())
                .cloned()
        };
        (0..count)
            .map(|index| {
                let port = parse_port(ports.get(index).or(ports.first()).map_or("", String::as_str))?;
                host::host(at(&names, index), at(&addresses, index), port)
            })
            .collect()
    }

    pub(super) fn tls(&self, hosts: &[Host]) -> Result<(SslMode, Option<RootCertificate>), ConninfoError> {
        let given_mode = self.get("sslmode").map(|mode| parse_ssl_mode(&mode)).transpose()?;
        let root = self.get("sslrootcert").map(|path| match path.as_str() {
            "system" => RootCertificate::System,
            _ => RootCertificate::File(PathBuf::from(path)),
        });
        let root = root.or_else(|| {
            let path = self.home_file(".postgresql/root.crt").filter(|path| path.exists())?;
            Some(RootCertificate::File(path))
        });
        let neon = hosts.iter().any(Host::is_neon);
        let mode = match (given_mode, &root) {
            // As libpq: the public roots vouch for anybody, so the name has to be checked too.
            (None | Some(SslMode::VerifyFull), Some(RootCertificate::System)) => SslMode::VerifyFull,
            (Some(_), Some(RootCertificate::System)) => {
                let expected = "verify-full where sslrootcert is system";
                return Err(ConninfoError::Value {
                    parameter: "sslmode",
                    expected,
                });
            }
            // Neon has certificates that everybody can check, so nobody need go unchecked.
            (None | Some(SslMode::Prefer | SslMode::Require), _) if neon => SslMode::VerifyFull,
            (Some(SslMode::Require), Some(RootCertificate::File(_))) => SslMode::VerifyCa,
            (given, _) => given.unwrap_or(SslMode::Prefer),
        };
        let root = match mode {
            SslMode::VerifyCa | SslMode::VerifyFull => Some(root.unwrap_or(RootCertificate::System)),
            _ => None,
        };
        Ok((mode, root))
    }

    pub(super) fn channel_binding(&self) -> Result<ChannelBinding, ConninfoError> {
        let expected = "disable, prefer or require";
        match self.get("channel_binding").as_deref() {
            Some("disable") => Ok(ChannelBinding::Disable),
            None | Some("prefer") => Ok(ChannelBinding::Prefer),
            Some("require") => Ok(ChannelBinding::Require),
            Some(_) => Err(ConninfoError::Value {
                parameter: "channel_binding",
                expected,
            }),
        }
    }

    pub(super) fn connect_timeout(&self) -> Result<Option<Duration>, ConninfoError> {
        let Some(text) = self.get("connect_timeout") else {
            return Ok(Some(DEFAULT_CONNECT_TIMEOUT));
        };
        let expected = "a whole number of seconds";
        let seconds: i64 = text.trim().parse().map_err(|_| ConninfoError::Value {
            parameter: "connect_timeout",
            expected,
        })?;
        let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
        Ok(seconds.map(|seconds| Duration::from_secs(seconds.max(MIN_CONNECT_TIMEOUT_S))))
    }

    pub(super) fn session_kind(&self) -> Result<SessionKind, ConninfoError> {
        let expected = "any, read-write, read-only, primary, standby or prefer-standby";
        match self.get("target_session_attrs").as_deref() {
            None | Some("any") => Ok(SessionKind::Any),
            Some("read-write") => Ok(SessionKind::ReadWrite),
            Some("read-only") => Ok(SessionKind::ReadOnly),
            Some("primary") => Ok(SessionKind::Primary),
            Some("standby") => Ok(SessionKind::Standby),
            Some("prefer-standby") => Ok(SessionKind::PreferStandby),
            Some(_) => Err(ConninfoError::Value {
                parameter: "target_session_attrs",
                expected,
            }),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, ConninfoError> {
    let expected = "a number from 1 to 65535";
    match text.trim() {
        "" => Ok(DEFAULT_PORT),
        text => text.parse().ok().filter(|port| *port != 0).ok_or(ConninfoError::Value {
            parameter: "port",
            expected,
        }),
    }
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, ConninfoError> {
    let expected = "disable, allow, prefer, require, verify-ca or verify-full";
    match text {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(ConninfoError::Value {
            parameter: "sslmode",
            expected,
        }),
    }
}
