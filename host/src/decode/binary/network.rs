//! Addresses, and bytes in hexadecimal: network.c, inet_net_ntop.c, mac.c, uuid.c.

use super::Bad;
use super::fields::Fields;
use super::number::int;
use std::io::Write;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// What the server calls the two families.
const FAMILY_4: u8 = 2;
const FAMILY_6: u8 = 3;

pub(super) fn hex(bytes: &[u8], prefix: &[u8], out: &mut Vec<u8>) {
    out.reserve(prefix.len() + bytes.len() * 2);
    out.extend_from_slice(prefix);
    out.extend(bytes.iter().flat_map(|byte| digits(*byte)));
}

fn digits(byte: u8) -> [u8; 2] {
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

pub(super) fn uuid(bytes: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&digits(*byte));
    }
}

pub(super) fn mac(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
    if !matches!(bytes.len(), 6 | 8) {
        return Err(Bad::Malformed);
    }
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        out.extend_from_slice(&digits(*byte));
    }
    Ok(())
}

/// Family, bits of the mask, whether it is a network, the address.
pub(super) fn inet(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let (family, bits, is_network, len) = (from.u8()?, from.u8()?, from.u8()? != 0, from.u8()?);
    let address = from.take(usize::from(len))?;
    let all_bits = match (family, address) {
        (FAMILY_4, &[a, b, c, d]) => {
            let _ = write!(out, "{a}.{b}.{c}.{d}");
            32
        }
        (FAMILY_6, _) => {
            address_6(address.try_into().map_err(|_| Bad::Malformed)?, out);
            128
        }
        _ => return Err(Bad::Malformed),
    };
    if bits > all_bits {
        return Err(Bad::Malformed);
    }
    if bits < all_bits || is_network {
        out.push(b'/');
        int(bits, out);
    }
    Ok(())
}

/// The first of the longest runs of zero words is left out; an address of version 4 within it is written as such.
fn address_6(bytes: &[u8; 16], out: &mut Vec<u8>) {
    let (pairs, _) = bytes.as_chunks::<2>();
    let mut words = [0_u16; 8];
    words
        .iter_mut()
        .zip(pairs)
        .for_each(|(word, pair)| *word = u16::from_be_bytes(*pair));
    let (mut base, mut len) = (0, 0);
    let mut at = 0;
    while at < 8 {
        let run = words[at..].iter().take_while(|word| **word == 0).count();
        if run > len {
            (base, len) = (at, run);
        }
        at += run.max(1);
    }
    if len < 2 {
        len = 0;
    }
    let holds_4 = len > 0 && base == 0 && (len == 6 || len == 7 && words[7] != 1 || len == 5 && words[5] == 0xFFFF);
    for (at, word) in words.into_iter().enumerate() {
        if len > 0 && (base..base + len).contains(&at) {
            if at == base {
                out.push(b':');
            }
            continue;
        }
        if at > 0 {
            out.push(b':');
        }
        if at == 6 && holds_4 {
            let [.., a, b, c, d] = bytes;
            let _ = write!(out, "{a}.{b}.{c}.{d}");
            return;
        }
        let _ = write!(out, "{word:x}");
    }
    if len > 0 && base + len == 8 {
        out.push(b':');
    }
}
