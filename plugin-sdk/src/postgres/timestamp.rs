use super::FromText;
use super::date::{Date, days_of, days_of_common_era, scan_era, scan_ymd, write_ymd};
use super::scan::Scan;
use super::time::{MICROS_PER_DAY, MICROS_PER_SECOND, Time, scan_offset};
use rowmill_abi::{eight_digits, short_decimal, three_pairs};
use std::fmt;

/// Days from 1970-01-01 to 2000-01-01, from which Postgres counts.
const DAYS_TO_2000: i64 = 10_957;
/// Microseconds from 1970 to 2000.
const MICROS_TO_2000: i64 = DAYS_TO_2000 * MICROS_PER_DAY;

/// What both kinds of timestamps have.
macro_rules! timestamp {
    ($type:ident, $example:literal, $suffix:literal) => {
        impl $type {
            /// Later than every other.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::", stringify!($type), ";")]
            #[doc = concat!("assert_eq!(", stringify!($type), "::INFINITY.to_string(), \"infinity\");")]
            /// ```
            pub const INFINITY: Self = Self(i64::MAX);
            /// Earlier than every other.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::", stringify!($type), ";")]
            #[doc = concat!("assert_eq!(", stringify!($type), "::NEG_INFINITY.to_string(), \"-infinity\");")]
            /// ```
            pub const NEG_INFINITY: Self = Self(i64::MIN);

            /// So many microseconds after 2000-01-01 00:00, which is what Postgres counts; the extremes are the
            /// infinities.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::", stringify!($type), ";")]
            #[doc = concat!(
                "assert_eq!(", stringify!($type), "::from_micros_since_2000(0).to_string(), \"2000-01-01 00:00:00",
                $suffix, "\");"
            )]
            /// ```
            pub const fn from_micros_since_2000(micros: i64) -> Self {
                Self(micros)
            }

            /// So many microseconds after 1970-01-01 00:00; `None` beyond what Postgres holds.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::", stringify!($type), ";")]
            #[doc = concat!(
                "assert_eq!(", stringify!($type), "::from_unix_micros(0).unwrap().to_string(), \"1970-01-01 00:00:00",
                $suffix, "\");"
            )]
            /// ```
            pub fn from_unix_micros(micros: i64) -> Option<Self> {
                micros.checked_sub(MICROS_TO_2000).map(Self).filter(|made| made.is_finite())
            }

            /// Whether it is neither of the infinities.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::", stringify!($type), ";")]
            #[doc = concat!("assert!(!", stringify!($type), "::INFINITY.is_finite());")]
            /// ```
            pub const fn is_finite(self) -> bool {
                self.0 != i64::MAX && self.0 != i64::MIN
            }

            /// Microseconds since 2000-01-01 00:00; the infinities are the extremes.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::{FromText, ", stringify!($type), "};")]
            #[doc = concat!("let made = ", stringify!($type), "::from_text(\"", $example, "\").unwrap();")]
            /// assert_eq!(made.micros_since_2000(), 1_500_000);
            /// ```
            pub const fn micros_since_2000(self) -> i64 {
                self.0
            }

            /// Microseconds since 1970-01-01 00:00; `None` where it is infinite or later than the year 294246, which
            /// these don't reach.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::{FromText, ", stringify!($type), "};")]
            #[doc = concat!("let made = ", stringify!($type), "::from_text(\"", $example, "\").unwrap();")]
            /// assert_eq!(made.unix_micros(), Some(946_684_801_500_000));
            /// ```
            pub fn unix_micros(self) -> Option<i64> {
                self.0.checked_add(MICROS_TO_2000).filter(|_| self.is_finite())
            }

            /// The date that it is on; an infinite one where it is infinite.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::{FromText, ", stringify!($type), "};")]
            #[doc = concat!("let made = ", stringify!($type), "::from_text(\"", $example, "\").unwrap();")]
            /// assert_eq!(made.date().to_string(), "2000-01-01");
            /// ```
            pub fn date(self) -> Date {
                match self {
                    Self::INFINITY => Date::INFINITY,
                    Self::NEG_INFINITY => Date::NEG_INFINITY,
                    Self(micros) => Date::from_days((micros.div_euclid(MICROS_PER_DAY) + DAYS_TO_2000) as i32),
                }
            }

            /// The time of day; `None` where it is infinite.
            ///
            /// ```
            #[doc = concat!("# use rowmill_plugin::postgres::{FromText, ", stringify!($type), "};")]
            #[doc = concat!("let made = ", stringify!($type), "::from_text(\"", $example, "\").unwrap();")]
            /// assert_eq!(made.time().unwrap().micros(), 1_500_000);
            /// ```
            pub fn time(self) -> Option<Time> {
                if self.is_finite() {
                    Time::from_micros(self.0.rem_euclid(MICROS_PER_DAY))
                } else {
                    None
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Some(time) = self.time() else {
                    return f.write_str(if self.0 > 0 { "infinity" } else { "-infinity" });
                };
                let is_bc = write_ymd(f, self.0.div_euclid(MICROS_PER_DAY) + DAYS_TO_2000)?;
                write!(f, " {time}{}{}", $suffix, if is_bc { " BC" } else { "" })
            }
        }
    };
}

