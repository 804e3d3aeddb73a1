//! Dates and times in ISO style, in UTC, intervals in style `postgres`: datetime.c.

use super::fields::Fields;
use super::number::{int, padded};
use super::{Bad, Types};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// Days from 0000-03-01, where a cycle of 400 years begins, to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;
const DAYS_OF_400_YEARS: i64 = 146_097;

pub(super) fn date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            let year = year_month_day(i64::from(days), out);
            era(year, out);
        }
    }
}

/// Microseconds since 2000-01-01; `zone` is written behind the time.
pub(super) fn timestamp(micros: i64, zone: &[u8], out: &mut Vec<u8>) {
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let year = year_month_day(micros.div_euclid(DAY_US), out);
            out.push(b' ');
            clock(micros.rem_euclid(DAY_US).unsigned_abs(), out);
            out.extend_from_slice(zone);
            era(year, out);
        }
    }
}

/// 24:00:00 is one.
pub(super) fn time(micros: i64, out: &mut Vec<u8>) -> Result<(), Bad> {
    if !(0..=DAY_US).contains(&micros) {
        return Err(Bad::Malformed);
    }
    clock(micros.unsigned_abs(), out);
    Ok(())
}

/// `west` is how many seconds its zone lies behind UTC.
pub(super) fn time_tz(micros: i64, west: i32, out: &mut Vec<u8>) -> Result<(), Bad> {
    time(micros, out)?;
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = u64::from(west.unsigned_abs());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    padded(hours, 2, out);
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        padded(minutes, 2, out);
    }
    if seconds != 0 {
        out.push(b':');
        padded(seconds, 2, out);
    }
    Ok(())
}

/// The year without its era, month and day of a number of days since 2000-01-01; returns the year, 0 being 1 BC.
fn year_month_day(days: i64, out: &mut Vec<u8>) -> i64 {
    let days = days + DAYS_TO_2000;
    let cycle = days.div_euclid(DAYS_OF_400_YEARS);
    let day = days.rem_euclid(DAYS_OF_400_YEARS);
    // Years begin in March here, so that the day that is left out or not is the last of one.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = cycle * 400 + year + i64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let shown = if year > 0 { year } else { 1 - year };
    padded(shown.unsigned_abs(), 4, out);
    out.push(b'-');
    padded(month.unsigned_abs(), 2, out);
    out.push(b'-');
    padded(day.unsigned_abs(), 2, out);
    year
}

fn era(year: i64, out: &mut Vec<u8>) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn clock(micros: u64, out: &mut Vec<u8>) {
    padded(micros / HOUR_US.unsigned_abs(), 2, out);
    minutes_and_seconds(micros % HOUR_US.unsigned_abs(), out);
}

/// Of a part of an hour, with a colon in front of each.
fn minutes_and_seconds(micros: u64, out: &mut Vec<u8>) {
    out.push(b':');
    padded(micros / 60_000_000, 2, out);
    out.push(b':');
    padded(micros / 1_000_000 % 60, 2, out);
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        out.push(b'.');
        padded(fraction, 6, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// The infinities came with version 17; before, they are intervals as any.
pub(super) fn interval(types: &Types, from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let (micros, days, months) = (from.i64()?, from.i32()?, from.i32()?);
    if types.is_from(170_000) {
        let infinite: &[u8] = match (micros, days, months) {
            (i64::MAX, i32::MAX, i32::MAX) => b"infinity",
            (i64::MIN, i32::MIN, i32::MIN) => b"-infinity",
            _ => b"",
        };
        if !infinite.is_empty() {
            out.extend_from_slice(infinite);
            return Ok(());
        }
    }
    let start = out.len();
    let mut was_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if was_negative && value > 0 {
            out.push(b'+');
        }
        int(value, out);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        was_negative = value < 0;
    }
    if out.len() > start && micros == 0 {
        return Ok(());
    }
    if out.len() > start {
        out.push(b' ');
    }
    if micros < 0 {
        out.push(b'-');
    } else if was_negative {
        out.push(b'+');
    }
    clock(micros.unsigned_abs(), out);
    Ok(())
}
