//! Ordinary SQL: tokio-postgres over a session that we have opened ourselves.

use super::conninfo::Conninfo;
use super::error::{ConnectError, Reason};
use super::startup::{self, Purpose, Session};
use super::stream::Stream;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::NoTls;

/// Connects, with the settings pinned that decide how values are written, and spawns the task that drives the
/// connection. The task ends with the client. The client's cancel token knows no address and can't be used.
pub async fn connect(conninfo: &Conninfo, application_name: &str) -> Result<tokio_postgres::Client, ConnectError> {
    let session = startup::open(conninfo, application_name, Purpose::Sql).await?;
    let host = session.host.clone();
    let mut config = tokio_postgres::Config::new();
    // The session is encrypted and authenticated already; what this client sends of its own is swallowed.
    config
        .user(&conninfo.user)
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config
        .connect_raw(Resumed::new(session), NoTls)
        .await
        .map_err(|error| ConnectError::fatal(Reason::Protocol, &host, error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever uses the client meets the error too and handles it.
            tracing::debug!(%error, "SQL connection ended");
        }
    });
    Ok(client)
}

/// A session that is past its startup, shown to a client that wants to go through one: the client's startup message
/// goes nowhere, and it reads what the server said the first time.
struct Resumed {
    stream: Stream,
    replay: Bytes,
    /// Bytes of the client's startup message still to be swallowed; `None` until its length is known.
    to_swallow: Option<usize>,
}

impl Resumed {
    fn new(session: Session) -> Self {
        let replay = [&*session.replay(), &session.buffer].concat().into();
        Self {
            replay,
            stream: session.stream,
            to_swallow: None,
        }
    }
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.replay.len().min(buffer.remaining());
        buffer.put_slice(&self.replay[..length]);
        self.replay.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = match (self.to_swallow, bytes.first_chunk::<4>()) {
            (Some(left), _) => left,
            // A startup message begins with its length; the client writes it in one piece.
            (None, Some(length)) => u32::from_be_bytes(*length) as usize,
            (None, None) => return Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
        };
        if left == 0 {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let swallowed = left.min(bytes.len());
        self.to_swallow = Some(left - swallowed);
        Poll::Ready(Ok(swallowed))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
