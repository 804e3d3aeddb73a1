//! Reading MessagePack that a guest wrote. Every byte of it is hostile.
//!
//! Nothing is allocated here, lengths are checked against the bytes that are there, nesting is bounded.

use rowmill_abi::{REPLY_DEPTH_MAX, action};
use std::fmt;

/// Bytes that are not the MessagePack that the ABI asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadReply {
    /// Offset in the reply.
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the reply", self.what, self.at)
    }
}

/// A value that isn't an array or a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Huge(u64),
    F32(f32),
    F64(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// An action that patches one column with a short text, whatever row it is for: what masks say of row after row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownPatch {
    word: u128,
    /// Those bytes that count.
    mask: u128,
    len: usize,
}

impl KnownPatch {
    /// Where the row stands.
    const ROW: u128 = 0xffff_0000;
    /// No action.
    pub const NONE: Self = Self {
        word: 1,
        mask: 0,
        len: 0,
    };
}

type Read<T> = Result<T, BadReply>;

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn bad<T>(&self, what: &'static str) -> Read<T> {
        Err(BadReply { at: self.at, what })
    }

    #[inline]
    fn byte(&mut self) -> Read<u8> {
        let Some(byte) = self.bytes.get(self.at) else {
            return self.bad("it ends too early");
        };
        self.at += 1;
        Ok(*byte)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..len) else {
            return self.bad("it ends too early");
        };
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn big_endian<const N: usize>(&mut self) -> Read<[u8; N]> {
        let taken = self.take(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(taken);
        Ok(bytes)
    }

    fn unsigned(&mut self, width: usize) -> Read<u64> {
        Ok(match width {
            1 => u64::from(self.byte()?),
            2 => u64::from(u16::from_be_bytes(self.big_endian()?)),
            4 => u64::from(u32::from_be_bytes(self.big_endian()?)),
            _ => u64::from_be_bytes(self.big_endian()?),
        })
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Where it stands.
    pub fn position(&self) -> usize {
        self.at
    }

    /// To where it stood.
    pub fn go_to(&mut self, position: usize) {
        self.at = position;
    }

    /// An action that patches one column, the number of which is below 128, up to the value: row, column. The row is written
    /// as a number of 16 bits. `None` says nothing, and leaves the cursor where it is.
    #[inline(always)]
    pub fn patch_of_one(&mut self) -> Option<(u32, usize)> {
        const SHAPE: u64 = u64::from_le_bytes([0x93, 0xcd, 0, 0, action::PATCH, 0x92, 0, 0]);
        const FIXED: u64 = u64::from_le_bytes([0xff, 0xff, 0, 0, 0xff, 0xff, 0x80, 0]);
        let word = u64::from_le_bytes(*self.bytes.get(self.at..)?.first_chunk()?);
        if word & FIXED != SHAPE {
            return None;
        }
        self.at += 7;
        Some((
            u32::from((word >> 16) as u16).swap_bytes() >> 16,
            (word >> 48) as u8 as usize,
        ))
    }

    /// The row of an action that is `known` but for that. `None` says nothing, and leaves the cursor where it is.
    #[inline(always)]
    pub fn known_patch(&mut self, known: &KnownPatch) -> Option<u32> {
        let word = u128::from_le_bytes(*self.bytes.get(self.at..)?.first_chunk()?);
        if word & known.mask != known.word {
            return None;
        }
        self.at += known.len;
        Some(u32::from((word >> 16) as u16).swap_bytes() >> 16)
    }

    /// The action that began at `begins` and was read by [`Self::patch_of_one`] and then [`Self::short_text`], for
    /// [`Self::known_patch`]: where it is of at most 16 bytes.
    #[inline]
    pub fn as_known(&self, begins: usize) -> Option<KnownPatch> {
        let len = self.at.checked_sub(begins).filter(|len| *len <= 16)?;
        let word = u128::from_le_bytes(*self.bytes.get(begins..)?.first_chunk()?);
        let mask = u128::MAX >> (128 - 8 * len.max(1)) & !KnownPatch::ROW;
        Some(KnownPatch {
            word: word & mask,
            mask,
            len,
        })
    }

    /// The beginning of an action, where it has 2 to 4 elements and its row is below 65,536: elements, row. `None` says
    /// nothing, and leaves the cursor where it is.
    #[inline]
    pub fn short_action(&mut self) -> Option<(usize, u32)> {
        let [elements @ 0x92..=0x94, a, b, c] = *self.bytes.get(self.at..)?.first_chunk()? else {
            return None;
        };
        let (row, taken) = match a {
            0..=0x7f => (u32::from(a), 2),
            0xcc => (u32::from(b), 3),
            0xcd => (u32::from(u16::from_be_bytes([b, c])), 4),
            _ => return None,
        };
        self.at += taken;
        Some((usize::from(elements & 0x0f), row))
    }

    /// A text of less than 32 bytes, all of them ASCII and none of them NUL: its length, and 32 bytes that begin with it.
    /// `None` says nothing, and leaves the cursor where it is.
    #[inline(always)]
    pub fn short_text(&mut self) -> Option<(usize, &'a [u8; 32])> {
        let (marker, behind) = self.bytes.get(self.at..)?.split_first()?;
        let (0xa0..=0xbf, text) = (*marker, behind.first_chunk::<32>()?) else {
            return None;
        };
        let len = usize::from(marker & 0x1f);
        if !is_plain(text, len) {
            return None;
        }
        self.at += 1 + len;
        Some((len, text))
    }

    /// A float of 64 bits. `None` says nothing, and leaves the cursor where it is.
    #[inline]
    pub fn short_f64(&mut self) -> Option<f64> {
        let (0xcb, behind) = self.bytes.get(self.at..)?.split_first()? else {
            return None;
        };
        let value = f64::from_be_bytes(*behind.first_chunk()?);
        self.at += 9;
        Some(value)
    }

    /// The rest of an action that patches less than eight columns, up to the first of them: how many there are. `None`
    /// says nothing, and leaves the cursor where it is.
    #[inline]
    pub fn short_patch(&mut self) -> Option<usize> {
        match *self.bytes.get(self.at..)?.first_chunk()? {
            [action::PATCH, elements @ 0x90..=0x9f] if elements % 2 == 0 => {
                self.at += 2;
                Some(usize::from(elements & 0x0f) / 2)
            }
            _ => None,
        }
    }

    /// A number below 128. `None` says nothing, and leaves the cursor where it is.
    #[inline]
    pub fn small(&mut self) -> Option<usize> {
        let number = *self.bytes.get(self.at).filter(|byte| **byte < 0x80)?;
        self.at += 1;
        Some(usize::from(number))
    }

    /// Nothing may follow.
    pub fn finish(&self) -> Read<()> {
        if self.at_end() {
            Ok(())
        } else {
            self.bad("something follows its end")
        }
    }

    /// The length of the array that begins here. Each element takes a byte at least, so that a length beyond the
    /// bytes that are left is a lie.
    #[inline]
    pub fn array(&mut self) -> Read<usize> {
        let start = self.at;
        let len = match self.byte()? {
            marker @ 0x90..=0x9f => u64::from(marker & 0x0f),
            0xdc => self.unsigned(2)?,
            0xdd => self.unsigned(4)?,
            _ => {
                return Err(BadReply {
                    at: start,
                    what: "an array was expected",
                });
            }
        };
        self.bounded(len, start)
    }

    /// The number of pairs of the map that begins here.
    pub fn map(&mut self) -> Read<usize> {
        let start = self.at;
        let len = match self.byte()? {
            marker @ 0x80..=0x8f => u64::from(marker & 0x0f),
            0xde => self.unsigned(2)?,
            0xdf => self.unsigned(4)?,
            _ => {
                return Err(BadReply {
                    at: start,
                    what: "a map was expected",
                });
            }
        };
        self.bounded(len, start)
    }

    fn bounded(&self, len: u64, start: usize) -> Read<usize> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => Ok(len),
            _ => Err(BadReply {
                at: start,
                what: "a length beyond the end of the reply",
            }),
        }
    }

    /// A non-negative integer up to `max`.
    #[inline]
    pub fn index(&mut self, max: usize) -> Read<usize> {
        let start = self.at;
        if let Some(marker @ 0..=0x7f) = self.bytes.get(start)
            && usize::from(*marker) <= max
        {
            self.at += 1;
            return Ok(usize::from(*marker));
        }
        match self.scalar()? {
            Scalar::Int(value) if value >= 0 && value as u64 <= max as u64 => Ok(value as usize),
            Scalar::Int(_) | Scalar::Huge(_) => Err(BadReply {
                at: start,
                what: "a number out of range",
            }),
            _ => Err(BadReply {
                at: start,
                what: "a number was expected",
            }),
        }
    }

    pub fn str(&mut self) -> Read<&'a str> {
        let start = self.at;
        match self.scalar()? {
            Scalar::Str(text) => Ok(text),
            _ => Err(BadReply {
                at: start,
                what: "a string was expected",
            }),
        }
    }

    pub fn bool(&mut self) -> Read<bool> {
        let start = self.at;
        match self.scalar()? {
            Scalar::Bool(value) => Ok(value),
            _ => Err(BadReply {
                at: start,
                what: "a boolean was expected",
            }),
        }
    }

    /// Takes a nil, where there is one.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.bytes.get(self.at) == Some(&0xc0);
        self.at += usize::from(is_nil);
        is_nil
    }

    #[inline]
    pub fn scalar(&mut self) -> Read<Scalar<'a>> {
        let start = self.at;
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => Scalar::Int(i64::from(marker)),
            0xe0..=0xff => Scalar::Int(i64::from(marker as i8)),
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => Scalar::Nil,
            0xc2 => Scalar::Bool(false),
            0xc3 => Scalar::Bool(true),
            0xc4..=0xc6 => {
                let len = self.unsigned(1 << (marker - 0xc4))? as usize;
                Scalar::Bin(self.take(len)?)
            }
            0xc7..=0xc9 => {
                let len = self.unsigned(1 << (marker - 0xc7))? as usize;
                Scalar::Ext(self.byte()? as i8, self.take(len)?)
            }
            0xca => Scalar::F32(f32::from_be_bytes(self.big_endian()?)),
            0xcb => Scalar::F64(f64::from_be_bytes(self.big_endian()?)),
            0xcc..=0xcf => {
                let value = self.unsigned(1 << (marker - 0xcc))?;
                i64::try_from(value).map_or(Scalar::Huge(value), Scalar::Int)
            }
            0xd0 => Scalar::Int(i64::from(self.byte()? as i8)),
            0xd1 => Scalar::Int(i64::from(i16::from_be_bytes(self.big_endian()?))),
            0xd2 => Scalar::Int(i64::from(i32::from_be_bytes(self.big_endian()?))),
            0xd3 => Scalar::Int(i64::from_be_bytes(self.big_endian()?)),
            0xd4..=0xd8 => Scalar::Ext(self.byte()? as i8, self.take(1 << (marker - 0xd4))?),
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (marker - 0xd9))? as usize;
                self.text(len)?
            }
            _ => {
                return Err(BadReply {
                    at: start,
                    what: "a plain value was expected",
                });
            }
        })
    }

    #[inline]
    fn text(&mut self, len: usize) -> Read<Scalar<'a>> {
        let start = self.at;
        match std::str::from_utf8(self.take(len)?) {
            Ok(text) => Ok(Scalar::Str(text)),
            Err(_) => Err(BadReply {
                at: start,
                what: "a string that isn't UTF-8",
            }),
        }
    }

    /// Passes over one value of whatever kind, nested at most [`REPLY_DEPTH_MAX`] deep.
    pub fn skip(&mut self) -> Read<()> {
        self.skip_below(REPLY_DEPTH_MAX)
    }

    fn skip_below(&mut self, depth: usize) -> Read<()> {
        let elements = match self.bytes.get(self.at) {
            Some(0x90..=0x9f | 0xdc | 0xdd) => self.array()?,
            Some(0x80..=0x8f | 0xde | 0xdf) => self.map()?.saturating_mul(2),
            _ => return self.scalar().map(|_| ()),
        };
        if depth == 0 {
            return self.bad("it nests too deep");
        }
        for _ in 0..elements {
            self.skip_below(depth - 1)?;
        }
        Ok(())
    }
}

