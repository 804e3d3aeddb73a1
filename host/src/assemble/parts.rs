//! A transaction that has committed, read back in parts.

use super::Stop;
use super::frame::{HEADER, length};
use super::spill::Full;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};

/// As much as a read of the stream hands out at most: the stages behind are made for batches of that size.
pub(super) const PART_BYTES: usize = 512 << 10;

/// A transaction's frames: first those at the head of a file, where there is one, then those in memory.
pub(super) struct Stored<'a> {
    pub(super) file: Option<File>,
    pub(super) on_disk: u64,
    pub(super) memory: &'a [u8],
}

/// Gives a transaction's frames between `begin` and `tail` in chunks of whole frames of about `part_bytes`, or of one
/// frame that is larger.
pub(super) fn give<E>(
    stored: Stored<'_>,
    begin: Vec<u8>,
    tail: &[u8],
    part_bytes: usize,
    give: &mut impl FnMut(Bytes) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let disk = |error| Stop::Full(Full::Disk(error));
    let on_disk: Box<dyn Read> = match stored.file {
        Some(file) => Box::new(file.take(stored.on_disk)),
        None => Box::new(io::empty()),
    };
    let mut rest = on_disk.chain(stored.memory);
    let mut left = stored.on_disk + stored.memory.len() as u64;
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
