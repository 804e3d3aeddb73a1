//! From a connection string to a session: dial, encrypt, authenticate, pin the settings.

use super::authenticate::Authentication;
use super::conninfo::{Conninfo, SessionKind, SslMode};
use super::error::{ConnectError, QueryError, Reason};
use super::host::Host;
use super::message::{self, MAX_BODY_BYTES, MAX_STARTUP_BODY_BYTES, tag};
pub(crate) use super::stream::Stream;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use std::collections::HashMap;
use tokio::io::AsyncWriteExt;

/// What a role's or database's own defaults must not change: the text form of every value, how such a text is read
/// (`array_nulls`, `xmloption`), that warnings are told, such as from version 18 on of a publication that is gone, and that a
/// session may be idle or busy for as long as it needs. By SQL, for poolers and
/// proxies refuse startup parameters. Settings that not every server has are looked up.
const PINNED_SETTINGS: &str = "SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET search_path = ''; SET client_encoding = 'UTF8'; \
    SET lc_monetary = 'C'; SET array_nulls = on; SET xmloption = content; SET quote_all_identifiers = off; \
    SET standard_conforming_strings = on; SET client_min_messages = notice; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// What the session is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Sql,
    /// `replication=database`: a logical walsender, which takes SQL too.
    Replication,
}

/// An open session that waits for its first command.
pub(crate) struct Session {
    /// The host that answered, for messages.
    pub(super) host: String,
    pub(crate) stream: Stream,
    /// Bytes read and not yet used.
    pub(crate) buffer: BytesMut,
    pub(crate) backend_pid: i32,
    /// ParameterStatus and BackendKeyData as received, for who wants to see the startup again.
    pub(super) transcript: BytesMut,
    parameters: HashMap<String, String>,
}

/// Opens a session on the first host that answers and is of the kind asked for.
pub(crate) async fn open(
    conninfo: &Conninfo,
    application_name: &str,
    purpose: Purpose,
) -> Result<Session, ConnectError> {
    let rounds: &[SessionKind] = match conninfo.session_kind {
        SessionKind::PreferStandby => &[SessionKind::Standby, SessionKind::Any],
        ref kind => std::slice::from_ref(kind),
    };
    let mut last = None;
    for kind in rounds {
        for host in &conninfo.hosts {
            match open_host(conninfo, host, application_name, purpose, *kind).await {
                Ok(session) => return Ok(session),
                // A wrong password is wrong everywhere; what is down or of the other kind has neighbours.
                Err(error) if !error.is_transient() && error.failure().reason != Reason::SessionKind => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::fatal(Reason::Link, "", "no host is given")))
}

async fn open_host(
    conninfo: &Conninfo,
    host: &Host,
    application_name: &str,
    purpose: Purpose,
    kind: SessionKind,
) -> Result<Session, ConnectError> {
    let opening = async {
        let session = open_session(conninfo, host, application_name, purpose).await?;
        if session.is_of(kind) {
            Ok(session)
        } else {
            Err(ConnectError::fatal(
                Reason::SessionKind,
                &host.label(),
                "not what target_session_attrs asks for",
            ))
        }
    };
    match conninfo.connect_timeout {
        Some(limit) => tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            let message = format!("no session within {} s", limit.as_secs());
            Err(ConnectError::link(&host.label(), message))
        }),
        None => opening.await,
    }
}

async fn open_session(
    conninfo: &Conninfo,
    host: &Host,
    application_name: &str,
    purpose: Purpose,
) -> Result<Session, ConnectError> {
    let label = host.label();
    let mut stream = match Stream::open(conninfo, host, conninfo.ssl_mode).await {
        // `prefer` encrypts where it can: as libpq, it does without where the handshake fails.
        Err(error) if conninfo.ssl_mode == SslMode::Prefer && error.failure().reason == Reason::Tls => {
            Stream::open(conninfo, host, SslMode::Disable).await?
        }
        opened => opened?,
    };
    let mut parameters = vec![("user", conninfo.user.as_str()), ("database", &conninfo.dbname)];
    if purpose == Purpose::Replication {
        parameters.push(("replication", "database"));
    }
    parameters.push(("client_encoding", "UTF8"));
    parameters.push((
        "application_name",
        conninfo.application_name.as_deref().unwrap_or(application_name),
    ));
    parameters.extend(conninfo.options.as_deref().map(|options| ("options", options)));
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)
        .map_err(|_| ConnectError::fatal(Reason::Protocol, &label, "a parameter holds a zero byte"))?;
    stream
        .write_all(&out)
        .await
        .map_err(|error| ConnectError::link(&label, error))?;
    stream
        .flush()
        .await
        .map_err(|error| ConnectError::link(&label, error))?;

    let mut buffer = BytesMut::new();
    let (stream_ref, buffer_ref) = (&mut stream, &mut buffer);
    Authentication {
        conninfo,
        host,
        stream: stream_ref,
        buffer: buffer_ref,
    }
    .run()
    .await?;
    let mut session = Session {
        host: label.clone(),
        stream,
        buffer,
        backend_pid: 0,
        transcript: BytesMut::new(),
        parameters: HashMap::new(),
    };
    session
        .greet()
        .await
        .map_err(|error| ConnectError::query(&label, error))?;
    session
        .query(PINNED_SETTINGS)
        .await
        .map_err(|error| ConnectError::query(&label, error))?;
    Ok(session)
}

