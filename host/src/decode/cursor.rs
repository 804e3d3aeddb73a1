//! A checked reader over a message of the server.

use super::DecodeError;
use crate::batch::{Cell, Lsn};

/// Reads big-endian fields from `bytes`, from `at` on. Positions stay absolute, so that a value can be pointed at without
/// being copied.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where in the WAL the message stands, for errors.
    pub(super) lsn: Lsn,
}

impl<'a> Cursor<'a> {
    /// A message from `at` to `end`. The caller has checked that these lie within `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize, lsn: Lsn) -> Self {
        debug_assert!(at <= end && end <= bytes.len());
        let bytes = &bytes[..end.min(bytes.len())];
        Self { bytes, at, lsn }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        match rest.get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.truncated(expected)),
        }
    }

    /// Takes the next values of a tuple as long as they are texts that are all there, one for each of these cells. Returns
    /// how many.
    #[inline]
    pub(super) fn texts(&mut self, cells: &mut [Cell]) -> usize {
        let end = self.bytes.len();
        let mut rest = self.rest();
        let mut count = 0;
        for cell in cells {
            let Some((&[kind, a, b, c, d], value)) = rest.split_first_chunk() else {
                break;
            };
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            let (b't', Some(behind)) = (kind, value.get(len..)) else {
                break;
            };
            *cell = Cell::text(end - value.len(), len);
            rest = behind;
            count += 1;
        }
        self.at = end - rest.len();
        count
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        match self.rest().first_chunk() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(self.truncated(expected)),
        }
    }

    #[cold]
    fn truncated(&self, expected: &'static str) -> DecodeError {
        let lsn = self.lsn;
        DecodeError::Truncated { lsn, expected }
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

    #[inline]
    pub(super) fn u64(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(expected)?))
    }

    #[inline]
    pub(super) fn lsn(&mut self, expected: &'static str) -> Result<Lsn, DecodeError> {
        Ok(Lsn(self.u64(expected)?))
    }

    /// A string that ends with a zero byte.
    pub(super) fn text(&mut self, expected: &'static str) -> Result<&'a str, DecodeError> {
        let rest = self.rest();
        let Some(len) = memchr::memchr(0, rest) else {
            return Err(self.truncated(expected));
        };
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| DecodeError::NotUtf8 { lsn: self.lsn })
    }
}
