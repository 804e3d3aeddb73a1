//! One value of a tuple, as 8 bytes that say where it lies.

/// A value as it travels: never parsed before somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// TOAST that the change left alone; the server did not send it. Never NULL.
    Unchanged,
    /// Not part of this image (a column outside the key, in an old image that holds the key only). Never NULL.
    Absent,
    /// In Postgres' text form.
    Text(&'a [u8]),
    /// In Postgres' binary form.
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Where a value lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    start: u32,
    /// The kind in the two upper bits, the length (or which of the valueless kinds) in the others.
    tagged_len: u32,
}

const KIND_SHIFT: u32 = 30;
const LEN_MASK: u32 = (1 << KIND_SHIFT) - 1;
/// No bit of a length is changed by it.
const TEXT: u32 = 0;
const BINARY: u32 = 1;
const ARENA: u32 = 2;
const VALUELESS: u32 = 3;

impl Cell {
    pub const NULL: Self = Self::valueless(0);
    pub const UNCHANGED: Self = Self::valueless(1);
    pub const ABSENT: Self = Self::valueless(2);

    /// A field of Postgres is shorter than 1 GiB, so a longer one is not from Postgres.
    pub const MAX_LEN: usize = LEN_MASK as usize;

    const fn valueless(which: u32) -> Self {
        Self {
            start: 0,
            tagged_len: (VALUELESS << KIND_SHIFT) | which,
        }
    }

    /// Text at `start` of the received bytes. The caller has checked `len` against [`Self::MAX_LEN`].
    pub const fn text(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            tagged_len: (TEXT << KIND_SHIFT) | (len as u32 & LEN_MASK),
        }
    }

    /// Binary at `start` of the received bytes.
    pub const fn binary(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            tagged_len: (BINARY << KIND_SHIFT) | (len as u32 & LEN_MASK),
        }
    }

    /// Text at `start` of the arena.
    pub const fn arena(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            tagged_len: (ARENA << KIND_SHIFT) | (len as u32 & LEN_MASK),
        }
    }

    /// The same value where the received bytes and the arena lie behind so many others.
    pub(super) const fn moved(self, bytes: u32, arena: u32) -> Self {
        let by = match self.tagged_len >> KIND_SHIFT {
            TEXT | BINARY => bytes,
            ARENA => arena,
            _ => 0,
        };
        Self {
            start: self.start.wrapping_add(by),
            ..self
        }
    }

    /// Where a text lies in the received bytes.
    #[inline]
    pub(super) fn received(self) -> Option<std::ops::Range<usize>> {
        let start = self.start as usize;
        (self.tagged_len >> KIND_SHIFT == TEXT).then(|| start..start + (self.tagged_len & LEN_MASK) as usize)
    }

    /// Where a value in binary form lies in the received bytes.
    #[inline]
    pub(crate) fn binary_range(self) -> Option<std::ops::Range<usize>> {
        let start = self.start as usize;
        (self.tagged_len >> KIND_SHIFT == BINARY).then(|| start..start + (self.tagged_len & LEN_MASK) as usize)
    }

    /// The same value where what lies in the arena from `arena` on lies so much behind.
    pub(crate) fn moved_behind(self, arena: usize, by: u32) -> Self {
        let moves = self.tagged_len >> KIND_SHIFT == ARENA && self.start as usize >= arena;
        if moves { self.moved(0, by) } else { self }
    }

    /// A text of less than 32 bytes with what lies behind it: its length, and 32 bytes that begin with it. `None` for
    /// other values, and at the end of the bytes.
    #[inline]
    pub(crate) fn short_text<'a>(self, bytes: &'a [u8], arena: &'a [u8]) -> Option<(usize, &'a [u8; 32])> {
        const SHORT: u32 = 32;
        // Kind and length in one comparison each.
        let (len, source) = match (self.tagged_len, self.tagged_len ^ (ARENA << KIND_SHIFT)) {
            (len @ ..SHORT, _) => (len, bytes),
            (_, len @ ..SHORT) => (len, arena),
            _ => return None,
        };
        // One comparison, as the end can't overflow.
        let start = self.start as usize;
        Some((len as usize, source.get(start..start + SHORT as usize)?.first_chunk()?))
    }

    #[inline]
    pub(super) fn resolve<'a>(self, bytes: &'a [u8], arena: &'a [u8]) -> Value<'a> {
        let len = (self.tagged_len & LEN_MASK) as usize;
        let start = self.start as usize;
        match self.tagged_len >> KIND_SHIFT {
            TEXT => bytes.get(start..start + len).map_or(Value::Absent, Value::Text),
            BINARY => bytes.get(start..start + len).map_or(Value::Absent, Value::Binary),
            ARENA => arena.get(start..start + len).map_or(Value::Absent, Value::Text),
            _ => match len {
                0 => Value::Null,
                1 => Value::Unchanged,
                _ => Value::Absent,
            },
        }
    }
}
