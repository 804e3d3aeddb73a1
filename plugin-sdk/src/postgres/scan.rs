//! A cursor over ASCII text; every step can fail and none panics.

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a>(pub &'a [u8]);

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self(text.as_bytes())
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Passes over this byte, where it comes next.
    pub fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Passes over these bytes, where they come next.
    pub fn eat_all(&mut self, bytes: &[u8]) -> bool {
        match self.0.strip_prefix(bytes) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// One digit or more, at most 18.
    // A checked multiplication of 64 bits is a call in a Wasm module; so many digits can't overflow.
    pub fn number(&mut self) -> Option<i64> {
        const DIGITS_MAX: usize = 18;
        let (mut value, mut rest) = (0i64, self.0);
        while let Some((digit @ b'0'..=b'9', left)) = rest.split_first() {
            if self.0.len() - rest.len() == DIGITS_MAX {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            rest = left;
        }
        if rest.len() == self.0.len() {
            return None;
        }
        self.0 = rest;
        Some(value)
    }

    /// Two digits, below `limit`.
    pub fn two(&mut self, limit: i64) -> Option<i64> {
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = self.0 else {
            return None;
        };
        let value = i64::from((tens - b'0') * 10 + (ones - b'0'));
        self.0 = rest;
        (value < limit).then_some(value)
    }

    /// A point with up to six digits, in millionths; 0 where there is none.
    pub fn micros(&mut self) -> Option<i64> {
        if !self.eat(b'.') {
            return Some(0);
        }
        const POWERS: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
        let before = self.0.len();
        let value = self.number()?;
        let digits = before - self.0.len();
        POWERS.get(digits).map(|power| value * power)
    }
}

/// A fraction of a second as Postgres writes it: nothing, or a point and no trailing zeros.
pub(super) fn write_micros(f: &mut std::fmt::Formatter<'_>, micros: u64) -> std::fmt::Result {
    if micros == 0 {
        return Ok(());
    }
    let (mut value, mut width) = (micros, 6);
    while value % 10 == 0 {
        value /= 10;
        width -= 1;
    }
    write!(f, ".{value:0width$}")
}
