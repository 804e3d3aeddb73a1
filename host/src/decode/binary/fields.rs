//! A checked reader over the binary form of one value.

use super::Bad;

/// Big-endian fields, in order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Bad::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    #[inline]
    pub(super) fn end(&self) -> Result<(), Bad> {
        match self.rest {
            [] => Ok(()),
            _ => Err(Bad::Malformed),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Bad::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(super) fn i16(&mut self) -> Result<i16, Bad> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Bad> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn i32(&mut self) -> Result<i32, Bad> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn i64(&mut self) -> Result<i64, Bad> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn f64(&mut self) -> Result<f64, Bad> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// A number of things that follow.
    pub(super) fn count(&mut self) -> Result<usize, Bad> {
        usize::try_from(self.i32()?).map_err(|_| Bad::Malformed)
    }

    /// A value behind its length; `None` is NULL.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, Bad> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| Bad::Malformed)?).map(Some),
        }
    }

    /// A string that ends with a zero byte.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Bad> {
        let len = memchr::memchr(0, self.rest).ok_or(Bad::Malformed)?;
        let text = self.take(len)?;
        self.take(1)?;
        Ok(text)
    }
}
