//! A cursor over MessagePack that checks every length and allocates nothing.

use core::fmt;

/// Bytes that are not the MessagePack that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset in the bytes.
    pub at: usize,
    /// What would have been right there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} expected at byte {}", self.expected, self.at)
    }
}

impl core::error::Error for Malformed {}

/// One plain value, or the header of an array or map whose elements follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Nothing; a NULL, where it is a value of a row.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer, in whatever width it was written.
    Int(i64),
    /// Above `i64::MAX`.
    Huge(u64),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// Not yet checked to be UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
    /// An extension: its type and its content.
    Ext(i8, &'a [u8]),
    /// The number of elements.
    Array(usize),
    /// The number of pairs.
    Map(usize),
}

/// How many bytes a plain value takes, by its marker; 0 where that can't be told by it, and for extensions.
static PLAIN_LEN: [u8; 256] = {
    let mut lens = [0; 256];
    let mut marker = 0;
    while marker < lens.len() {
        lens[marker] = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xa0..=0xbf => 1 + (marker as u8 & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            _ => 0,
        };
        marker += 1;
    }
    lens
};

/// Where the plain value that begins at `at` ends, for kinds of which the first two bytes tell it: all but long texts,
/// binaries and extensions. The end may lie beyond the bytes.
#[inline]
pub fn plain_end(bytes: &[u8], at: usize) -> Option<usize> {
    let marker = *bytes.get(at)?;
    // The most frequent ones by comparison, which is foreseen; a table has to be waited for.
    let len = match marker {
        0xa0..=0xbf => 1 + usize::from(marker & 0x1f),
        0x00..=0x7f | 0xe0..=0xff => 1,
        0xd9 => 2 + usize::from(*bytes.get(at + 1)?),
        _ => match PLAIN_LEN[usize::from(marker)] {
            0 => return None,
            len => usize::from(len),
        },
    };
    Some(at + len)
}

/// The text that begins at `at`, where it is at most 255 bytes long.
#[inline]
pub fn short_str(bytes: &[u8], at: usize) -> Option<&[u8]> {
    match bytes.get(at..)?.split_first()? {
        (marker @ 0xa0..=0xbf, behind) => behind.get(..usize::from(marker & 0x1f)),
        (0xd9, behind) => {
            let (len, behind) = behind.split_first()?;
            behind.get(..usize::from(*len))
        }
        _ => None,
    }
}

/// The text that begins at `at`, where it is less than 32 bytes long and not among the last bytes: 32 bytes that begin with
/// it, and how many of them are it.
#[inline]
pub fn short_block(bytes: &[u8], at: usize) -> Option<(&[u8; 32], usize)> {
    match bytes.get(at..)?.first_chunk::<33>()? {
        [marker @ 0xa0..=0xbf, block @ ..] => Some((block, usize::from(marker & 0x1f))),
        _ => None,
    }
}

/// The integer that begins at `at`, where it isn't among the last bytes and not above `i64::MAX`.
#[inline]
pub fn short_int(bytes: &[u8], at: usize) -> Option<i64> {
    let (marker, behind) = bytes.get(at..)?.split_first()?;
    match marker {
        0x00..=0x7f | 0xe0..=0xff => Some(i64::from(*marker as i8)),
        // 1, 2, 4 or 8 bytes, of which the marker's last bits are the logarithm.
        0xcc..=0xd3 => {
            let eight = i64::from_be_bytes(*behind.first_chunk()?);
            let unused = 64 - (8 << (marker & 3));
            if *marker >= 0xd0 {
                return Some(eight >> unused);
            }
            i64::try_from(eight as u64 >> unused).ok()
        }
        _ => None,
    }
}

/// The 64-bit float that begins at `at`.
#[inline]
pub fn short_f64(bytes: &[u8], at: usize) -> Option<f64> {
    match bytes.get(at..)?.split_first()? {
        (0xcb, behind) => Some(f64::from_be_bytes(*behind.first_chunk()?)),
        _ => None,
    }
}