impl Session {
    /// What the server says of itself between authentication and its first ReadyForQuery.
    async fn greet(&mut self) -> Result<(), QueryError> {
        loop {
            let message = message::read(&mut self.stream, &mut self.buffer, MAX_STARTUP_BODY_BYTES).await?;
            match message.tag {
                tag::PARAMETER_STATUS => {
                    self.transcript.extend_from_slice(&message.frame);
                    self.parameters.extend(message::parameter(&message.body));
                }
                tag::BACKEND_KEY_DATA => {
                    self.transcript.extend_from_slice(&message.frame);
                    let malformed = |_| QueryError::protocol("the backend's key is malformed");
                    self.backend_pid = message.body.clone().try_get_i32().map_err(malformed)?;
                }
                tag::READY_FOR_QUERY => return Ok(()),
                tag::ERROR_RESPONSE => return Err(message::server_error(&message.body)),
                tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => {}
                other => {
                    return Err(QueryError::protocol(format!(
                        "unexpected message {other:#04x} at startup"
                    )));
                }
            }
        }
    }

    /// Runs one simple query to its end; the rows of all its statements.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, QueryError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|_| QueryError::protocol("a query holds a zero byte"))?;
        self.send(&out).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let message = match (self.read().await, failed.take()) {
                // The server said why before it hung up.
                (Err(_), Some(error)) => return Err(error),
                (read, earlier) => {
                    failed = earlier;
                    read?
                }
            };
            match message.tag {
                tag::DATA_ROW => rows.push(message::data_row(&message.body)?),
                tag::ERROR_RESPONSE => failed = Some(message::server_error(&message.body)),
                tag::READY_FOR_QUERY => return failed.map_or(Ok(rows), Err),
                tag::ROW_DESCRIPTION
                | tag::COMMAND_COMPLETE
                | tag::EMPTY_QUERY_RESPONSE
                | tag::NOTICE_RESPONSE
                | tag::NOTIFICATION_RESPONSE
                | tag::PARAMETER_STATUS => {}
                other => {
                    return Err(QueryError::protocol(format!(
                        "unexpected message {other:#04x} in an answer"
                    )));
                }
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| QueryError::lost(&error))
    }

    pub(crate) async fn read(&mut self) -> Result<message::Message, QueryError> {
        message::read(&mut self.stream, &mut self.buffer, MAX_BODY_BYTES).await
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The startup as another client would have seen it, for that client to read.
    pub(super) fn replay(&self) -> Bytes {
        const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
        const READY_IDLE: &[u8] = b"Z\0\0\0\x05I";
        [AUTHENTICATION_OK, &self.transcript, READY_IDLE].concat().into()
    }

    /// By what the server reports from version 14 on; an older one is taken as it is.
    fn is_of(&self, kind: SessionKind) -> bool {
        let standby = self.parameter("in_hot_standby").map(|value| value == "on");
        let read_only = self
            .parameter("default_transaction_read_only")
            .map(|value| value == "on");
        let writes_refused = || Some(standby? || read_only?);
        let wanted = match kind {
            SessionKind::Any | SessionKind::PreferStandby => Some(true),
            SessionKind::Primary => standby.map(|standby| !standby),
            SessionKind::Standby => standby,
            SessionKind::ReadWrite => writes_refused().map(|refused| !refused),
            SessionKind::ReadOnly => writes_refused(),
        };
        wanted.unwrap_or(true)
    }
}
