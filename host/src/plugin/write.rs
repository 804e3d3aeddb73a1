//! Writing MessagePack, in its shortest forms.

use super::wire::Out;

/// The header of an array of `len` elements.
pub(crate) fn array(out: &mut impl Out, len: usize) {
    if len < 16 {
        out.push(0x90 | len as u8);
    } else if len <= usize::from(u16::MAX) {
        out.push(0xdc);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xdd);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

#[inline]
pub(crate) fn uint(out: &mut impl Out, value: u64) {
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x100 => number(out, 0xcc, value, 1),
        0x100..0x1_0000 => number(out, 0xcd, value, 2),
        0x1_0000..0x1_0000_0000 => number(out, 0xce, value, 4),
        _ => number(out, 0xcf, value, 8),
    }
}

#[inline]
pub(crate) fn int(out: &mut impl Out, value: i64) {
    match value {
        0.. => uint(out, value as u64),
        -32..0 => out.push(value as u8),
        -0x80..-32 => number(out, 0xd0, value as u64, 1),
        -0x8000..-0x80 => number(out, 0xd1, value as u64, 2),
        -0x8000_0000..-0x8000 => number(out, 0xd2, value as u64, 4),
        _ => number(out, 0xd3, value as u64, 8),
    }
}

/// A marker and the last `len` bytes of a number, 1 to 8, as one copy of a fixed size.
#[inline]
fn number(out: &mut impl Out, marker: u8, value: u64, len: usize) {
    let [a, b, c, d, e, f, g, h] = (value << (64 - 8 * len)).to_be_bytes();
    out.first_of(1 + len, &[marker, a, b, c, d, e, f, g, h]);
}

/// A text of less than 32 bytes, the first of those that are given.
#[inline]
pub(crate) fn short_str(out: &mut impl Out, len: usize, text: &[u8; 32]) {
    out.push(0xa0 | len as u8);
    out.first_of(len, text);
}

#[inline]
pub(crate) fn str(out: &mut impl Out, text: &[u8]) {
    let len = text.len();
    if len < 32 {
        out.push(0xa0 | len as u8);
    } else if len <= usize::from(u8::MAX) {
        out.extend_from_slice(&[0xd9, len as u8]);
    } else if len <= usize::from(u16::MAX) {
        let [a, b] = (len as u16).to_be_bytes();
        out.extend_from_slice(&[0xda, a, b]);
    } else {
        out.push(0xdb);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
    out.extend_from_slice(text);
}

/// The header of a binary of `len` bytes, which the caller appends.
pub(crate) fn bin_header(out: &mut impl Out, len: usize) {
    if len <= usize::from(u8::MAX) {
        out.extend_from_slice(&[0xc4, len as u8]);
    } else if len <= usize::from(u16::MAX) {
        out.push(0xc5);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0xc6);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

pub(crate) fn f32(out: &mut impl Out, value: f32) {
    number(out, 0xca, u64::from(value.to_bits()), 4);
}

#[inline]
pub(crate) fn f64(out: &mut impl Out, value: f64) {
    number(out, 0xcb, value.to_bits(), 8);
}

#[inline]
pub(crate) fn nil(out: &mut impl Out) {
    out.push(0xc0);
}

pub(crate) fn bool(out: &mut impl Out, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// An extension value without content.
#[inline]
pub(crate) fn empty_ext(out: &mut impl Out, kind: i8) {
    out.extend_from_slice(&[0xc7, 0, kind as u8]);
}
