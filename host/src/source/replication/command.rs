//! Replication commands, before the stream begins.

use super::feedback::Clock;
use super::history::History;
use super::receiver::Receiver;
use crate::batch::Lsn;
use crate::config::ByteSize;
use crate::postgres::message::{self, tag};
use crate::postgres::startup::{self, Purpose, Session};
use crate::postgres::{ConnectError, Conninfo, QueryError};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::time::Duration;
use tokio::sync::watch;

/// `messages`, `binary` and `streaming` are understood from version 14 on.
const VERSION_14: u32 = 140_000;
/// Protocol 3, with `two_phase`.
const VERSION_15: u32 = 150_000;
/// Protocol 4 came with version 16; it differs from 2 in what this program doesn't ask for.
const VERSION_16: u32 = 160_000;

/// A walsender of one database, open for commands.
pub struct Connection {
    session: Session,
    server_version: u32,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    pub system_identifier: u64,
    pub timeline: u32,
    /// How far the server's WAL is flushed.
    pub lsn: Lsn,
    pub database: Option<String>,
}

/// What is asked of pgoutput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolOptions {
    pub proto_version: u8,
    pub binary: bool,
    pub messages: bool,
    /// Whether transactions in progress are sent. They need an [`Assembler`](crate::assemble::Assembler).
    pub streaming: bool,
    /// Whether prepared transactions are sent when they are prepared. They need an assembler that keeps them.
    pub two_phase: bool,
    /// What the server may hold of transactions that it decodes, before it writes them to its disk or sends them in progress;
    /// its own setting unless given.
    pub decoding_memory: Option<ByteSize>,
}

impl ProtocolOptions {
    /// The best that this server and our decoder have in common: whole transactions, in commit order.
    pub fn choose(server_version: u32) -> Self {
        Self {
            proto_version: 1,
            binary: false,
            messages: server_version >= VERSION_14,
            streaming: false,
            two_phase: false,
            decoding_memory: None,
        }
    }

    /// The same with values in binary form.
    #[must_use]
    pub fn with_binary(self, binary: bool) -> Self {
        Self { binary, ..self }
    }

    /// The same with so much memory for what is decoded.
    #[must_use]
    pub fn with_decoding_memory(self, decoding_memory: Option<ByteSize>) -> Self {
        Self {
            decoding_memory,
            ..self
        }
    }

    /// The same with transactions in progress, where the server can.
    pub fn choose_streaming(server_version: u32) -> Self {
        let chosen = Self::choose(server_version);
        match server_version {
            VERSION_16.. => Self {
                proto_version: 4,
                streaming: true,
                ..chosen
            },
            VERSION_14.. => Self {
                proto_version: 2,
                streaming: true,
                ..chosen
            },
            _ => chosen,
        }
    }

    /// The same with prepared transactions, where the server can. The slot must have been made for them.
    pub fn with_two_phase(self, server_version: u32) -> Self {
        match server_version {
            VERSION_15.. => Self {
                proto_version: self.proto_version.max(3),
                two_phase: true,
                ..self
            },
            _ => self,
        }
    }
}

impl Connection {
    /// Opens a walsender session with the same settings pinned as on every other connection.
    pub async fn connect(conninfo: &Conninfo, application_name: &str) -> Result<Self, ConnectError> {
        let session = startup::open(conninfo, application_name, Purpose::Replication).await?;
        let server_version = session.parameter("server_version").map_or(0, version_number);
        Ok(Self {
            session,
            server_version,
        })
    }

    /// As `server_version_num`: 15.18 is 150018.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    pub fn backend_pid(&self) -> i32 {
        self.session.backend_pid
    }

    /// Runs SQL or a replication command; the values of its rows as text.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, QueryError> {
        self.session.query(sql).await
    }

    pub async fn identify_system(&mut self) -> Result<SystemIdentity, QueryError> {
        let rows = self.simple_query("IDENTIFY_SYSTEM").await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
        let mut next = || row.next().flatten();
        let identity = (|| {
            Some(SystemIdentity {
                system_identifier: next()?.parse().ok()?,
                timeline: next()?.parse().ok()?,
                lsn: next()?.parse().ok()?,
                database: next(),
            })
        })();
        identity.ok_or_else(|| QueryError::protocol("the answer to IDENTIFY_SYSTEM is malformed"))
    }

    /// How the server came to be on `timeline`, which it is on now (TIMELINE_HISTORY).
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<History, QueryError> {
        // The first timeline of a cluster has no history.
        if timeline <= 1 {
            return Ok(History::default());
        }
        let rows = self.simple_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.first().and_then(|row| row.get(1)?.as_deref());
        let content = content.ok_or_else(|| QueryError::protocol("the answer to TIMELINE_HISTORY is malformed"))?;
        Ok(History::parse(timeline, content))
    }

    /// Makes a permanent pgoutput slot and returns its consistent point. Waits for the transactions that are running.
    /// With `two_phase` it is one for prepared transactions, which version 15 and later have; with `failover` one that
    /// standbys keep, which version 17 and later have.
    pub async fn create_logical_slot(
        &mut self,
        name: &str,
        two_phase: bool,
        failover: bool,
    ) -> Result<Lsn, QueryError> {
        let name = quote_identifier(name);
        let sql = match failover {
            true => {
                format!(
                    "CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput \
                     (SNAPSHOT 'nothing', TWO_PHASE {two_phase}, FAILOVER true)"
                )
            }
            // The spelling that all versions from 10 on understand.
            false => {
                let two_phase = if two_phase { " TWO_PHASE" } else { "" };
                format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput NOEXPORT_SNAPSHOT{two_phase}")
            }
        };
        let rows = self.simple_query(&sql).await?;
        let point = rows.first().and_then(|row| row.get(1)?.as_ref()?.parse().ok());
        point.ok_or_else(|| QueryError::protocol("the answer to CREATE_REPLICATION_SLOT is malformed"))
    }

    /// Makes a slot that is there one that standbys keep. Nobody may stream from it.
    pub async fn make_failover_slot(&mut self, name: &str) -> Result<(), QueryError> {
        let sql = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", quote_identifier(name));
        self.simple_query(&sql).await.map(|_| ())
    }

    /// Begins to stream. `acks` is the position up to which everything is durable: it is reported as flushed and
    /// applied whenever it moves.
    ///
    /// From version 15 on a server that has confirmed more than `from` starts there without a word: compare before.
    pub async fn start(
        mut self,
        slot: &str,
        from: Lsn,
        publications: &[String],
        options: ProtocolOptions,
        acks: watch::Receiver<Lsn>,
    ) -> Result<Receiver, QueryError> {
        let timeout = self.wal_sender_timeout().await?;
        if let Some(ByteSize(bytes)) = options.decoding_memory {
            let sql = format!("SET logical_decoding_work_mem = '{}kB'", bytes >> 10);
            self.simple_query(&sql).await?;
        }
        let mut out = BytesMut::new();
        frontend::query(&start_command(slot, from, publications, options), &mut out)
            .map_err(|_| QueryError::protocol("a name holds a zero byte"))?;
        self.session.send(&out).await?;
        loop {
            let message = self.session.read().await?;
            match message.tag {
                tag::COPY_BOTH_RESPONSE => break,
                tag::ERROR_RESPONSE => return Err(message::server_error(&message.body)),
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => {}
                other => {
                    return Err(QueryError::protocol(format!(
                        "unexpected message {other:#04x} at the start"
                    )));
                }
            }
        }
        let Session { stream, buffer, .. } = self.session;
        Ok(Receiver::new(stream, buffer, from, acks, Clock::new(timeout)))
    }

    /// How long the server waits for us; zero where it waits for ever.
    async fn wal_sender_timeout(&mut self) -> Result<Duration, QueryError> {
        let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = self.simple_query(sql).await?;
        let milliseconds = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        milliseconds
            .map(Duration::from_millis)
            .ok_or_else(|| QueryError::protocol("wal_sender_timeout has no value"))
    }
}

