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
    /// All of it is initialised, the first `len` bytes are meant: so an append is one check and a store of a fixed size,
    /// of which less may be meant. In a Wasm module a copy of any other size is a call out of it.
    room: Vec<u8>,
    len: usize,
}

/// Bytes that another value is appended behind, as one with it.
const BEHIND: usize = 7;

/// The least room that is made, so that a first reply doesn't grow in many steps.
const ROOM_BYTES_MIN: usize = 512;

impl core::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.any(text.as_bytes());
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
        Self {
            room: Vec::new(),
            len: 0,
        }
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// What was written.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    /// What was written, to be kept.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.room.truncate(self.len);
        self.room
    }

    /// How many bytes were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets everything behind `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes out the bytes of a range; those behind it move up.
    pub fn remove(&mut self, range: core::ops::Range<usize>) {
        let (end, removed) = (range.end.min(self.len), range.len());
        if range.start < end {
            self.room.copy_within(end..self.len, range.start);
            self.len -= removed.min(end - range.start);
        }
    }

    /// Nothing.
    #[inline]
    pub fn nil(&mut self) {
        self.push(0xc0);
    }

    /// `true` or `false`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.push(if value { 0xc3 } else { 0xc2 });
    }

    /// An integer that is not negative.
    #[inline]
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.push(value as u8),
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
            -32..=-1 => self.push(value as u8),
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
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.fixed(&[0xcb, a, b, c, d, e, f, g, h]);
    }

    /// A marker and the last `len` bytes of a number, 1 to 8. Never inlined, since it would be in a dozen places.
    #[inline(never)]
    fn number(&mut self, marker: u8, value: u64, len: u32) {
        let [a, b, c, d, e, f, g, h] = (value << (64 - 8 * len)).to_be_bytes();
        self.first_of(1 + len as usize, &[marker, a, b, c, d, e, f, g, h]);
    }

    /// A text.
    #[inline(never)]
    pub fn str(&mut self, text: &str) {
        match text.len() {
            len @ 0..=0x1f => self.push(0xa0 | len as u8),
            len => self.length(0xd9, len),
        }
        self.raw(text.as_bytes());
    }

    /// A text that is mostly of a few bytes: worth its place only where there is one such for each row.
    #[inline]
    pub fn short_str(&mut self, text: &str) {
        match left_aligned(text.as_bytes()) {
            Some([a, b, c, d, e, f, g, h]) => {
                let marker = 0xa0 | text.len() as u8;
                self.first_of(1 + text.len(), &[marker, a, b, c, d, e, f, g, h]);
            }
            None => self.str(text),
        }
    }

    /// The first seven bytes of `head` and a text that is mostly of a few bytes: as one append where it is.
    #[inline]
    pub fn short_str_behind(&mut self, head: u64, text: &str) {
        match left_aligned(text.as_bytes()) {
            Some(eight) => self.two_words(head, 0xa0 | text.len() as u8, eight, text.len()),
            None => {
                self.first_of(BEHIND, &head.to_le_bytes());
                self.str(text);
            }
        }
    }

    /// The first seven bytes of `head` and a float of 64 bits, as one append.
    #[inline]
    pub fn f64_behind(&mut self, head: u64, value: f64) {
        self.two_words(head, 0xcb, value.to_be_bytes(), 8);
    }

    /// The first seven bytes of `head`, a marker and the first `len` of eight bytes.
    #[inline]
    fn two_words(&mut self, head: u64, marker: u8, eight: [u8; 8], len: usize) {
        const MARKER_AT: u32 = 8 * BEHIND as u32;
        let head = head & ((1 << MARKER_AT) - 1) | u64::from(marker) << MARKER_AT;
        let word = u128::from(head) | u128::from(u64::from_le_bytes(eight)) << 64;
        self.first_of(BEHIND + 1 + len, &word.to_le_bytes());
    }

    /// A text that is formatted in place.
    pub fn display(&mut self, value: &impl core::fmt::Display) {
        self.fixed(&[0xda, 0, 0]);
        let start = self.len;
        // Appending doesn't fail.
        let _ = core::fmt::write(self, format_args!("{value}"));
        let len = self.len - start;
        if let Ok(len) = u16::try_from(len) {
            if let Some(place) = self.room.get_mut(start - 2..start) {
                place.copy_from_slice(&len.to_be_bytes());
            }
            return;
        }
        // Longer than the header tells: it gets the next larger one.
        self.insert(start, &[0; 2]);
        self.set(start - 3, 0xdb);
        if let Some(place) = self.room.get_mut(start - 2..start + 2) {
            place.copy_from_slice(&(len as u32).to_be_bytes());
        }
    }

    /// Bytes.
    #[inline(never)]
    pub fn bin(&mut self, bytes: &[u8]) {
        self.length(0xc4, bytes.len());
        self.raw(bytes);
    }

    /// An extension value without content.
    pub fn empty_ext(&mut self, kind: i8) {
        self.fixed(&[0xc7, 0, kind as u8]);
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
    #[inline(never)]
    pub fn array(&mut self, len: usize) {
        match len {
            0..=0x0f => self.push(0x90 | len as u8),
            0x10..=0xffff => self.number(0xdc, len as u64, 2),
            _ => self.number(0xdd, len as u64, 4),
        }
    }

    /// The header of a map of so many pairs: a key and its value each, which are written next.
    pub fn map(&mut self, pairs: usize) {
        match pairs {
            0..=0x0f => self.push(0x80 | pairs as u8),
            0x10..=0xffff => self.number(0xde, pairs as u64, 2),
            _ => self.number(0xdf, pairs as u64, 4),
        }
    }

    /// Bytes that are MessagePack already.
    #[inline(never)]
    pub fn raw(&mut self, bytes: &[u8]) {
        const EIGHT: usize = 8;
        const PIECES_MAX: usize = 8;
        if bytes.len() > PIECES_MAX * EIGHT {
            return self.any(bytes);
        }
        if let Some(few) = left_aligned(bytes) {
            return self.first_of(bytes.len(), &few);
        }
        let mut rest = bytes;
        while let Some((eight, behind)) = rest.split_first_chunk::<EIGHT>() {
            self.first_of(EIGHT, eight);
            rest = behind;
        }
        // The end of it once more as a whole piece, over what was written of it: no loop over single bytes.
        if let (Some(last), false) = (bytes.last_chunk::<EIGHT>(), rest.is_empty()) {
            self.len -= EIGHT - rest.len();
            self.first_of(EIGHT, last);
        }
    }

    #[inline(never)]
    fn any(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.room.len() < end {
            self.grow(bytes.len());
        }
        if let Some(place) = self.room.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.first_of(1, &[byte]);
    }

    /// Bytes of a length that is known while compiling.
    #[inline]
    pub fn fixed<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.first_of(N, bytes);
    }

    /// Appends the first `len` of these: a store of a fixed size, whatever `len` is.
    #[inline]
    pub fn first_of<const N: usize>(&mut self, len: usize, bytes: &[u8; N]) {
        loop {
            if let Some(place) = self.room.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
                *place = *bytes;
                self.len += len.min(N);
                return;
            }
            self.grow(N);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, by: usize) {
        let wanted = (self.len + by).max(2 * self.room.len()).max(ROOM_BYTES_MIN);
        self.room.resize(wanted, 0);
    }

    /// Overwrites a byte.
    #[inline]
    pub fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.room.get_mut(..self.len).and_then(|written| written.get_mut(at)) {
            *place = byte;
        }
    }

    /// Puts bytes in front of the one at `at`.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        let (at, behind) = (at.min(self.len), self.len);
        self.any(bytes);
        self.room.copy_within(at..behind, at + bytes.len());
        if let Some(place) = self.room.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The header of an array the length of which [`Self::set_long_array`] tells.
    pub fn long_array(&mut self) {
        self.number(0xdd, 0, 4);
    }

    /// Sets the length of the array with the header at `at`.
    pub fn set_long_array(&mut self, at: usize, len: u32) {
        if let Some(place) = self.room.get_mut(at + 1..at + 5) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }

    /// An array of a length that isn't known yet.
    pub fn open_array(&mut self) -> OpenArray {
        let at = self.len;
        self.long_array();
        OpenArray { at }
    }

    /// Fills in how many elements were written since.
    pub fn close_array(&mut self, array: OpenArray, len: u32) {
        self.set_long_array(array.at, len);
    }
}

/// Up to eight bytes with zeros behind them; `None` where there are more.
#[inline]
fn left_aligned(bytes: &[u8]) -> Option<[u8; 8]> {
    let at = |byte: u8, at: usize| u64::from(byte) << (8 * at);
    let word = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) if bytes.len() <= 8 => {
            // They overlap where there are less than eight.
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4))
        }
        _ => match *bytes {
            [] => 0,
            [a] => at(a, 0),
            [a, b] => at(a, 0) | at(b, 1),
            [a, b, c] => at(a, 0) | at(b, 1) | at(c, 2),
            _ => return None,
        },
    };
    Some(word.to_le_bytes())
}
