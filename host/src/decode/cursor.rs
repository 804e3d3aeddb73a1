//! A checked reader over a message of the server.

use super::DecodeError;
use crate::batch::Lsn;

/// Reads big-endian fields from `bytes`, from `at` to `end`. Positions stay absolute, so that a value can be
/// pointed at without being copied.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    /// Where in the WAL the message stands, for errors.
    pub(super) lsn: Lsn,
}

impl<'a> Cursor<'a> {
    /// The caller has checked that `end` lies within `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize, lsn: Lsn) -> Self {
        debug_assert!(at <= end && end <= bytes.len());
        Self { bytes, at, end, lsn }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        if len > self.end - self.at {
            return Err(DecodeError::Truncated {
                lsn: self.lsn,
                expected,
            });
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, expected)?);
        Ok(array)
    }

    #[inline]
    pub(super) fn u8(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(expected)?[0])
    }

    #[inline]
    pub(super) fn u16(&mut self, expected: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(expected)?))
    }

    #[inline]
    pub(super) fn u32(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(expected)?))
    }

    pub(super) fn u64(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(expected)?))
    }

    pub(super) fn lsn(&mut self, expected: &'static str) -> Result<Lsn, DecodeError> {
        Ok(Lsn(self.u64(expected)?))
    }

    /// A string that ends with a zero byte.
    pub(super) fn text(&mut self, expected: &'static str) -> Result<&'a str, DecodeError> {
        let rest = &self.bytes[self.at..self.end];
        let Some(len) = memchr::memchr(0, rest) else {
            return Err(DecodeError::Truncated {
                lsn: self.lsn,
                expected,
            });
        };
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| DecodeError::NotUtf8 { lsn: self.lsn })
    }
}
