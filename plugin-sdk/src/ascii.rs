//! Texts without a byte above 127, which are UTF-8 as they are.

use rowmill_abi::short_block;

/// The bytes as text, where all are ASCII. Quicker than a check for UTF-8, for short ones by much.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    is_ascii(bytes).then(|| checked(bytes))
}

/// The text that begins at `start` in MessagePack, where it is one of less than 32 bytes, all of them ASCII, and not among
/// the last bytes.
///
/// Looks at 32 bytes whatever its length is: no branch hangs on that, which is another from row to row.
#[inline]
pub(crate) fn short(bytes: &[u8], start: usize) -> Option<&str> {
    let (block, len) = short_block(bytes, start)?;
    (!has_high_bit(block, len)).then(|| checked(block.get(..len).unwrap_or_default()))
}

const LONGEST: usize = 32;

/// Whether one of the first `len` bytes, less than all, is above 127.
#[cfg(target_feature = "simd128")]
#[inline]
fn has_high_bit(block: &[u8; LONGEST], len: usize) -> bool {
    use std::arch::wasm32::{u8x16_bitmask, u64x2};
    let word = |at: usize| {
        let eight = block.as_chunks::<8>().0.get(at);
        eight.map_or(0, |eight| u64::from_le_bytes(*eight))
    };
    let low = u8x16_bitmask(u64x2(word(0), word(1)));
    let high = u8x16_bitmask(u64x2(word(2), word(3)));
    (u32::from(low) | u32::from(high) << 16) & ((1 << (len % LONGEST)) - 1) != 0
}

#[cfg(not(target_feature = "simd128"))]
#[inline]
fn has_high_bit(block: &[u8; LONGEST], len: usize) -> bool {
    /// `len` bytes of ones, then zeros, from a window over both.
    static WINDOW: [u8; 2 * LONGEST] = {
        let mut window = [0; 2 * LONGEST];
        let mut at = 0;
        while at < LONGEST {
            window[at] = HIGH_BITS as u8;
            at += 1;
        }
        window
    };
    let Some(mask) = WINDOW
        .get(LONGEST - len.min(LONGEST)..)
        .and_then(<[u8]>::first_chunk::<LONGEST>)
    else {
        return true;
    };
    let word = |bytes: &[u8; LONGEST], at: usize| {
        let eight = bytes.as_chunks::<8>().0.get(at);
        eight.map_or(0, |eight| u64::from_le_bytes(*eight))
    };
    (0..LONGEST / 8).fold(0, |high, at| high | word(block, at) & word(mask, at)) != 0
}

#[inline]
fn checked(ascii: &[u8]) -> &str {
    #[expect(
        unsafe_code,
        reason = "no safe way in std to take checked ASCII as text without checking it again"
    )]
    // SAFETY: every ASCII text is UTF-8, and it was checked to be ASCII.
    unsafe {
        std::str::from_utf8_unchecked(ascii)
    }
}

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Eight bytes at a time; the last ones overlap with those before.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut all = 0;
    while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
        all |= u64::from_le_bytes(*eight);
        rest = behind;
    }
    match (bytes.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(last), ..) => all |= u64::from_le_bytes(*last),
        (None, Some(first), Some(last)) => {
            all |= u64::from(u32::from_le_bytes(*first) | u32::from_le_bytes(*last));
        }
        _ => rest.iter().for_each(|byte| all |= u64::from(*byte)),
    }
    all & HIGH_BITS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each length that is treated in a way of its own, with a byte that isn't ASCII at every place.
    #[test]
    fn one_high_byte_anywhere_is_seen() {
        for len in 0..40 {
            let mut bytes = vec![b'x'; len];
            assert_eq!(text(&bytes), Some("x".repeat(len).as_str()));
            for at in 0..len {
                bytes[at] = 0x80;
                assert_eq!(text(&bytes), None, "byte {at} of {len}");
                bytes[at] = b'x';
            }
        }
    }

    /// The same for texts as they stand in a batch, at its end too.
    #[test]
    fn one_high_byte_anywhere_in_a_short_text_is_seen() {
        for len in 0..40 {
            for behind in [0, 7, 40] {
                let mut bytes = vec![0xd9, len];
                if len < 32 {
                    bytes = vec![0xa0 | len];
                }
                let start = bytes.len();
                bytes.resize(start + usize::from(len), b'x');
                bytes.resize(bytes.len() + behind, 0xff);
                let expected = "x".repeat(len.into());
                let is_found = len < 32 && usize::from(len) + behind >= 32;
                assert_eq!(short(&bytes, 0), is_found.then_some(expected.as_str()));
                for at in start..start + usize::from(len) {
                    bytes[at] = 0x80;
                    assert_eq!(short(&bytes, 0), None, "byte {at} of {len}");
                    bytes[at] = b'x';
                }
            }
        }
    }
}