/// Whether the first `len` bytes are ASCII and none is NUL.
#[inline]
fn is_plain(text: &[u8; 32], len: usize) -> bool {
    // `len` ones, then zeros, from a window over both.
    const WINDOW: [u8; 64] = {
        let mut window = [0; 64];
        let mut at = 0;
        while at < 32 {
            window[at] = 0xff;
            at += 1;
        }
        window
    };
    let Some(mask) = WINDOW[32 - len.min(32)..].first_chunk::<32>() else {
        return false;
    };
    // Without a branch, so that it is a few instructions over all of them. Signed, both NUL and what has a high bit are
    // below one.
    let bad = text
        .iter()
        .zip(mask)
        .fold(0, |bad, (byte, mask)| bad | if (*byte as i8) < 1 { *mask } else { 0 });
    bad == 0
}

/// What the first element of a reply says, with the rest of its elements still to be read.
pub(crate) enum Reply<'a> {
    /// Done; this many elements follow.
    Done(Cursor<'a>, usize),
    Retryable(&'a str),
    Fatal(&'a str),
}

/// Reads the beginning of a reply: `[0, ...]`, `[1, message]` or `[2, message]`.
pub(crate) fn open(bytes: &[u8]) -> Result<Reply<'_>, BadReply> {
    let mut cursor = Cursor::new(bytes);
    let len = cursor.array()?;
    if len == 0 {
        return cursor.bad("an empty array");
    }
    let status = cursor.index(usize::from(rowmill_abi::reply::FATAL))?;
    if status == usize::from(rowmill_abi::reply::DONE) {
        return Ok(Reply::Done(cursor, len - 1));
    }
    if len != 2 {
        return cursor.bad("a failure without its message");
    }
    let message = cursor.str()?;
    cursor.finish()?;
    if status == usize::from(rowmill_abi::reply::RETRYABLE) {
        Ok(Reply::Retryable(message))
    } else {
        Ok(Reply::Fatal(message))
    }
}
