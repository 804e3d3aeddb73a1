//! A proxy between the host and a Postgres that does to the bytes what networks do to them.
//!
//! It knows which connections are replication (by their startup message), so that faults can be kept to those.

mod frames;

use anyhow::Result;
use frames::{Frames, Place};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What is done to the bytes that the server sends, on replication connections unless the proxy is for all. Everything
/// else passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Pass,
    /// After so many more bytes both ends are reset, wherever in a message that is; then the proxy passes again.
    CutAfter(u64),
    /// So many bytes at a time, each in a packet of its own.
    Slice(usize),
    /// Each read is kept back for this long.
    Latency(Duration),
    /// So many bytes a second.
    Bandwidth(u64),
    /// Nothing passes in either direction, and nobody is told, until the next fault; then all of it does.
    Swallow,
    /// Both ends are reset inside of the next CopyData message; then the proxy passes again.
    CutInside,
    /// A bit of the type of the next message of pgoutput of this type is turned; then the proxy passes again.
    Corrupt(u8),
    /// A bit of the type of each message of pgoutput of this type is turned.
    CorruptEach(u8),
    /// Both ends are reset before the answer to the next COMMIT is through, which the server has done; then the proxy
    /// passes again.
    LoseReply,
    /// New connections of all kinds are reset, those that are there too.
    Refuse,
}

struct Shared {
    server: u16,
    /// Whether faults are for all connections, not for those of replication alone.
    of_all: bool,
    fault: Mutex<Fault>,
    changed: Condvar,
    /// Bytes from the server on replication connections.
    passed: AtomicU64,
    cuts: AtomicU64,
    /// Replication connections that were made.
    connections: AtomicU64,
    is_over: AtomicBool,
}

pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Proxy {
    /// Before the server at this port of this machine.
    pub fn before(server: u16) -> Result<Self> {
        Self::new(server, false)
    }

    /// As [`Self::before`], with faults for all connections.
    pub fn before_all(server: u16) -> Result<Self> {
        Self::new(server, true)
    }

    /// As [`Self::before_all`], where `listen` says, such as `127.0.0.2:0`.
    pub fn at(listen: &str, server: u16) -> Result<Self> {
        Self::listening(TcpListener::bind(listen)?, server, true)
    }

    fn new(server: u16, of_all: bool) -> Result<Self> {
        Self::listening(TcpListener::bind("127.0.0.1:0")?, server, of_all)
    }

    fn listening(listener: TcpListener, server: u16, of_all: bool) -> Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            of_all,
            fault: Mutex::new(Fault::Pass),
            changed: Condvar::new(),
            passed: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                if let Ok(client) = client {
                    std::thread::spawn(move || shared.serve(client));
                }
            }
        });
        Ok(Self { shared, address })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on. A fault in place of another ends that.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault() = fault;
        self.shared.changed.notify_all();
    }

    /// Bytes that the server has sent on replication connections, as far as they were passed on.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Connections that were cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Replication connections that were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn fault(&self) -> std::sync::MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) {
        if *self.fault() == Fault::Refuse {
            return reset(&client);
        }
        let (Ok(mut server), Ok(start)) = (TcpStream::connect(("127.0.0.1", self.server)), startup(&mut client)) else {
            return;
        };
        let is_replication = self.of_all || start.windows(11).any(|window| window == b"replication");
        if is_replication {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        if to_server.write_all(&start).is_err() {
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 16 << 10];
                while let Ok(len @ 1..) = from_client.read(&mut bytes) {
                    if is_replication {
                        self.wait_while_swallowing();
                    }
                    if to_server.write_all(&bytes[..len]).is_err() {
                        break;
                    }
                }
                let _ = to_server.shutdown(Shutdown::Both);
            });
            let mut bytes = [0; 64 << 10];
            let mut frames = Frames::default();
            while let Ok(len @ 1..) = server.read(&mut bytes) {
                let passed = match is_replication {
                    true => self.pass(&mut bytes[..len], &mut client, &mut frames),
                    false => client.write_all(&bytes[..len]).is_ok() && *self.fault() != Fault::Refuse,
                };
                if !passed {
                    reset(&client);
                    break;
                }
            }
            if is_replication {
                // The client isn't told that the server has gone, either.
                self.wait_while_swallowing();
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }

    fn wait_while_swallowing(&self) {
        let mut fault = self.fault();
        while *fault == Fault::Swallow && !self.is_over.load(Ordering::Relaxed) {
            fault = self
                .changed
                .wait_timeout(fault, Duration::from_millis(100))
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for so long, or until another fault takes the place of this one.
    fn hold(&self, fault: Fault, time: Duration) {
        let present = self.fault();
        let waited = self
            .changed
            .wait_timeout_while(present, time, |present| *present == fault);
        drop(waited.unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Passes bytes of the server on, as far as the fault lets them. Tells whether the connection lives on.
    fn pass(&self, bytes: &mut [u8], client: &mut TcpStream, frames: &mut Frames) -> bool {
        self.wait_while_swallowing();
        let fault = *self.fault();
        let cut = self.placed(fault, bytes, frames);
        let (len, sent) = match (fault, cut) {
            (Fault::Refuse, _) => return false,
            (_, Some(len)) => (len, client.write_all(&bytes[..len])),
            (Fault::Latency(time), _) => {
                self.hold(fault, time);
                (bytes.len(), client.write_all(bytes))
            }
            (Fault::Bandwidth(rate), _) => {
                self.hold(fault, Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64));
                (bytes.len(), client.write_all(bytes))
            }
            (Fault::Slice(size), _) => {
                let sent = bytes.chunks(size.max(1)).try_for_each(|piece| client.write_all(piece));
                (bytes.len(), sent)
            }
            _ => (bytes.len(), client.write_all(bytes)),
        };
        self.passed.fetch_add(len as u64, Ordering::Relaxed);
        if cut.is_some() {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
        sent.is_ok() && cut.is_none()
    }

    /// Does what `fault` does at places in the bytes; tells how many of them pass, where the connection is cut behind.
    fn placed(&self, fault: Fault, bytes: &mut [u8], frames: &mut Frames) -> Option<usize> {
        let mut found = Vec::new();
        frames.feed(bytes, |at, place| found.push((at, place)));
        let first = |wanted: Place| found.iter().find(|(_, place)| *place == wanted).map(|(at, _)| *at);
        match fault {
            Fault::CutAfter(left) => {
                let (left, len) = (usize::try_from(left).unwrap_or(usize::MAX), bytes.len());
                let is_beyond = len < left;
                self.turn(
                    fault,
                    if is_beyond {
                        Fault::CutAfter((left - len) as u64)
                    } else {
                        Fault::Pass
                    },
                );
                (!is_beyond).then_some(left)
            }
            Fault::CutInside => first(Place::Inside).filter(|_| self.turn(fault, Fault::Pass)),
            // Its last byte stays away: what is read up to there may be the answer of any statement.
            Fault::LoseReply => first(Place::Committed).filter(|_| self.turn(fault, Fault::Pass)),
            Fault::Corrupt(kind) => {
                if let Some(at) = first(Place::Message(kind)).filter(|_| self.turn(fault, Fault::Pass)) {
                    bytes[at] ^= 0x20;
                }
                None
            }
            Fault::CorruptEach(kind) => {
                let of_kind = found.iter().filter(|(_, place)| *place == Place::Message(kind));
                of_kind.for_each(|(at, _)| bytes[*at] ^= 0x20);
                None
            }
            Fault::Pass
            | Fault::Slice(_)
            | Fault::Latency(_)
            | Fault::Bandwidth(_)
            | Fault::Swallow
            | Fault::Refuse => None,
        }
    }

    /// Puts `next` in the place of `fault`, unless somebody has set another one meanwhile.
    fn turn(&self, fault: Fault, next: Fault) -> bool {
        let mut present = self.fault();
        let is_present = *present == fault;
        if is_present {
            *present = next;
        }
        is_present
    }
}

/// The client's startup message, which has no type: its length, then the rest. Whoever asks for encryption first is told
/// that there is none.
fn startup(client: &mut TcpStream) -> Result<Vec<u8>> {
    const SSL_REQUEST: u32 = 80_877_103;
    const GSS_REQUEST: u32 = 80_877_104;
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head)?;
        let [len, code] =
            [&head[..4], &head[4..]].map(|part| part.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
        if [SSL_REQUEST, GSS_REQUEST].contains(&code) {
            client.write_all(b"N")?;
            continue;
        }
        anyhow::ensure!((8..10_000).contains(&len), "no startup message");
        let mut message = head.to_vec();
        message.resize(len as usize, 0);
        client.read_exact(&mut message[8..])?;
        return Ok(message);
    }
}

/// Closes with a reset instead of an end, so that the peer loses what it hasn't read.
fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the descriptor is open as long as the stream is borrowed, and `linger` is of the size that is told.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
    let _ = stream.shutdown(Shutdown::Both);
}
