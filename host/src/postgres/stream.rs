//! The byte stream to a server, whatever it goes over, and how it is opened.

use super::certificate;
use super::conninfo::{Conninfo, RootCertificate, SslMode};
use super::error::{ConnectError, Reason};
use super::gather::{self, Gathering};
use super::host::Host;
use super::{socket, tls};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// rustls reads 4 KiB at a time; this lets it do so from memory.
const TLS_READ_BUFFER_BYTES: usize = 256 << 10;

/// A connected stream. Boxed where large.
pub(crate) enum Stream {
    Tcp(Gathering),
    Tls(Box<TlsStream<BufReader<Gathering>>>),
    Unix(UnixStream),
}

impl Stream {
    /// Dials and, where the mode wants it, encrypts. With `require` or stronger nothing but the request for TLS is
    /// ever sent in clear.
    pub(super) async fn open(conninfo: &Conninfo, host: &Host, mode: SslMode) -> Result<Self, ConnectError> {
        let label = host.label();
        let Host::Tcp { name, .. } = host else {
            let path = host.socket_path().unwrap_or_default();
            let unix = UnixStream::connect(path)
                .await
                .map_err(|error| ConnectError::link(&label, error))?;
            return Ok(Self::Unix(unix));
        };
        let mut tcp = dial(host).await.map_err(|error| ConnectError::link(&label, error))?;
        if mode == SslMode::Disable {
            return Ok(Self::Tcp(Gathering::new(tcp)));
        }
        let offered = request_tls(&mut tcp)
            .await
            .map_err(|error| ConnectError::link(&label, error))?;
        match offered {
            b'S' => encrypt(tcp, name, &label, mode, conninfo.ssl_root.as_ref()).await,
            b'N' if mode == SslMode::Prefer => Ok(Self::Tcp(Gathering::new(tcp))),
            b'N' => Err(ConnectError::fatal(
                Reason::NoTls,
                &label,
                "the server doesn't offer TLS",
            )),
            _ => Err(ConnectError::fatal(
                Reason::Protocol,
                &label,
                "what answers is no Postgres",
            )),
        }
    }

    /// True where nobody on the way can read along.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// The `tls-server-end-point` channel binding, where there is one.
    pub(super) fn channel_binding(&self) -> Option<Vec<u8>> {
        let Self::Tls(tls) = self else { return None };
        let (_, session) = tls.get_ref();
        certificate::end_point(session.peer_certificates()?.first()?)
    }

    /// Reads from the socket that returned bytes; 0 where that isn't counted.
    pub(crate) fn reads(&self) -> u64 {
        match self {
            Self::Tcp(tcp) => tcp.reads(),
            Self::Tls(tls) => tls.get_ref().0.get_ref().reads(),
            Self::Unix(_) => 0,
        }
    }
}

/// Tries each address in turn.
async fn dial(host: &Host) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Tcp {
            address: Some(address),
            port,
            ..
        } => vec![SocketAddr::new(*address, *port)],
        Host::Tcp { name, port, .. } => tokio::net::lookup_host((name.as_str(), *port)).await?.collect(),
        Host::Unix { .. } => Vec::new(),
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match gather::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                socket::keep_alive(tcp.as_fd())?;
                return Ok(tcp);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The server's one-byte answer to SSLRequest. Not a byte more is read: what comes after is TLS or nothing.
async fn request_tls(tcp: &mut TcpStream) -> io::Result<u8> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    tcp.read_u8().await
}

async fn encrypt(
    tcp: TcpStream,
    name: &str,
    label: &str,
    mode: SslMode,
    root: Option<&RootCertificate>,
) -> Result<Stream, ConnectError> {
    let fatal = |message: String| ConnectError::fatal(Reason::Tls, label, message);
    let config = tls::client_config(mode, root).map_err(fatal)?;
    // A name goes along as SNI, an address doesn't.
    let server = ServerName::try_from(name.trim_end_matches('.').to_owned())
        .map_err(|_| fatal("the host's name can't be one of a certificate".into()))?;
    let io = BufReader::with_capacity(TLS_READ_BUFFER_BYTES, Gathering::new(tcp));
    let connected = TlsConnector::from(Arc::new(config)).connect(server, io).await;
    let tls =
        connected.map_err(
            |error| match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(inner) => {
                    fatal(tls::certificate_fault(inner).unwrap_or_else(|| format!("TLS handshake: {inner}")))
                }
                None => ConnectError::link(label, format!("TLS handshake: {error}")),
            },
        )?;
    Ok(Stream::Tls(Box::new(tls)))
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(io) => Pin::new(io).poll_read(context, buffer),
            Self::Tls(io) => Pin::new(io).poll_read(context, buffer),
            Self::Unix(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(io) => Pin::new(io).poll_write(context, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(context, bytes),
            Self::Unix(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(io) => Pin::new(io).poll_flush(context),
            Self::Tls(io) => Pin::new(io).poll_flush(context),
            Self::Unix(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(context),
            Self::Tls(io) => Pin::new(io).poll_shutdown(context),
            Self::Unix(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
