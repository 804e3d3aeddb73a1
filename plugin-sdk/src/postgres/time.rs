use super::FromText;
use super::scan::{Scan, write_micros};
use std::fmt;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A time of day: microseconds since midnight, 24:00 included.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Time};
///
/// assert_eq!(Time::from_text("00:00:01.5").unwrap().micros(), 1_500_000);
/// assert_eq!(Time::from_text("24:00:00").unwrap().to_string(), "24:00:00");
/// assert_eq!(Time::from_text("24:00:01"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// So many microseconds after midnight; `None` beyond 24:00.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Time;
    /// assert_eq!(Time::from_micros(3_600_000_000).unwrap().to_string(), "01:00:00");
    /// assert_eq!(Time::from_micros(-1), None);
    /// ```
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=MICROS_PER_DAY).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since midnight.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, Time};
    /// assert_eq!(Time::from_text("00:01:00").unwrap().micros(), 60_000_000);
    /// ```
    pub const fn micros(self) -> i64 {
        self.0
    }

    pub(super) fn scan(scan: &mut Scan<'_>) -> Option<Self> {
        let hour = scan.two(25)?;
        let minute = scan.eat(b':').then(|| scan.two(60)).flatten()?;
        let second = scan.eat(b':').then(|| scan.two(60)).flatten()?;
        let micros = scan.micros()?;
        Self::from_micros((hour * 3_600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
    }
}

impl FromText<'_> for Time {
    const WANTED: &'static str = "a time";

    fn from_text(text: &str) -> Option<Self> {
        let mut scan = Scan::new(text);
        Self::scan(&mut scan).filter(|_| scan.is_at_end())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / MICROS_PER_SECOND;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}")?;
        write_micros(f, (self.0 % MICROS_PER_SECOND) as u64)
    }
}

/// A time of day with its offset from UTC.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, TimeTz};
///
/// let time = TimeTz::from_text("12:34:56.5+05:30").unwrap();
/// assert_eq!(time.offset_seconds(), 19_800);
/// assert_eq!(time.to_string(), "12:34:56.5+05:30");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeTz {
    time: Time,
    offset_seconds: i32,
}

impl TimeTz {
    /// Of a local time and its offset, east of Greenwich positive; `None` for an offset of 16 hours or more.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{Time, TimeTz};
    /// let noon = Time::from_micros(43_200_000_000).unwrap();
    /// assert_eq!(TimeTz::new(noon, -3_600).unwrap().to_string(), "12:00:00-01");
    /// ```
    pub fn new(time: Time, offset_seconds: i32) -> Option<Self> {
        (offset_seconds.unsigned_abs() < 16 * 3_600).then_some(Self { time, offset_seconds })
    }

    /// The local time.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, TimeTz};
    /// assert_eq!(TimeTz::from_text("12:00:00+02").unwrap().time().to_string(), "12:00:00");
    /// ```
    pub const fn time(self) -> Time {
        self.time
    }

    /// Seconds that the local time is ahead of UTC.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::{FromText, TimeTz};
    /// assert_eq!(TimeTz::from_text("12:00:00-02").unwrap().offset_seconds(), -7_200);
    /// ```
    pub const fn offset_seconds(self) -> i32 {
        self.offset_seconds
    }
}

/// `+02`, `-05:30` or `+00:53:28`, in seconds.
pub(super) fn scan_offset(scan: &mut Scan<'_>) -> Option<i64> {
    let negative = scan.eat(b'-');
    if !negative && !scan.eat(b'+') {
        return None;
    }
    let mut offset = scan.two(24)? * 3_600;
    if scan.eat(b':') {
        offset += scan.two(60)? * 60;
        if scan.eat(b':') {
            offset += scan.two(60)?;
        }
    }
    Some(if negative { -offset } else { offset })
}

impl FromText<'_> for TimeTz {
    const WANTED: &'static str = "a time with time zone";

    fn from_text(text: &str) -> Option<Self> {
        let mut scan = Scan::new(text);
        let time = Time::scan(&mut scan)?;
        let offset = scan_offset(&mut scan)?;
        Self::new(time, i32::try_from(offset).ok()?).filter(|_| scan.is_at_end())
    }
}

impl fmt::Display for TimeTz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.offset_seconds.abs();
        let sign = if self.offset_seconds < 0 { '-' } else { '+' };
        write!(f, "{}{sign}{:02}", self.time, size / 3_600)?;
        if size % 3_600 != 0 {
            write!(f, ":{:02}", size / 60 % 60)?;
        }
        if size % 60 != 0 {
            write!(f, ":{:02}", size % 60)?;
        }
        Ok(())
    }
}
