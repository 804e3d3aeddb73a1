//! One server of a connection string.

use super::conninfo::ConninfoError;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where servers put their Unix sockets: Debian's folder, then upstream's.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Tcp {
        /// What is looked up, sent as SNI, and checked against the certificate.
        name: String,
        /// Goes there without a look-up.
        address: Option<IpAddr>,
        port: u16,
    },
    Unix {
        folder: PathBuf,
        port: u16,
    },
}

impl Host {
    /// For messages: `name:port` or the socket's path.
    pub fn label(&self) -> String {
        match self {
            Self::Tcp { name, port, .. } => format!("{name}:{port}"),
            Self::Unix { .. } => self
                .socket_path()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
        }
    }

    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { folder, port } => Some(folder.join(format!(".s.PGSQL.{port}"))),
        }
    }

    /// The name or address, `localhost` for a Unix socket.
    pub fn name(&self) -> &str {
        match self {
            Self::Tcp { name, .. } => name,
            Self::Unix { .. } => "localhost",
        }
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }

    pub(super) fn is_neon(&self) -> bool {
        let name = self.name().trim_end_matches('.').to_ascii_lowercase();
        name == "neon.tech" || name.ends_with(".neon.tech")
    }

    pub(super) fn is_pooler(&self) -> bool {
        self.name()
            .split('.')
            .next()
            .is_some_and(|label| label.ends_with("-pooler"))
    }
}

pub(super) fn host(name: Option<String>, address: Option<String>, port: u16) -> Result<Host, ConninfoError> {
    let expected = "an IP address";
    if let Some(address) = address {
        if name.as_ref().is_some_and(|name| name.contains('@')) {
            return Err(ConninfoError::AtSign);
        }
        let ip = address.parse().map_err(|_| ConninfoError::Value {
            parameter: "hostaddr",
            expected,
        })?;
        return Ok(Host::Tcp {
            name: name.unwrap_or(address),
            address: Some(ip),
            port,
        });
    }
    match name {
        Some(name) if name.starts_with('/') => Ok(Host::Unix {
            folder: PathBuf::from(name),
            port,
        }),
        Some(name) if name.contains('@') => Err(ConninfoError::AtSign),
        Some(name) => Ok(Host::Tcp {
            address: name.parse().ok(),
            name,
            port,
        }),
        None => Ok(default_host(port)),
    }
}

/// A local server's Unix socket where there is one, else localhost.
fn default_host(port: u16) -> Host {
    SOCKET_FOLDERS
        .iter()
        .map(|folder| Host::Unix {
            folder: PathBuf::from(folder),
            port,
        })
        .find(|host| host.socket_path().is_some_and(|path| path.exists()))
        .unwrap_or_else(|| Host::Tcp {
            name: "localhost".into(),
            address: None,
            port,
        })
}
