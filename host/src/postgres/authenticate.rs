//! The server's question who we are, and the answer: SCRAM-SHA-256 with and without channel binding, MD5, and a
//! password in clear where nobody can read along.

use super::conninfo::{ChannelBinding, Conninfo};
use super::error::{ConnectError, QueryError, Reason};
use super::host::Host;
use super::message::{self, MAX_STARTUP_BODY_BYTES, tag};
use super::stream::Stream;
use crate::config::Secret;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use std::io;
use tokio::io::AsyncWriteExt;

/// Codes of the authentication messages.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const CLEARTEXT_PASSWORD: i32 = 3;
    pub(super) const MD5_PASSWORD: i32 = 5;
    pub(super) const SASL: i32 = 10;
    pub(super) const SASL_CONTINUE: i32 = 11;
    pub(super) const SASL_FINAL: i32 = 12;
}

pub(super) struct Authentication<'a> {
    pub(super) conninfo: &'a Conninfo,
    pub(super) host: &'a Host,
    pub(super) stream: &'a mut Stream,
    pub(super) buffer: &'a mut BytesMut,
}

impl Authentication<'_> {
    /// Answers until the server says OK.
    pub(super) async fn run(mut self) -> Result<(), ConnectError> {
        let (question, mut body) = self.receive().await?;
        if question == code::SASL {
            self.scram(&body).await?;
        } else {
            if self.conninfo.channel_binding == ChannelBinding::Require {
                return Err(self.refuse("channel binding is required, and the server doesn't use it"));
            }
            match question {
                code::OK => return Ok(()),
                code::CLEARTEXT_PASSWORD if self.stream.is_private() => {
                    let password = self.password()?;
                    self.answer_password(password.reveal().as_bytes()).await?;
                }
                code::CLEARTEXT_PASSWORD => {
                    return Err(self.refuse("the server asks for the password in clear over an unencrypted connection"));
                }
                code::MD5_PASSWORD => {
                    let mut salt = [0; 4];
                    body.try_copy_to_slice(&mut salt).map_err(|_| self.malformed())?;
                    let password = self.password()?;
                    let hash = md5_hash(self.conninfo.user.as_bytes(), password.reveal().as_bytes(), salt);
                    self.answer_password(hash.as_bytes()).await?;
                }
                _ => return Err(self.refuse("the server asks for an authentication method that isn't supported")),
            }
        }
        match self.receive().await? {
            (code::OK, _) => Ok(()),
            _ => Err(self.malformed()),
        }
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<(), ConnectError> {
        let offers = |name: &str| {
            mechanisms
                .split(|byte| *byte == 0)
                .any(|offer| offer == name.as_bytes())
        };
        let wanted = self.conninfo.channel_binding;
        let binding = self
            .stream
            .channel_binding()
            .filter(|_| wanted != ChannelBinding::Disable);
        let (mechanism, binding) = match binding {
            Some(end_point) if offers(SCRAM_SHA_256_PLUS) => (
                SCRAM_SHA_256_PLUS,
                sasl::ChannelBinding::tls_server_end_point(end_point),
            ),
            _ if wanted == ChannelBinding::Require => {
                return Err(self.refuse("channel binding is required, and can't be had on this connection"));
            }
            // Tells the server that we could have: it fails if its own offer was taken out on the way.
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
            _ => return Err(self.refuse("the server offers no SCRAM mechanism that is supported")),
        };
        let password = self.password()?;
        let mut scram = ScramSha256::new(password.reveal().as_bytes(), binding);
        let first = scram.message().to_vec();
        self.send(|out| frontend::sasl_initial_response(mechanism, &first, out))
            .await?;

        let body = self.expect(code::SASL_CONTINUE).await?;
        scram
            .update(&body)
            .map_err(|error| self.refuse(format!("SCRAM: {error}")))?;
        let second = scram.message().to_vec();
        self.send(|out| frontend::sasl_response(&second, out)).await?;

        let body = self.expect(code::SASL_FINAL).await?;
        // The server has to prove that it knows the password, too.
        scram
            .finish(&body)
            .map_err(|error| self.refuse(format!("SCRAM: {error}")))
    }

    async fn answer_password(&mut self, password: &[u8]) -> Result<(), ConnectError> {
        self.send(|out| frontend::password_message(password, out)).await
    }

    async fn send(&mut self, build: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), ConnectError> {
        let mut out = BytesMut::new();
        build(&mut out).map_err(|_| self.refuse("the user or password holds a zero byte"))?;
        let sent = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| ConnectError::link(&self.host.label(), error))
    }

    async fn expect(&mut self, wanted: i32) -> Result<Bytes, ConnectError> {
        match self.receive().await? {
            (code, body) if code == wanted => Ok(body),
            _ => Err(self.malformed()),
        }
    }

    /// The code and body of the next authentication message.
    async fn receive(&mut self) -> Result<(i32, Bytes), ConnectError> {
        let label = self.host.label();
        let fail = |error: QueryError| ConnectError::query(&label, error);
        loop {
            let message = message::read(self.stream, self.buffer, MAX_STARTUP_BODY_BYTES)
                .await
                .map_err(fail)?;
            match message.tag {
                tag::AUTHENTICATION => {
                    let mut body = message.body;
                    let code = body.try_get_i32().map_err(|_| self.malformed())?;
                    return Ok((code, body));
                }
                tag::ERROR_RESPONSE => return Err(fail(message::server_error(&message.body))),
                tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => {}
                _ => return Err(self.malformed()),
            }
        }
    }

    fn password(&self) -> Result<Secret, ConnectError> {
        self.conninfo
            .password(self.host)
            .ok_or_else(|| self.refuse("the server asks for a password and none is given"))
    }

    fn refuse(&self, message: impl Into<String>) -> ConnectError {
        ConnectError::fatal(Reason::Password, &self.host.label(), message)
    }

    fn malformed(&self) -> ConnectError {
        ConnectError::fatal(
            Reason::Protocol,
            &self.host.label(),
            "authentication took an unexpected turn",
        )
    }
}