/// A timestamp without time zone: microseconds since 2000, or infinite. From 4713 BC to 294276.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Timestamp};
///
/// let ides = Timestamp::from_text("0044-03-15 11:30:00 BC").unwrap();
/// assert_eq!(ides.date().year_month_day(), Some((-43, 3, 15)));
/// assert!(ides < Timestamp::INFINITY);
/// assert_eq!(ides.to_string(), "0044-03-15 11:30:00 BC");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A point in time: microseconds since 2000 UTC, or infinite. Written as UTC.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, TimestampTz};
///
/// let noon = TimestampTz::from_text("2024-02-29 12:00:00+02").unwrap();
/// assert_eq!(noon.to_string(), "2024-02-29 10:00:00+00");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampTz(i64);

timestamp!(Timestamp, "2000-01-01 00:00:01.5", "");
timestamp!(TimestampTz, "2000-01-01 00:00:01.5+00", "+00");

/// Microseconds since 2000, less the offset where there is one to be read.
fn scan(text: &str, with_offset: bool) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let mut scan = Scan::new(text);
    let (year, month, day) = scan_ymd(&mut scan)?;
    let time = scan.eat(b' ').then(|| Time::scan(&mut scan)).flatten()?;
    let offset = if with_offset { scan_offset(&mut scan)? } else { 0 };
    let days = days_of(scan_era(&mut scan, year)?, month, day)? - DAYS_TO_2000;
    // The extremes are the infinities, which a date of any year is not.
    micros_of(days, time.micros(), offset).filter(|micros| !matches!(*micros, i64::MIN | i64::MAX))
}

/// Days since 2000, microseconds of the day and the offset in seconds, put together.
fn micros_of(days: i64, time: i64, offset: i64) -> Option<i64> {
    // A checked multiplication is a call in a Wasm module.
    const DAYS_MAX: i64 = i64::MAX / MICROS_PER_DAY;
    if !(-DAYS_MAX..=DAYS_MAX).contains(&days) {
        return None;
    }
    (days * MICROS_PER_DAY)
        .checked_add(time)?
        .checked_sub(offset * MICROS_PER_SECOND)
}

/// The same for what nearly all are: a year of four digits, and an offset of no minutes from UTC where there is one.
#[inline]
fn scan_short(text: &[u8], with_offset: bool) -> Option<i64> {
    const UTC: &[u8] = b"+00";
    let (head, rest) = text.split_first_chunk::<19>()?;
    let [tens, ones] = [head[0], head[1]].map(|digit| u32::from(digit.wrapping_sub(b'0')));
    if tens > 9 || ones > 9 {
        return None;
    }
    let century = 10 * tens + ones;
    let [year, month, day] = three_pairs(*head[2..].first_chunk()?, b'-')?;
    let [hour, minute, second] = three_pairs(*head[11..].first_chunk()?, b':')?;
    if head[10] != b' ' || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = if with_offset { rest.strip_suffix(UTC)? } else { rest };
    let micros = match (fraction, text.first_chunk::<26>()) {
        ([], _) => 0,
        // All six, as nine in ten have them: with what stands before the point they are eight bytes.
        ([b'.', _, _, _, _, _, _], Some(until_there)) => {
            let word = u64::from_le_bytes(*until_there.last_chunk()?);
            eight_digits(word & !0xffff | u64::from(u16::from_le_bytes(*b"00")))?
        }
        ([b'.', digits @ ..], _) => {
            const POWERS: [u32; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
            POWERS.get(digits.len())? * short_decimal(digits, false)?.digits
        }
        _ => return None,
    };
    let days = days_of_common_era(100 * century + year, month, day)?;
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    // Of at most four digits a year, so that nothing overflows.
    Some((i64::from(days) - DAYS_TO_2000) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + i64::from(micros))
}

impl FromText<'_> for Timestamp {
    const WANTED: &'static str = "a timestamp";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes()).or_else(|| scan(text, false).map(Self))
    }

    /// `None` says nothing.
    #[inline]
    fn from_bytes(text: &[u8]) -> Option<Self> {
        scan_short(text, false).map(Self)
    }
}

impl FromText<'_> for TimestampTz {
    const WANTED: &'static str = "a timestamp with time zone";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes()).or_else(|| scan(text, true).map(Self))
    }

    /// `None` says nothing.
    #[inline]
    fn from_bytes(text: &[u8]) -> Option<Self> {
        scan_short(text, true).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each length of a fraction, with any byte at any place.
    #[test]
    fn what_is_read_quickly_is_what_is_read_otherwise() {
        for with_offset in [false, true] {
            let suffix = if with_offset { "+00" } else { "" };
            for digits in 0..=7 {
                let fraction: String = ".9307651".chars().take(1 + digits).collect();
                let fraction = if digits == 0 { "" } else { &fraction };
                let good = format!("2024-02-29 23:59:07{fraction}{suffix}");
                assert_eq!(scan_short(good.as_bytes(), with_offset).is_some(), digits < 7, "{good}");
                for at in 0..good.len() {
                    for byte in 0..128 {
                        let mut bytes = good.clone().into_bytes();
                        bytes[at] = byte;
                        let text = String::from_utf8(bytes).unwrap();
                        let quick = scan_short(text.as_bytes(), with_offset);
                        let expected = scan(&text, with_offset);
                        assert!(
                            quick.is_none() || quick == expected,
                            "{text:?}: {quick:?}, not {expected:?}"
                        );
                        // An offset of minutes, and years before the first, are for the other.
                        let is_digit = byte.is_ascii_digit() && good.as_bytes()[at].is_ascii_digit();
                        if is_digit && at < good.len() - suffix.len() && digits < 7 {
                            assert_eq!(quick, expected, "{text:?}");
                        }
                    }
                }
            }
        }
    }
}
