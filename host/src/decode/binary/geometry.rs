//! Points and what is made of them: geo_ops.c, and cube.c of the extension.

use super::Bad;
use super::fields::Fields;
use super::float::write_f64;

/// The extension's own limit.
const CUBE_DIMENSIONS_MAX: usize = 100;
/// In a cube's header: both corners are the same.
const CUBE_IS_POINT: u32 = 1 << 31;

fn numbers(from: &mut Fields<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        write_f64(from.f64()?, out);
    }
    Ok(())
}

pub(super) fn point(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    out.push(b'(');
    numbers(from, 2, out)?;
    out.push(b')');
    Ok(())
}

fn points(from: &mut Fields<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), Bad> {
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        point(from, out)?;
    }
    Ok(())
}

pub(super) fn line(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    out.push(b'{');
    numbers(from, 3, out)?;
    out.push(b'}');
    Ok(())
}

pub(super) fn segment(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    out.push(b'[');
    points(from, 2, out)?;
    out.push(b']');
    Ok(())
}

pub(super) fn corners(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    points(from, 2, out)
}

pub(super) fn path(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let (open, close) = if from.u8()? != 0 { (b'(', b')') } else { (b'[', b']') };
    let count = from.count()?;
    out.push(open);
    points(from, count, out)?;
    out.push(close);
    Ok(())
}

pub(super) fn polygon(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    out.push(b'(');
    points(from, count, out)?;
    out.push(b')');
    Ok(())
}

pub(super) fn circle(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    out.push(b'<');
    point(from, out)?;
    out.push(b',');
    numbers(from, 1, out)?;
    out.push(b'>');
    Ok(())
}

/// Its dimensions, then one corner or two. It is written as a point where two are there and equal.
pub(super) fn cube(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let header = from.u32()?;
    let dimensions = (header & !CUBE_IS_POINT) as usize;
    if dimensions > CUBE_DIMENSIONS_MAX {
        return Err(Bad::Malformed);
    }
    let lower = from.take(dimensions * 8)?;
    corner(lower, out)?;
    if header & CUBE_IS_POINT != 0 {
        return Ok(());
    }
    let upper = from.take(dimensions * 8)?;
    let equal = |(one, other): (&[u8; 8], &[u8; 8])| f64::from_be_bytes(*one) == f64::from_be_bytes(*other);
    let ((lower, _), (pairs, _)) = (lower.as_chunks::<8>(), upper.as_chunks::<8>());
    if !lower.iter().zip(pairs).all(equal) {
        out.push(b',');
        corner(upper, out)?;
    }
    Ok(())
}

fn corner(values: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
    let mut values = Fields::new(values);
    out.push(b'(');
    while !values.is_at_end() {
        if out.last() != Some(&b'(') {
            out.extend_from_slice(b", ");
        }
        write_f64(values.f64()?, out);
    }
    out.push(b')');
    Ok(())
}
