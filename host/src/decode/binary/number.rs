//! Numbers, and what is written as numbers: int.c, numeric.c, cash.c, varbit.c, char.c, pg_lsn.c, tid.c, xid8funcs.c.

use super::fields::Fields;
use super::{Bad, Types};

pub(super) fn int(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `value` with zeros in front to `width` digits.
pub(super) fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    zeros(width.saturating_sub(digits.len()), out);
    out.extend_from_slice(digits);
}

pub(super) fn zeros(count: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + count, b'0');
}

/// From version 16 on a byte beyond ASCII is written as an escape.
pub(super) fn char(types: &Types, byte: u8, out: &mut Vec<u8>) {
    match byte {
        0 => {}
        byte if byte.is_ascii() || !types.is_from(160_000) => out.push(byte),
        byte => {
            out.push(b'\\');
            out.extend([6, 3, 0].map(|shift| b'0' + (byte >> shift & 7)));
        }
    }
}

/// Base-10,000 digits, the weight of the first, a sign, and how many decimals are shown.
pub(super) fn numeric(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.u16()?;
    let weight = i32::from(from.i16()?);
    let sign = from.u16()?;
    let scale = usize::from(from.u16()?);
    let digits = from.take(usize::from(count) * 2)?;
    match sign {
        0x0000 => {}
        0x4000 => out.push(b'-'),
        0xC000 => return special(b"NaN", digits, out),
        0xD000 => return special(b"Infinity", digits, out),
        0xF000 => return special(b"-Infinity", digits, out),
        _ => return Err(Bad::Malformed),
    }
    let (digits, _) = digits.as_chunks::<2>();
    let digit = |at: i32| {
        let digit = usize::try_from(at).ok().and_then(|at| digits.get(at));
        digit.map_or(0, |digit| u64::from(u16::from_be_bytes(*digit)))
    };
    if digits.iter().any(|digit| u16::from_be_bytes(*digit) > 9999) {
        return Err(Bad::Malformed);
    }
    if weight < 0 {
        out.push(b'0');
    } else {
        // Without zeros in front, though the server's own have none there.
        int(digit(0), out);
        (1..=weight).for_each(|at| padded(digit(at), 4, out));
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut at = weight + 1;
        while out.len() < end {
            padded(digit(at), 4, out);
            at += 1;
        }
        out.truncate(end);
    }
    Ok(())
}

fn special(text: &[u8], digits: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
    out.extend_from_slice(text);
    match digits {
        [] => Ok(()),
        _ => Err(Bad::Malformed),
    }
}

/// As `lc_monetary = 'C'` has it: `-$1,234.56`.
pub(super) fn money(cents: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(if cents < 0 { b"-$" } else { b"$" });
    let size = cents.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    let whole = buffer.format(size / 100).as_bytes();
    for (at, digit) in whole.iter().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(b',');
        }
        out.push(*digit);
    }
    out.push(b'.');
    padded(size % 100, 2, out);
}

pub(super) fn bits(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    let bytes = from.take(count.div_ceil(8))?;
    out.extend((0..count).map(|at| b'0' + (bytes[at / 8] >> (7 - at % 8) & 1)));
    Ok(())
}

/// Two halves in hexadecimal.
pub(super) fn lsn(value: u64, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a Vec can't fail.
    let _ = write!(out, "{:X}/{:X}", value >> 32, value & u64::from(u32::MAX));
}

pub(super) fn tid(block: u32, offset: u16, out: &mut Vec<u8>) {
    out.push(b'(');
    int(block, out);
    out.push(b',');
    int(offset, out);
    out.push(b')');
}

/// The number of running transactions, the bounds, and each: `10:20:10,14`.
pub(super) fn snapshot(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    for _ in 0..2 {
        int(from.i64()? as u64, out);
        out.push(b':');
    }
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        int(from.i64()? as u64, out);
    }
    Ok(())
}