fn start_command(slot: &str, from: Lsn, publications: &[String], options: ProtocolOptions) -> String {
    let names: Vec<String> = publications.iter().map(|name| quote_identifier(name)).collect();
    let mut sql = format!(
        "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '{}', publication_names {}",
        quote_identifier(slot),
        options.proto_version,
        quote_literal(&names.join(",")),
    );
    for (name, on) in [("binary", options.binary), ("messages", options.messages)] {
        if on {
            sql.push_str(&format!(", {name} 'true'"));
        }
    }
    if options.streaming {
        sql.push_str(", streaming 'on'");
    }
    if options.two_phase {
        sql.push_str(", two_phase 'on'");
    }
    sql.push(')');
    sql
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// For the replication grammar, which knows no escapes but the doubled quote.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `15.18 (Debian 15.18-0+deb12u1)` to 150018, `18beta1` to 180000, `9.6.24` to 90624.
fn version_number(text: &str) -> u32 {
    let number = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()
        .unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let (major, minor) = (next(), next());
    if major >= 10 {
        major.saturating_mul(10_000).saturating_add(minor)
    } else {
        major * 10_000 + minor.min(99) * 100 + next().min(99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_the_server_numbers_them() {
        assert_eq!(version_number("15.18 (Debian 15.18-0+deb12u1)"), 150_018);
        assert_eq!(version_number("18beta1"), 180_000);
        assert_eq!(version_number("9.6.24"), 90_624);
        assert_eq!(version_number(""), 0);
    }

    #[test]
    fn streaming_is_asked_for_in_the_servers_own_protocol() {
        let of = |version| {
            let options = ProtocolOptions::choose_streaming(version);
            (options.proto_version, options.streaming)
        };
        assert_eq!(
            [of(130_000), of(140_000), of(150_018)],
            [(1, false), (2, true), (2, true)]
        );
        assert_eq!([of(160_000), of(180_004)], [(4, true), (4, true)]);
        let sql = start_command("s", Lsn(1), &["p".into()], ProtocolOptions::choose_streaming(160_000));
        assert!(sql.ends_with("(proto_version '4', publication_names '\"p\"', messages 'true', streaming 'on')"));
    }

    #[test]
    fn two_phase_is_asked_for_from_protocol_3_on() {
        let of = |options: ProtocolOptions, version| {
            let options = options.with_two_phase(version);
            (options.proto_version, options.two_phase)
        };
        let (whole, streaming) = (ProtocolOptions::choose, ProtocolOptions::choose_streaming);
        assert_eq!(of(whole(140_000), 140_000), (1, false));
        assert_eq!(of(whole(150_018), 150_018), (3, true));
        assert_eq!(of(streaming(150_018), 150_018), (3, true));
        assert_eq!(of(streaming(180_004), 180_004), (4, true));
        let options = streaming(180_004).with_two_phase(180_004);
        let sql = start_command("s", Lsn(1), &["p".into()], options);
        assert!(sql.ends_with("messages 'true', streaming 'on', two_phase 'on')"));
    }

    #[test]
    fn x9_names_are_quoted_for_the_replication_grammar() {
        let sql = start_command(
            "s1",
            Lsn(0x1_0000_00AB),
            &["it's".into(), "a\"b".into()],
            ProtocolOptions::choose(150_018),
        );
        assert_eq!(
            sql,
            "START_REPLICATION SLOT \"s1\" LOGICAL 1/AB (proto_version '1', publication_names '\"it''s\",\"a\"\"b\"', \
             messages 'true')"
        );
    }
}
