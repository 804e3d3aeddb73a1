use super::{Decimal, FromText};
use rowmill_abi::{ShortDecimal, short_decimal, short_decimal_in};
use std::cmp::Ordering;
use std::fmt;

/// A numeric as Postgres writes it: as many digits as it has, NaN or infinite.
///
/// Compared by value as Postgres does: 1.0 is 1.00, and NaN equals itself and is larger than all else.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Numeric};
///
/// let price = Numeric::from_text("12.50").unwrap();
/// assert_eq!(price.scaled(2), Some(1_250));
/// assert_eq!(price, Numeric::from_text("12.5").unwrap());
/// assert!(price < Numeric::from_text("100").unwrap());
/// assert!(Numeric::from_text("NaN").unwrap() > Numeric::from_text("Infinity").unwrap());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Numeric<'a> {
    text: Text<'a>,
    kind: Kind,
    /// Its value, where it is one of few digits.
    short: Option<Short>,
}

/// A number of few digits, which nearly all are.
#[derive(Clone, Copy, Debug)]
struct Short {
    /// All digits, with the sign.
    value: i32,
    scale: u8,
}

impl Short {
    /// Without exponents, infinities and more than eight characters.
    #[inline]
    fn read(text: &[u8]) -> Option<Self> {
        let (negative, size) = match text {
            [b'-', size @ ..] => (true, size),
            size => (false, size),
        };
        Some(Self::new(negative, short_decimal(size, true)?))
    }

    #[inline]
    fn new(negative: bool, ShortDecimal { digits, scale }: ShortDecimal) -> Self {
        let value = digits as i32;
        let value = if negative { -value } else { value };
        Self { value, scale }
    }

    /// The value times ten to the power of `scale`; `None` where it may be too large, or isn't whole.
    #[inline]
    fn scaled(self, scale: u32) -> Option<i64> {
        // With up to eight digits before it, none of these is beyond 64 bits.
        const POWERS: [i64; 10] = [
            1,
            10,
            100,
            1_000,
            10_000,
            100_000,
            1_000_000,
            10_000_000,
            100_000_000,
            1_000_000_000,
        ];
        let missing = scale.checked_sub(self.scale.into())?;
        POWERS.get(missing as usize).map(|power| i64::from(self.value) * power)
    }
}

/// So many digits never overflow 64 bits. Numbers of 128 bits are slow in a Wasm module.
const SHORT_DIGITS_MAX: usize = 18;

/// As many bytes as the longest `bigint` takes, its sign included.
const BIGINT_LEN_MAX: usize = 20;

/// Borrowed from the batch, or of an integer that came as a number, at the end of the buffer.
#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Borrowed(&'a [u8]),
    Made { bytes: [u8; BIGINT_LEN_MAX], start: u8 },
}

/// In ascending order, finite ones apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NegativeInfinity,
    Finite,
    Infinity,
    Nan,
}

impl<'a> Numeric<'a> {
    /// Postgres' text of it.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert_eq!(Numeric::from_text("1.00").unwrap().as_str(), "1.00");
    /// ```
    pub fn as_str(&self) -> &str {
        let text = match &self.text {
            Text::Borrowed(text) => text,
            Text::Made { bytes, start } => bytes.get(usize::from(*start)..).unwrap_or_default(),
        };
        // Each byte of it was looked at.
        std::str::from_utf8(text).unwrap_or("0")
    }

    /// Whether it is NaN.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert!(Numeric::from_text("NaN").unwrap().is_nan());
    /// ```
    pub fn is_nan(&self) -> bool {
        self.kind == Kind::Nan
    }

    /// Whether it is neither NaN nor infinite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert!(!Numeric::from_text("-Infinity").unwrap().is_finite());
    /// ```
    #[inline]
    pub fn is_finite(&self) -> bool {
        self.kind == Kind::Finite
    }

    /// Digits behind the point; 0 where it isn't finite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert_eq!(Numeric::from_text("1.50").unwrap().scale(), 2);
    /// ```
    pub fn scale(&self) -> usize {
        self.parts().2.len()
    }

    /// The value times ten to the power of `scale`, exactly; `None` where that isn't whole, too large or not finite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// let price = Numeric::from_text("-9.90").unwrap();
    /// assert_eq!(price.scaled(2), Some(-990));
    /// assert_eq!(price.scaled(1), Some(-99));
    /// assert_eq!(price.scaled(0), None);
    /// ```
    #[inline]
    pub fn scaled(&self, scale: u32) -> Option<i128> {
        match self.short.and_then(|short| short.scaled(scale)) {
            Some(value) => Some(value.into()),
            None => Self::any_scaled(*self, scale),
        }
    }

