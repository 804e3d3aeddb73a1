use super::FromText;
use super::scan::Scan;
use std::fmt;

/// A date: days since 1970-01-01, or infinite. From 4713 BC to 5874897, as Postgres has it, in the Gregorian calendar.
///
/// ```
/// use rowmill_plugin::postgres::{Date, FromText};
///
/// let ides = Date::from_text("0044-03-15 BC").unwrap();
/// assert_eq!(ides.year_month_day(), Some((-43, 3, 15)));
/// assert!(ides < Date::from_ymd(2024, 2, 29).unwrap());
/// assert_eq!(Date::from_text("infinity"), Some(Date::INFINITY));
/// assert_eq!(Date::from_text("2023-02-29"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

impl Date {
    /// Later than every other date.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert!(Date::INFINITY > Date::from_ymd(5874897, 12, 31).unwrap());
    /// ```
    pub const INFINITY: Self = Self(i32::MAX);
    /// Earlier than every other date.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert!(Date::NEG_INFINITY < Date::from_ymd(-4712, 1, 1).unwrap());
    /// ```
    pub const NEG_INFINITY: Self = Self(i32::MIN);

    /// The date so many days after 1970-01-01.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert_eq!(Date::from_days(-1).to_string(), "1969-12-31");
    /// ```
    pub const fn from_days(days_since_1970: i32) -> Self {
        Self(days_since_1970)
    }

    /// Of a year (0 is 1 BC, -1 is 2 BC), month and day; `None` where there is no such date.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert_eq!(Date::from_ymd(2024, 2, 29).unwrap().days_since_1970(), Some(19_782));
    /// assert_eq!(Date::from_ymd(2024, 13, 1), None);
    /// ```
    pub fn from_ymd(year: i32, month: u8, day: u8) -> Option<Self> {
        let days = days_of(year.into(), month.into(), day.into())?;
        Some(Self(i32::try_from(days).ok()?)).filter(|date| date.is_finite())
    }

    /// Whether it is neither of the infinities.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert!(!Date::INFINITY.is_finite());
    /// ```
    pub const fn is_finite(self) -> bool {
        self.0 != i32::MAX && self.0 != i32::MIN
    }

    /// Days since 1970-01-01, negative before; `None` where it is infinite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert_eq!(Date::from_ymd(1970, 1, 2).unwrap().days_since_1970(), Some(1));
    /// ```
    pub const fn days_since_1970(self) -> Option<i32> {
        if self.is_finite() { Some(self.0) } else { None }
    }

    /// Year (0 is 1 BC), month and day; `None` where it is infinite.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Date;
    /// assert_eq!(Date::from_days(0).year_month_day(), Some((1970, 1, 1)));
    /// ```
    pub fn year_month_day(self) -> Option<(i32, u8, u8)> {
        let (year, month, day) = civil_of(self.days_since_1970()?.into());
        Some((year as i32, month as u8, day as u8))
    }
}

/// Days before 0000-03-01 in the proleptic calendar, from which 400 years are 146,097 days.
const DAYS_TO_1970: i64 = 719_468;
const DAYS_OF_400_YEARS: i64 = 146_097;

/// Days since 1970-01-01 of a date that is checked to exist.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    // Eras of 400 years, in which the calendar repeats. A year of an era is a small number, which is quicker.
    let (mut eras, mut of_era) = (year.div_euclid(400), year.rem_euclid(400) as i32);
    let leap = of_era % 4 == 0 && (of_era % 100 != 0 || of_era == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // A year that begins in March ends with the leap day.
    if month <= 2 {
        of_era -= 1;
        if of_era < 0 {
            (eras, of_era) = (eras - 1, 399);
        }
    }
    let of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    let in_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(eras * DAYS_OF_400_YEARS + i64::from(in_era) - DAYS_TO_1970)
}

/// As [`days_of`], for years 1 to 9999, in which nothing is negative before the end: nearly all that there are.
#[inline]
pub(super) fn days_of_common_era(year: u32, month: u32, day: u32) -> Option<i32> {
    /// Days of a year that isn't a leap year before each month, and then all of them.
    const BEFORE: [u16; 14] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    const DAYS_TO_1970_FROM_1: i32 = 719_162;
    let [before, until] = *BEFORE.get(month as usize..)?.first_chunk::<2>()?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = u32::from(until - before) + u32::from(is_leap && month == 2);
    if !(1..=9_999).contains(&year) || month == 0 || day == 0 || day > last {
        return None;
    }
    let whole = year - 1;
    let days = 365 * whole + whole / 4 - whole / 100 + whole / 400;
    let days = days + u32::from(before) + u32::from(is_leap && month > 2) + day - 1;
    Some(days as i32 - DAYS_TO_1970_FROM_1)
}

/// Year, month and day of days since 1970-01-01.
pub(super) fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let in_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let of_year = in_era - (365 * of_era + of_era / 4 - of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let year = days.div_euclid(DAYS_OF_400_YEARS) * 400 + of_era + i64::from(month <= 2);
    (year, month, day)
}

/// `2024-01-31`, without what may follow: the year as it is written, month and day.
pub(super) fn scan_ymd(scan: &mut Scan<'_>) -> Option<(i64, i64, i64)> {
    let year = scan.number()?;
    let rest = |scan: &mut Scan<'_>| scan.eat(b'-').then(|| scan.two(100)).flatten();
    // Larger than Postgres' own limit, small enough for no overflow.
    (1..10_000_000).contains(&year).then_some(())?;
    Some((year, rest(scan)?, rest(scan)?))
}

/// The end of a date or timestamp: the year that counts, given the one that is written.
pub(super) fn scan_era(scan: &mut Scan<'_>, year: i64) -> Option<i64> {
    let year = if scan.eat_all(b" BC") { 1 - year } else { year };
    scan.is_at_end().then_some(year)
}

impl FromText<'_> for Date {
    const WANTED: &'static str = "a date";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "infinity" => return Some(Self::INFINITY),
            "-infinity" => return Some(Self::NEG_INFINITY),
            _ => {}
        }
        let mut scan = Scan::new(text);
        let (year, month, day) = scan_ymd(&mut scan)?;
        let days = days_of(scan_era(&mut scan, year)?, month, day)?;
        Some(Self(i32::try_from(days).ok()?)).filter(|date| date.is_finite())
    }
}

/// Writes year, month and day; tells whether ` BC` must follow in the end.
pub(super) fn write_ymd(f: &mut fmt::Formatter<'_>, days: i64) -> Result<bool, fmt::Error> {
    let (year, month, day) = civil_of(days);
    let is_bc = year <= 0;
    let year = if is_bc { 1 - year } else { year };
    write!(f, "{year:04}-{month:02}-{day:02}")?;
    Ok(is_bc)
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INFINITY => f.write_str("infinity"),
            Self::NEG_INFINITY => f.write_str("-infinity"),
            Self(days) => match write_ymd(f, days.into())? {
                true => f.write_str(" BC"),
                false => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day of the years 1 to 9999, and what is none.
    #[test]
    fn both_ways_to_count_days_agree() {
        for year in 0..=10_000 {
            for month in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99] {
                for day in [0, 1, 27, 28, 29, 30, 31, 32, 99] {
                    let expected = days_of(year.into(), month.into(), day.into());
                    let expected = expected.filter(|_| (1..=9_999).contains(&year)).map(|days| days as i32);
                    assert_eq!(days_of_common_era(year, month, day), expected, "{year}-{month}-{day}");
                }
            }
        }
    }
}
