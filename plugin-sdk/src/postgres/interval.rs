use super::FromText;
use super::scan::{Scan, write_micros};
use super::time::MICROS_PER_SECOND;
use std::fmt;

/// An interval, in Postgres' three parts that don't turn into each other. Compared part by part, so that 1 month is
/// not 30 days.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Interval};
///
/// let interval = Interval::from_text("1 year 2 mons -3 days +04:05:06.5").unwrap();
/// assert_eq!((interval.months, interval.days, interval.micros), (14, -3, 14_706_500_000));
/// assert_eq!(interval.to_string(), "1 year 2 mons -3 days +04:05:06.5");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Months; a year is twelve.
    pub months: i32,
    /// Days, of whatever length.
    pub days: i32,
    /// Microseconds, beyond a day's too.
    pub micros: i64,
}

impl Interval {
    /// Longer than every other (Postgres 17 and later).
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Interval;
    /// assert_eq!(Interval::INFINITY.to_string(), "infinity");
    /// ```
    pub const INFINITY: Self = Self {
        months: i32::MAX,
        days: i32::MAX,
        micros: i64::MAX,
    };
    /// Shorter than every other (Postgres 17 and later).
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Interval;
    /// assert_eq!(Interval::NEG_INFINITY.to_string(), "-infinity");
    /// ```
    pub const NEG_INFINITY: Self = Self {
        months: i32::MIN,
        days: i32::MIN,
        micros: i64::MIN,
    };

    /// Whether it is neither of the infinities.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Interval;
    /// assert!(Interval::default().is_finite());
    /// ```
    pub fn is_finite(self) -> bool {
        self != Self::INFINITY && self != Self::NEG_INFINITY
    }

    fn scan(scan: &mut Scan<'_>) -> Option<Self> {
        let mut made = Self::default();
        // Each unit once, from the longest to the shortest.
        let mut left: &[&[u8]] = &[b"year", b"mon", b"day"];
        loop {
            let negative = scan.eat(b'-');
            if !negative {
                scan.eat(b'+');
            }
            let number = scan.number()?;
            if scan.eat(b':') {
                made.micros = clock(scan, number, negative)?;
                return scan.is_at_end().then_some(made);
            }
            let number = if negative { -number } else { number };
            scan.eat(b' ').then_some(())?;
            let small = |number: i64| i32::try_from(number).ok();
            let at = left.iter().position(|unit| scan.eat_all(unit))?;
            match left.len() - at {
                3 => made.months = small(number.checked_mul(12)?)?,
                2 => made.months = made.months.checked_add(small(number)?)?,
                _ => made.days = small(number)?,
            }
            left = left.get(at + 1..)?;
            scan.eat(b's');
            if scan.is_at_end() {
                return Some(made);
            }
            scan.eat(b' ').then_some(())?;
        }
    }
}

/// What follows the hours of `04:05:06.5`. Summed up below zero where it is negative, since that reaches further.
fn clock(scan: &mut Scan<'_>, hours: i64, negative: bool) -> Option<i64> {
    let minutes = scan.two(60)?;
    let seconds = scan.eat(b':').then(|| scan.two(60)).flatten()?;
    let micros = (minutes * 60 + seconds) * MICROS_PER_SECOND + scan.micros()?;
    let sign = if negative { -1 } else { 1 };
    hours
        .checked_mul(3_600 * MICROS_PER_SECOND * sign)?
        .checked_add(micros * sign)
}

impl FromText<'_> for Interval {
    const WANTED: &'static str = "an interval";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "infinity" => Some(Self::INFINITY),
            "-infinity" => Some(Self::NEG_INFINITY),
            _ => Self::scan(&mut Scan::new(text)),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INFINITY => return f.write_str("infinity"),
            Self::NEG_INFINITY => return f.write_str("-infinity"),
            _ => {}
        }
        let (mut is_first, mut was_negative) = (true, false);
        for (value, unit) in [
            (self.months / 12, "year"),
            (self.months % 12, "mon"),
            (self.days, "day"),
        ] {
            if value == 0 {
                continue;
            }
            let space = if is_first { "" } else { " " };
            let sign = if was_negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(f, "{space}{sign}{value} {unit}{plural}")?;
            (is_first, was_negative) = (false, value < 0);
        }
        if !is_first && self.micros == 0 {
            return Ok(());
        }
        let space = if is_first { "" } else { " " };
        let sign = match self.micros < 0 {
            true => "-",
            false if was_negative => "+",
            false => "",
        };
        let size = self.micros.unsigned_abs();
        let seconds = size / MICROS_PER_SECOND as u64;
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{space}{sign}{hours:02}:{minutes:02}:{seconds:02}")?;
        write_micros(f, size % MICROS_PER_SECOND as u64)
    }
}