    // By value: so a number that is short stays in registers.
    #[inline(never)]
    fn any_scaled(self, scale: u32) -> Option<i128> {
        if !self.is_finite() {
            return None;
        }
        let (negative, whole, fraction) = self.parts();
        let fraction = fraction.trim_end_matches('0');
        let missing = (scale as usize).checked_sub(fraction.len())?;
        if whole.len() + fraction.len() + missing <= SHORT_DIGITS_MAX {
            let digits = whole.bytes().chain(fraction.bytes());
            let size = digits.fold(0, |value: i64, digit| value * 10 + i64::from(digit - b'0'));
            let size = (0..missing).fold(size, |value, _| value * 10);
            return Some(i128::from(if negative { -size } else { size }));
        }
        let mut value: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = i128::from(digit - b'0');
            let digit = if negative { -digit } else { digit };
            value = value.checked_mul(10)?.checked_add(digit)?;
        }
        if value == 0 {
            return Some(0);
        }
        for _ in 0..missing {
            value = value.checked_mul(10)?;
        }
        Some(value)
    }

    /// The value as a number that can be calculated with; `None` where it is too large or not finite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert_eq!(Numeric::from_text("1.50").unwrap().decimal().unwrap().to_string(), "1.50");
    /// ```
    pub fn decimal(&self) -> Option<Decimal> {
        let scale = u32::try_from(self.scale()).ok()?;
        Some(Decimal::new(self.scaled(scale)?, scale))
    }

    /// The nearest float.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Numeric};
    /// assert_eq!(Numeric::from_text("0.1").unwrap().to_f64(), 0.1);
    /// ```
    pub fn to_f64(&self) -> f64 {
        // Rust reads all of Postgres' forms, which are checked already.
        self.as_str().parse().unwrap_or(f64::NAN)
    }

    /// Whether it has a minus, the whole digits without leading zeros, and those behind the point.
    fn parts(&self) -> (bool, &str, &str) {
        if !self.is_finite() {
            return (self.kind == Kind::NegativeInfinity, "", "");
        }
        let (negative, size) = match self.as_str().strip_prefix('-') {
            Some(size) => (true, size),
            None => (false, self.as_str()),
        };
        let (whole, fraction) = split_at_point(size).unwrap_or((size, ""));
        (negative, whole.trim_start_matches('0'), fraction)
    }
}

/// What stands before and behind the point.
// Numbers are short: looking at each byte is quicker than a search that is made for long texts.
#[inline]
fn split_at_point(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == b'.')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

impl<'a> FromText<'a> for Numeric<'a> {
    const WANTED: &'static str = "a numeric";

    fn from_text(text: &'a str) -> Option<Self> {
        if let Some(short) = Self::from_bytes(text.as_bytes()) {
            return Some(short);
        }
        let kind = match text {
            "NaN" => Kind::Nan,
            "Infinity" => Kind::Infinity,
            "-Infinity" => Kind::NegativeInfinity,
            _ => Kind::Finite,
        };
        let size = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = split_at_point(size).unwrap_or((size, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let is_good = kind != Kind::Finite || is_number(whole) && is_number(fraction);
        is_good.then_some(Self {
            text: Text::Borrowed(text.as_bytes()),
            kind,
            short: None,
        })
    }

    /// `None` says nothing.
    #[inline]
    fn from_bytes(text: &'a [u8]) -> Option<Self> {
        Short::read(text).map(|short| Self {
            text: Text::Borrowed(text),
            kind: Kind::Finite,
            short: Some(short),
        })
    }

    /// The same.
    #[inline]
    fn from_block(text: &'a [u8; 32], len: usize) -> Option<Self> {
        let negative = text[0] == b'-';
        let begins = usize::from(negative);
        let decimal = short_decimal_in(text.get(begins..)?.first_chunk()?, len.wrapping_sub(begins))?;
        Some(Self {
            text: Text::Borrowed(text.get(..len)?),
            kind: Kind::Finite,
            short: Some(Short::new(negative, decimal)),
        })
    }

    fn from_int(value: i64) -> Option<Self> {
        let (mut bytes, mut start) = ([b'0'; BIGINT_LEN_MAX], BIGINT_LEN_MAX);
        let mut size = value.unsigned_abs();
        loop {
            start -= 1;
            bytes[start] = b'0' + (size % 10) as u8;
            size /= 10;
            if size == 0 {
                break;
            }
        }
        if value < 0 {
            start -= 1;
            bytes[start] = b'-';
        }
        let text = Text::Made {
            bytes,
            start: start as u8,
        };
        Some(Self {
            text,
            kind: Kind::Finite,
            short: None,
        })
    }
}

impl Ord for Numeric<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.kind != other.kind || !self.is_finite() {
            return self.kind.cmp(&other.kind);
        }
        fn significant<'n>(number: &'n Numeric<'_>) -> (bool, &'n str, &'n str) {
            let (negative, whole, fraction) = number.parts();
            let fraction = fraction.trim_end_matches('0');
            // Minus zero is zero, though Postgres never writes it.
            (negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction)
        }
        let (my_sign, my_whole, my_fraction) = significant(self);
        let (their_sign, their_whole, their_fraction) = significant(other);
        if my_sign != their_sign {
            return their_sign.cmp(&my_sign);
        }
        let order = my_whole
            .len()
            .cmp(&their_whole.len())
            .then_with(|| my_whole.cmp(their_whole))
            .then_with(|| my_fraction.cmp(their_fraction));
        if my_sign { order.reverse() } else { order }
    }
}

impl PartialOrd for Numeric<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric<'_> {}

impl fmt::Display for Numeric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever lies behind the text.
    #[test]
    fn a_number_is_read_the_same_with_others_behind_it() {
        let texts = [
            "",
            "-",
            "0",
            "-0",
            "7",
            "-7",
            "12",
            "123",
            "1234",
            "12.50",
            "-9.90",
            "1234567",
            "12345678",
            "-12345678",
            "123456789",
            ".",
            "1.",
            ".5",
            "-.5",
            "1..2",
            "1.2.3",
            "1e5",
            "NaN",
            "0.000001",
            "0.0000001",
            "--1",
            "1-",
        ];
        for text in texts {
            for behind in *b"9-.0\0" {
                let mut block = [behind; 32];
                block[..text.len()].copy_from_slice(text.as_bytes());
                let told = |number: Option<Numeric<'_>>| number.map(|number| (number.to_string(), number.scaled(6)));
                let (found, expected) = (
                    Numeric::from_block(&block, text.len()),
                    Numeric::from_bytes(text.as_bytes()),
                );
                assert_eq!(told(found), told(expected), "{text}");
            }
        }
    }
}
