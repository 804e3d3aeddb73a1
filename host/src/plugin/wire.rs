//! A buffer that is filled again for every call.
//!
//! What was once made room for stays written, so that an append is one check and its stores. A `Vec` that is cut back
//! to less than was copied into it, because copies of a fixed size are quicker, has its length read and written each
//! time.

use std::ops::Deref;

/// Beyond this, room isn't kept for the next call: one large row mustn't hold its memory for ever.
const KEPT_BYTES_MAX: usize = 1 << 20;
const ROOM_BYTES_MIN: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// All of it is initialised, the first `len` bytes are meant.
    room: Vec<u8>,
    len: usize,
}

/// What MessagePack is written to.
pub(crate) trait Out {
    fn push(&mut self, byte: u8);
    fn extend_from_slice(&mut self, bytes: &[u8]);
    /// Appends the first `len` of these.
    fn first_of<const N: usize>(&mut self, len: usize, bytes: &[u8; N]);
}

impl Wire {
    pub fn clear(&mut self) {
        self.len = 0;
        if self.room.len() > KEPT_BYTES_MAX {
            self.room = Vec::new();
        }
    }

    /// At least so many bytes behind what was appended, to be written and then taken by [`Self::advance`].
    #[inline]
    pub fn space(&mut self, bytes: usize) -> &mut [u8] {
        if self.room.len() - self.len < bytes {
            self.grow(bytes);
        }
        &mut self.room[self.len..]
    }

    /// Takes the first `len` bytes of the space as appended.
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.len = (self.len + len).min(self.room.len());
    }

    /// Forgets what is beyond `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, by: usize) {
        let wanted = (self.len + by).max(2 * self.room.len()).max(ROOM_BYTES_MIN);
        self.room.resize(wanted, 0);
    }
}

impl Out for Wire {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.first_of(1, &[byte]);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.room.len() - self.len < bytes.len() {
            self.grow(bytes.len());
        }
        self.room[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn first_of<const N: usize>(&mut self, len: usize, bytes: &[u8; N]) {
        loop {
            if let Some(room) = self.room.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
                *room = *bytes;
                self.len += len;
                return;
            }
            self.grow(N);
        }
    }
}

impl Out for Vec<u8> {
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn first_of<const N: usize>(&mut self, len: usize, bytes: &[u8; N]) {
        self.extend_from_slice(&bytes[..len]);
    }
}

impl Deref for Wire {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_appended_and_not_cut_off() {
        let mut wire = Wire::default();
        for round in 0..3 {
            wire.clear();
            let mut expected: Vec<u8> = Vec::new();
            for number in 0..4000u32 {
                let bytes = number.wrapping_mul(2_654_435_761).to_be_bytes();
                wire.push(round);
                wire.first_of(number as usize % 5, &bytes);
                wire.extend_from_slice(&bytes[..number as usize % 4]);
                expected.push(round);
                expected.extend_from_slice(&bytes[..number as usize % 5]);
                expected.extend_from_slice(&bytes[..number as usize % 4]);
            }
            assert_eq!(*wire, *expected);
            wire.truncate(17);
            assert_eq!(*wire, expected[..17]);
        }
    }

    #[test]
    fn a_large_row_leaves_no_room_behind() {
        let mut wire = Wire::default();
        wire.extend_from_slice(&vec![7; 2 * KEPT_BYTES_MAX]);
        wire.clear();
        assert_eq!((wire.len(), wire.room.len()), (0, 0));
    }
}
