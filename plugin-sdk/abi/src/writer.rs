//! MessagePack appended to a buffer that is kept and used again.

use alloc::vec::Vec;

/// Appends values in their shortest forms.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl core::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// An array header whose length is filled in once it is known.
#[derive(Debug)]
#[must_use = "an open array has no length yet"]
pub struct OpenArray {
    at: usize,
}

impl Writer {
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything behind `len`.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Takes out the bytes of a range; those behind it move up.
    pub fn remove(&mut self, range: core::ops::Range<usize>) {
        self.bytes.drain(range);
    }

    #[inline]
    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    #[inline]
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            _ => self.long_uint(value),
        }
    }

    #[inline(never)]
    fn long_uint(&mut self, value: u64) {
        match value {
            0..=0xff => self.headed(0xcc, &[value as u8]),
            0x100..=0xffff => self.headed(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.headed(0xce, &(value as u32).to_be_bytes()),
            _ => self.headed(0xcf, &value.to_be_bytes()),
        }
    }

    pub fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value as u64),
            -32..=-1 => self.bytes.push(value as u8),
            -0x80..=-33 => self.headed(0xd0, &[value as u8]),
            -0x8000..=-0x81 => self.headed(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.headed(0xd2, &(value as i32).to_be_bytes()),
            _ => self.headed(0xd3, &value.to_be_bytes()),
        }
    }

    pub fn f32(&mut self, value: f32) {
        self.headed(0xca, &value.to_be_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.headed(0xcb, &value.to_be_bytes());
    }

    // Never inlined, since it would be in a dozen places.
    #[inline(never)]
    fn headed(&mut self, marker: u8, bytes: &[u8]) {
        self.bytes.push(marker);
        self.bytes.extend_from_slice(bytes);
    }

    pub fn str(&mut self, text: &str) {
        match text.len() {
            len @ 0..=0x1f => self.bytes.push(0xa0 | len as u8),
            len => self.length(0xd9, len),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A text that is formatted in place; cut at 65,535 bytes.
    pub fn display(&mut self, value: &impl core::fmt::Display) {
        self.bytes.extend_from_slice(&[0xda, 0, 0]);
        let start = self.bytes.len();
        // Appending to a vector doesn't fail.
        let _ = core::fmt::write(self, format_args!("{value}"));
        let len = (self.bytes.len() - start).min(usize::from(u16::MAX));
        self.bytes.truncate(start + len);
        if let Some(place) = self.bytes.get_mut(start - 2..start) {
            place.copy_from_slice(&(len as u16).to_be_bytes());
        }
    }

    pub fn bin(&mut self, bytes: &[u8]) {
        self.length(0xc4, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// An extension value without content.
    pub fn empty_ext(&mut self, kind: i8) {
        self.bytes.extend_from_slice(&[0xc7, 0, kind as u8]);
    }

    /// A length of 1, 2 or 4 bytes behind the first, second or third of three markers.
    fn length(&mut self, first_marker: u8, len: usize) {
        match len {
            0..=0xff => self.headed(first_marker, &[len as u8]),
            0x100..=0xffff => self.headed(first_marker + 1, &(len as u16).to_be_bytes()),
            _ => self.headed(first_marker + 2, &(len as u32).to_be_bytes()),
        }
    }

    pub fn array(&mut self, len: usize) {
        match len {
            0..=0x0f => self.bytes.push(0x90 | len as u8),
            0x10..=0xffff => self.headed(0xdc, &(len as u16).to_be_bytes()),
            _ => self.headed(0xdd, &(len as u32).to_be_bytes()),
        }
    }

    pub fn map(&mut self, pairs: usize) {
        match pairs {
            0..=0x0f => self.bytes.push(0x80 | pairs as u8),
            0x10..=0xffff => self.headed(0xde, &(pairs as u16).to_be_bytes()),
            _ => self.headed(0xdf, &(pairs as u32).to_be_bytes()),
        }
    }

    /// Bytes that are MessagePack already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An array of a length that isn't known yet.
    pub fn open_array(&mut self) -> OpenArray {
        let at = self.bytes.len();
        self.headed(0xdd, &[0; 4]);
        OpenArray { at }
    }

    pub fn close_array(&mut self, array: OpenArray, len: u32) {
        let start = array.at + 1;
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}
