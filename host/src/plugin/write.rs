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
    if value < 0x80 {
        out.push(value as u8);
    } else if value <= u64::from(u8::MAX) {
        out.extend_from_slice(&[0xcc, value as u8]);
    } else if value <= u64::from(u16::MAX) {
        let [a, b] = (value as u16).to_be_bytes();
        out.extend_from_slice(&[0xcd, a, b]);
    } else if value <= u64::from(u32::MAX) {
        let [a, b, c, d] = (value as u32).to_be_bytes();
        out.extend_from_slice(&[0xce, a, b, c, d]);
    } else {
        out.push(0xcf);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[inline]
pub(crate) fn int(out: &mut impl Out, value: i64) {
    if value >= 0 {
        return uint(out, value as u64);
    }
    if value >= -32 {
        out.push(value as u8);
    } else if value >= i64::from(i8::MIN) {
        out.extend_from_slice(&[0xd0, value as u8]);
    } else if value >= i64::from(i16::MIN) {
        let [a, b] = (value as i16).to_be_bytes();
        out.extend_from_slice(&[0xd1, a, b]);
    } else if value >= i64::from(i32::MIN) {
        let [a, b, c, d] = (value as i32).to_be_bytes();
        out.extend_from_slice(&[0xd2, a, b, c, d]);
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
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
    out.push(0xca);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn f64(out: &mut impl Out, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
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
