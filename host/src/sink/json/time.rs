//! A commit's time in RFC 3339, in the proleptic Gregorian calendar as Postgres has it.

use std::io::Write;

const US_PER_DAY: i64 = 86_400_000_000;
/// From 0000-03-01 to 2000-01-01.
const DAYS_BEFORE_2000: i64 = 730_425;
/// A period of the calendar: 400 years.
const DAYS_PER_ERA: i64 = 146_097;

/// Appends `"2026-01-02T03:04:05.678901Z"` for the µs since 2000-01-01 UTC.
pub(super) fn push(out: &mut Vec<u8>, us: i64) {
    out.push(b'"');
    push_bare(out, us);
    out.push(b'"');
}

/// The same without quotes.
pub(super) fn push_bare(out: &mut Vec<u8>, us: i64) {
    let (year, month, day) = date(us.div_euclid(US_PER_DAY));
    let us = us.rem_euclid(US_PER_DAY);
    let seconds = us / 1_000_000;
    // Writing to a Vec can't fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        us % 1_000_000
    );
}

/// Year, month and day of a day counted from 2000-01-01. Years are counted from March here, so that the leap day
/// is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_BEFORE_2000;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let text = |us| {
            let mut out = Vec::new();
            push(&mut out, us);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "\"2000-01-01T00:00:00.000000Z\"");
        assert_eq!(text(-1), "\"1999-12-31T23:59:59.999999Z\"");
        assert_eq!(text(59 * US_PER_DAY), "\"2000-02-29T00:00:00.000000Z\"");
        assert_eq!(text(-10_957 * US_PER_DAY), "\"1970-01-01T00:00:00.000000Z\"");
        // SELECT extract(epoch from timestamptz '2026-01-02 03:04:05.678901+00') - 946684800
        assert_eq!(text(820_638_245_678_901), "\"2026-01-02T03:04:05.678901Z\"");
    }

    #[test]
    fn every_day_follows_its_predecessor() {
        let mut before = date(-400_000);
        for day in -399_999..400_000 {
            let now = date(day);
            let next = now.2 == before.2 + 1 && now.0 == before.0 && now.1 == before.1;
            let month = now.2 == 1 && before.2 >= 28;
            assert!(next || month, "{before:?} {now:?}");
            before = now;
        }
    }
}
