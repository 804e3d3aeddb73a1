//! The socket options and the one read that no crate here has a safe call for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::io::ReadBuf;

/// A peer that is silent for so long is asked whether it is there, every [`PROBE_INTERVAL`].
#[cfg(target_os = "linux")]
const PROBE_AFTER: Duration = Duration::from_secs(30);
#[cfg(target_os = "linux")]
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// So many unanswered questions end the connection.
#[cfg(target_os = "linux")]
const PROBES: libc::c_int = 3;

/// How many bytes have to be there before the socket counts as readable.
pub(super) fn set_low_water_mark(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

/// Lets the kernel notice a peer that is gone without a word: an idle SQL session has no other way.
pub(super) fn keep_alive(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    #[cfg(target_os = "linux")]
    {
        let seconds = |time: Duration| libc::c_int::try_from(time.as_secs()).map_err(io::Error::other);
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(PROBE_AFTER)?)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(PROBE_INTERVAL)?)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, PROBES)?;
    }
    Ok(())
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no crate here has a safe setter for these options")]
    // SAFETY: the socket is open, for it is borrowed; the pointer and length are those of a live c_int.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A read that asks the kernel, where the runtime's own `try_read` would answer from its cached readiness: at most
/// `at_most` bytes, which count as filled afterwards.
pub(super) fn receive_now(socket: BorrowedFd<'_>, buffer: &mut ReadBuf<'_>, at_most: usize) -> io::Result<usize> {
    #[expect(unsafe_code, reason = "the runtime offers no read past its cached readiness")]
    // SAFETY: the socket is open, for it is borrowed; pointer and length are those of one live slice, which is only
    // written to; as many of its bytes as the kernel says that it wrote are initialised.
    unsafe {
        let spare = buffer.unfilled_mut();
        let length = spare.len().min(at_most);
        let read = libc::recv(
            socket.as_raw_fd(),
            spare.as_mut_ptr().cast(),
            length,
            libc::MSG_DONTWAIT,
        );
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        buffer.assume_init(read);
        buffer.advance(read);
        Ok(read)
    }
}

/// Makes the window that the server may fill small. Before the connection is made: what has been offered once can't
/// be taken back.
pub(super) fn narrow_window(socket: BorrowedFd<'_>, bytes: usize, segment_bytes: usize) -> io::Result<()> {
    let number = |bytes: usize| libc::c_int::try_from(bytes).map_err(io::Error::other);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, number(bytes)?)?;
    // No segment may be larger than the window: it would wait for a window that never comes.
    #[cfg(target_os = "linux")]
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, number(segment_bytes)?)?;
    Ok(())
}
