//! A transaction that has committed, read back in parts.

use super::Stop;
use super::frame::{HEADER, length};
use super::held::Held;
use super::spill::Full;
use bytes::Bytes;
use std::io::{self, Read};

/// As much as a read of the stream hands out at most: the stages behind are made for batches of that size.
pub(super) const PART_BYTES: usize = 512 << 10;

/// Gives a transaction's frames between `begin` and `tail` in chunks of whole frames of about `part_bytes`, or of one
/// frame that is larger.
pub(super) fn give<E>(
    held: &Held,
    begin: Vec<u8>,
    tail: &[u8],
    part_bytes: usize,
    give: &mut impl FnMut(Bytes) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let disk = |error| Stop::Full(Full::Disk(error));
    let file = held.file().map_err(disk)?;
    let on_disk: Box<dyn Read> = match file {
        Some(file) => Box::new(file.take(held.on_disk())),
        None => Box::new(io::empty()),
    };
    let mut rest = on_disk.chain(held.memory());
    let mut left = held.on_disk() + held.memory().len() as u64;
    let mut buffer = begin;
    let mut wanted = part_bytes;
    loop {
        let room = (wanted.saturating_sub(buffer.len()) as u64).min(left);
        buffer.reserve_exact(usize::try_from(room).unwrap_or(0) + tail.len());
        let read = rest.by_ref().take(room).read_to_end(&mut buffer).map_err(disk)?;
        left -= read as u64;
        let whole = whole_frames(&buffer);
        if (read as u64) < room || (left == 0 && whole.bytes < buffer.len()) {
            let torn = io::Error::new(io::ErrorKind::UnexpectedEof, "a spilled transaction is torn");
            return Err(disk(torn));
        }
        if left == 0 {
            buffer.extend_from_slice(tail);
            return give(Bytes::from(buffer)).map_err(Stop::Gone);
        }
        wanted = part_bytes.max(whole.next);
        if whole.bytes > 0 {
            let cut_off = buffer.split_off(whole.bytes);
            give(Bytes::from(std::mem::replace(&mut buffer, cut_off))).map_err(Stop::Gone)?;
        }
    }
}

struct Whole {
    /// Of whole frames at the buffer's head.
    bytes: usize,
    /// To be read of the frame that is cut off.
    next: usize,
}

fn whole_frames(buffer: &[u8]) -> Whole {
    let mut bytes = 0;
    while let Some(header) = buffer.get(bytes..bytes + HEADER) {
        let len = 1 + length(header);
        if bytes + len > buffer.len() {
            return Whole { bytes, next: len };
        }
        bytes += len;
    }
    // Not even a header: that is what to read next.
    let next = HEADER;
    Whole { bytes, next }
}
