//! How to reach a Postgres: connection strings, TLS, authentication. Shared by source, snapshot and the Postgres sink.
//!
//! There is one way in: [`startup::open`] dials, encrypts, authenticates and pins the session. The replication
//! client goes on from there by itself, and so does a [`Reader`], which copies tables; other SQL hands the opened stream
//! to tokio-postgres ([`sql::connect`]).

mod authenticate;
mod certificate;
mod codes;
mod conninfo;
mod error;
mod gather;
mod given;
mod host;
pub(crate) mod message;
mod passfile;
mod reader;
mod socket;
pub mod sql;
pub(crate) mod startup;
mod stream;
mod syntax;
mod tls;

pub use codes::CODES;
pub use conninfo::{ChannelBinding, Conninfo, ConninfoError, RootCertificate, SessionKind, SslMode};
pub(crate) use error::told;
pub use error::{ConnectError, Failure, QueryError, Reason};
pub use host::Host;
pub use reader::{Frames, Reader, TextRow};
pub use tls::install_crypto_provider;

#[cfg(test)]
mod tests;