/// Reads values one after the other. A failed read leaves the position undefined: give up then.
///
/// ```
/// use rowmill_abi::{Reader, Token, Writer};
///
/// let mut writer = Writer::new();
/// writer.array(3);
/// writer.str("ada");
/// writer.uint(7);
/// writer.nil();
///
/// let mut reader = Reader::new(writer.as_slice());
/// assert_eq!(reader.array(), Ok(3));
/// assert_eq!(reader.str(), Ok("ada"));
/// assert_eq!(reader.uint(), Ok(7));
/// assert_eq!(reader.token(), Ok(Token::Nil));
/// assert!(reader.is_at_end() && reader.bool().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Begins at an offset that [`Reader::position`] has told.
    pub const fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The offset of the value that is read next.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    pub const fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.expected("more bytes")),
        }
    }

    #[inline]
    fn big_endian<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// An unsigned number of 1, 2, 4 or 8 bytes, chosen by the logarithm of its width.
    fn unsigned(&mut self, width_log2: u8) -> Result<u64, Malformed> {
        Ok(match width_log2 {
            0 => u64::from(u8::from_be_bytes(self.big_endian()?)),
            1 => u64::from(u16::from_be_bytes(self.big_endian()?)),
            2 => u64::from(u32::from_be_bytes(self.big_endian()?)),
            _ => u64::from_be_bytes(self.big_endian()?),
        })
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.at, expected }
    }

    #[cold]
    fn expected_at(at: usize, expected: &'static str) -> Malformed {
        Malformed { at, expected }
    }

    /// The next value. Elements of arrays and maps are read by further calls.
    // Once in a module, since it is large; what is read for each row goes by `plain_end` and `short_str`.
    #[inline(never)]
    pub fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let [marker] = self.big_endian()?;
        Ok(match marker {
            0x00..=0x7f => Token::Int(i64::from(marker)),
            0x80..=0x8f => Token::Map(usize::from(marker & 0x0f)),
            0x90..=0x9f => Token::Array(usize::from(marker & 0x0f)),
            0xa0..=0xbf => Token::Str(self.take(usize::from(marker & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(Self::expected_at(start, "a value")),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let len = self.unsigned(marker - 0xc4)? as usize;
                Token::Bin(self.take(len)?)
            }
            0xc7..=0xc9 => {
                let len = self.unsigned(marker - 0xc7)? as usize;
                let kind = i8::from_be_bytes(self.big_endian()?);
                Token::Ext(kind, self.take(len)?)
            }
            0xca => Token::F32(f32::from_be_bytes(self.big_endian()?)),
            0xcb => Token::F64(f64::from_be_bytes(self.big_endian()?)),
            0xcc..=0xcf => {
                let value = self.unsigned(marker - 0xcc)?;
                i64::try_from(value).map_or(Token::Huge(value), Token::Int)
            }
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.big_endian()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.big_endian()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.big_endian()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.big_endian()?)),
            0xd4..=0xd8 => {
                let kind = i8::from_be_bytes(self.big_endian()?);
                Token::Ext(kind, self.take(1 << (marker - 0xd4))?)
            }
            0xd9..=0xdb => {
                let len = self.unsigned(marker - 0xd9)? as usize;
                Token::Str(self.take(len)?)
            }
            0xdc | 0xdd => Token::Array(self.unsigned(marker - 0xdb)? as usize),
            0xde | 0xdf => Token::Map(self.unsigned(marker - 0xdd)? as usize),
            0xe0..=0xff => Token::Int(i64::from(marker as i8)),
        })
    }

    /// Passes over one plain value of a row. Tells the type of an extension. Elements of arrays and maps aren't passed
    /// over.
    pub fn skip_plain(&mut self) -> Result<Option<i8>, Malformed> {
        match self.token()? {
            Token::Ext(kind, _) => Ok(Some(kind)),
            _ => Ok(None),
        }
    }

    /// Passes over one value, however deep it nests: no recursion.
    #[inline(never)]
    pub fn skip(&mut self) -> Result<(), Malformed> {
        let mut pending = 1usize;
        while pending > 0 {
            pending -= 1;
            match self.token()? {
                Token::Array(len) => pending = pending.saturating_add(len),
                Token::Map(pairs) => pending = pending.saturating_add(pairs.saturating_mul(2)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of the next value.
    pub fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.skip()?;
        Ok(&self.bytes[start..self.at])
    }

    /// The number of elements of an array, each of which takes a byte at least: a length beyond the bytes is refused.
    #[inline(never)]
    pub fn array(&mut self) -> Result<usize, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Array(len) if len <= self.bytes.len() - self.at => Ok(len),
            _ => Err(Self::expected_at(start, "an array")),
        }
    }

    /// The number of pairs of a map.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Map(pairs) if pairs <= (self.bytes.len() - self.at) / 2 => Ok(pairs),
            _ => Err(Self::expected_at(start, "a map")),
        }
    }

    /// Passes over a nil; anything else stays where it is.
    #[inline]
    pub fn take_nil(&mut self) -> bool {
        let is_nil = self.bytes.get(self.at) == Some(&0xc0);
        self.at += usize::from(is_nil);
        is_nil
    }

    /// An integer that fits.
    #[inline(never)]
    pub fn int(&mut self) -> Result<i64, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Int(value) => Ok(value),
            _ => Err(Self::expected_at(start, "an integer")),
        }
    }

    /// An integer that is not negative.
    #[inline(never)]
    pub fn uint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Int(value) if value >= 0 => Ok(value as u64),
            Token::Huge(value) => Ok(value),
            _ => Err(Self::expected_at(start, "a non-negative integer")),
        }
    }

    /// An integer that is not negative and fits into 32 bits.
    #[inline(never)]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let start = self.at;
        u32::try_from(self.uint()?).map_err(|_| Self::expected_at(start, "an integer of 32 bits"))
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Bool(value) => Ok(value),
            _ => Err(Self::expected_at(start, "a boolean")),
        }
    }

    /// Bytes, borrowed from those that are read.
    pub fn bin(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Bin(bytes) => Ok(bytes),
            _ => Err(Self::expected_at(start, "bytes")),
        }
    }

    /// A text, borrowed from the bytes.
    #[inline(never)]
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        match self.token()? {
            Token::Str(text) => core::str::from_utf8(text).map_err(|_| Self::expected_at(start, "UTF-8")),
            _ => Err(Self::expected_at(start, "a string")),
        }
    }
}
