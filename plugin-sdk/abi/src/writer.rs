//! MessagePack appended to a buffer that is kept and used again.

use alloc::vec::Vec;

/// Appends values in their shortest forms.
///
/// ```
/// use rowmill_abi::{Reader, Writer};
///
/// let mut writer = Writer::new();
/// let array = writer.open_array();
/// for word in ["a", "b"] {
///     writer.str(word);
/// }
/// writer.close_array(array, 2);
/// writer.display(&1.5);
///
/// let mut reader = Reader::new(writer.as_slice());
/// assert_eq!(reader.array(), Ok(2));
/// assert_eq!((reader.str(), reader.str()), (Ok("a"), Ok("b")));
/// assert_eq!(reader.str(), Ok("1.5"));
/// ```
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
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, to be kept.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
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

    /// Nothing.
    #[inline]
    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    /// `true` or `false`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    /// An integer that is not negative.
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
            0..=0xff => self.number(0xcc, value, 1),
            0x100..=0xffff => self.number(0xcd, value, 2),
            0x1_0000..=0xffff_ffff => self.number(0xce, value, 4),
            _ => self.number(0xcf, value, 8),
        }
    }

    /// An integer.
    #[inline(never)]
    pub fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value as u64),
            -32..=-1 => self.bytes.push(value as u8),
            -0x80..=-33 => self.number(0xd0, value as u64, 1),
            -0x8000..=-0x81 => self.number(0xd1, value as u64, 2),
            -0x8000_0000..=-0x8001 => self.number(0xd2, value as u64, 4),
            _ => self.number(0xd3, value as u64, 8),
        }
    }

    /// A float of 32 bits.
    pub fn f32(&mut self, value: f32) {
        self.number(0xca, u64::from(value.to_bits()), 4);
    }

    /// A float of 64 bits.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.number(0xcb, value.to_bits(), 8);
    }

    /// A marker and the last `len` bytes of a number, 1 to 8. Never inlined, since it would be in a dozen places.
    #[inline(never)]
    fn number(&mut self, marker: u8, value: u64, len: u32) {
        self.bytes.push(marker);
        // A copy of a fixed size is an instruction; what is too much is taken back.
        let end = self.bytes.len() + len as usize;
        self.bytes.extend_from_slice(&(value << (64 - 8 * len)).to_be_bytes());
        self.bytes.truncate(end);
    }

    /// A text.
    #[inline(never)]
    pub fn str(&mut self, text: &str) {
        match text.len() {
            len @ 0..=0x1f => self.bytes.push(0xa0 | len as u8),
            len => self.length(0xd9, len),
        }
        self.raw(text.as_bytes());
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

    /// Bytes.
    pub fn bin(&mut self, bytes: &[u8]) {
        self.length(0xc4, bytes.len());
        self.raw(bytes);
    }

    /// An extension value without content.
    pub fn empty_ext(&mut self, kind: i8) {
        self.bytes.extend_from_slice(&[0xc7, 0, kind as u8]);
    }

    /// A length of 1, 2 or 4 bytes behind the first, second or third of three markers.
    fn length(&mut self, first_marker: u8, len: usize) {
        match len {
            0..=0xff => self.number(first_marker, len as u64, 1),
            0x100..=0xffff => self.number(first_marker + 1, len as u64, 2),
            _ => self.number(first_marker + 2, len as u64, 4),
        }
    }

    /// The header of an array of so many elements, which are written next.
    pub fn array(&mut self, len: usize) {
        match len {
            0..=0x0f => self.bytes.push(0x90 | len as u8),
            0x10..=0xffff => self.number(0xdc, len as u64, 2),
            _ => self.number(0xdd, len as u64, 4),
        }
    }

    /// The header of a map of so many pairs: a key and its value each, which are written next.
    pub fn map(&mut self, pairs: usize) {
        match pairs {
            0..=0x0f => self.bytes.push(0x80 | pairs as u8),
            0x10..=0xffff => self.number(0xde, pairs as u64, 2),
            _ => self.number(0xdf, pairs as u64, 4),
        }
    }

    /// Bytes that are MessagePack already.
    // Short ones are copied by pieces of a fixed size: to a Wasm module a copy of any length is a call out of it.
    #[inline(never)]
    pub fn raw(&mut self, bytes: &[u8]) {
        const EIGHT: usize = 8;
        if bytes.len() > 8 * EIGHT {
            return self.bytes.extend_from_slice(bytes);
        }
        let mut rest = bytes;
        while let Some((eight, behind)) = rest.split_first_chunk::<EIGHT>() {
            self.bytes.extend_from_slice(eight);
            rest = behind;
        }
        // The end of it once more as a whole piece, over what was written of it: no loop over single bytes.
        let end = self.bytes.len() + rest.len();
        match (rest, bytes.last_chunk::<EIGHT>()) {
            ([], _) => {}
            (_, Some(last)) => self.last_piece(end, last),
            ([one], _) => self.bytes.push(*one),
            ([first, second], _) => self.bytes.extend_from_slice(&[*first, *second]),
            ([first, second, third], _) => self.bytes.extend_from_slice(&[*first, *second, *third]),
            _ => {
                if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
                    self.bytes.extend_from_slice(first);
                    self.last_piece(end, last);
                }
            }
        }
    }

    /// Appends a piece that ends at `end`, over what is there of it.
    #[inline]
    fn last_piece<const N: usize>(&mut self, end: usize, piece: &[u8; N]) {
        self.bytes.truncate(end - N);
        self.bytes.extend_from_slice(piece);
    }

    /// Bytes of a length that is known while compiling.
    #[inline]
    pub fn fixed<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Overwrites a byte.
    #[inline]
    pub fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.bytes.get_mut(at) {
            *place = byte;
        }
    }

    /// Puts bytes in front of the one at `at`.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.bytes.splice(at..at, bytes.iter().copied());
    }

    /// The header of an array the length of which [`Self::set_long_array`] tells.
    pub fn long_array(&mut self) {
        self.number(0xdd, 0, 4);
    }

    /// Sets the length of the array with the header at `at`.
    pub fn set_long_array(&mut self, at: usize, len: u32) {
        if let Some(place) = self.bytes.get_mut(at + 1..at + 5) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }

    /// An array of a length that isn't known yet.
    pub fn open_array(&mut self) -> OpenArray {
        let at = self.bytes.len();
        self.long_array();
        OpenArray { at }
    }

    /// Fills in how many elements were written since.
    pub fn close_array(&mut self, array: OpenArray, len: u32) {
        self.set_long_array(array.at, len);
    }
}
