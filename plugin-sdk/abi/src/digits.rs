//! Decimal numbers of up to eight characters, read without a loop: eight bytes are looked at as one number, which has no
//! branch that depends on how many digits there are.

/// What eight digits have above them.
const HIGH: u64 = 100_000_000;

/// What eight bytes are that all hold this one.
const fn eight(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// A decimal number as it is written, without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortDecimal {
    /// All of its digits as a number, below 100,000,000.
    pub digits: u32,
    /// How many of them stand behind the point, at most 6.
    pub scale: u8,
}

/// Reads 1 to 8 characters: digits, with a point among them where `may_have_point`. `None` for anything else, and where
/// the point has no digit before or behind it.
#[inline]
pub fn short_decimal(text: &[u8], may_have_point: bool) -> Option<ShortDecimal> {
    decimal(right_aligned(text)?, 8 - text.len() as u32, may_have_point)
}

/// The same of the first `len` of these, with a point or without: quicker where eight bytes are there to be read.
#[inline]
pub fn short_decimal_in(text: &[u8; 8], len: usize) -> Option<ShortDecimal> {
    match len {
        1..=8 => decimal(moved_right(u64::from_le_bytes(*text), len), 8 - len as u32, true),
        _ => None,
    }
}

/// What eight characters are, those before `begins` being zeros.
#[inline]
fn decimal(word: u64, begins: u32, may_have_point: bool) -> Option<ShortDecimal> {
    const TOP: u32 = 7;
    let points = word ^ eight(b'.');
    // The lowest byte that became 0 is found exactly.
    let points = points.wrapping_sub(eight(1)) & !points & eight(0x80);
    if points == 0 || !may_have_point {
        let digits = eight_digits(word)?;
        return Some(ShortDecimal { digits, scale: 0 });
    }
    let point = points.trailing_zeros() / 8;
    if point == TOP || point == begins {
        return None;
    }
    // What stands before the point moves up over it.
    let before = word & ((1 << (8 * point)) - 1);
    let behind = word & !((1 << (8 * (point + 1))) - 1);
    let digits = eight_digits(behind | before << 8 | u64::from(b'0'))?;
    let scale = (TOP - point) as u8;
    Some(ShortDecimal { digits, scale })
}

/// The number that up to 16 digits are, at least one. `None` for anything else.
#[inline]
pub fn short_digits(text: &[u8]) -> Option<u64> {
    match text.split_last_chunk::<8>() {
        Some(([], low)) => eight_digits(u64::from_le_bytes(*low)).map(u64::from),
        Some((high, low)) => {
            let high = eight_digits(right_aligned(high)?)?;
            let low = eight_digits(u64::from_le_bytes(*low))?;
            Some(u64::from(high) * HIGH + u64::from(low))
        }
        None => eight_digits(right_aligned(text)?).map(u64::from),
    }
}

/// The same of the first `len` of these: quicker where sixteen bytes are there to be read.
#[inline]
pub fn short_digits_in(text: &[u8; 16], len: usize) -> Option<u64> {
    let first = u64::from_le_bytes(*text.first_chunk()?);
    match len {
        1..=8 => eight_digits(moved_right(first, len)).map(u64::from),
        9..=16 => {
            let high = eight_digits(moved_right(first, len - 8))?;
            let low = eight_digits(u64::from_le_bytes(*text.get(len - 8..)?.first_chunk()?))?;
            Some(u64::from(high) * HIGH + u64::from(low))
        }
        _ => None,
    }
}

/// The first `len` of eight characters, 1 to 8, with zeros in front of them.
#[inline]
fn moved_right(word: u64, len: usize) -> u64 {
    let begins = 64 - 8 * len;
    word << begins | eight(b'0') & ((1 << begins) - 1)
}

/// 1 to 8 bytes with zeros, as characters, in front of them: the first of eight is the lowest byte.
#[inline]
fn right_aligned(text: &[u8]) -> Option<u64> {
    let begins = 8 * 8usize.checked_sub(text.len())?;
    let word = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        // They overlap where there are less than eight.
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*last)) << 32 | u64::from(u32::from_le_bytes(*first)) << begins
        }
        _ => match *text {
            [one] => u64::from(one) << 56,
            [one, two] => u64::from(one) << 48 | u64::from(two) << 56,
            [one, two, three] => u64::from(one) << 40 | u64::from(two) << 48 | u64::from(three) << 56,
            _ => return None,
        },
    };
    Some(word | eight(b'0') & ((1 << begins) - 1))
}

/// The number that eight characters are, the first of which is the lowest byte.
#[inline]
pub fn eight_digits(word: u64) -> Option<u32> {
    // Each byte is 0x30 to 0x39: its upper half is 3, and is so still with 6 more.
    let upper = eight(0xf0);
    if (word & upper) | ((word.wrapping_add(eight(6)) & upper) >> 4) != eight(0x33) {
        return None;
    }
    let ones = word & eight(0x0f);
    let tens = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    // Four numbers of two digits, at every other byte: two and two of them are put together, then those.
    const EVERY_FOURTH: u64 = 0x0000_00ff_0000_00ff;
    let first = (tens & EVERY_FOURTH).wrapping_mul(100 + (1_000_000 << 32));
    let second = (tens >> 16 & EVERY_FOURTH).wrapping_mul(1 + (10_000 << 32));
    Some((first.wrapping_add(second) >> 32) as u32)
}

/// Three numbers of two digits with a separator between them, as in `24-12-31` and `23:59:59`.
#[inline]
pub fn three_pairs(text: [u8; 8], separator: u8) -> Option<[u32; 3]> {
    const DIGITS: u64 = 0xffff_00ff_ff00_ffff;
    let separators = !DIGITS & eight(separator);
    let word = u64::from_le_bytes(text) ^ (eight(b'0') & DIGITS | separators);
    // A digit is below 10, so that it is below 16 with 6 more; a separator has become 0.
    let carried = word.wrapping_add(eight(6) & DIGITS);
    if (word | carried) & (eight(0xf0) & DIGITS | !DIGITS) != 0 {
        return None;
    }
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    Some([pairs, pairs >> 24, pairs >> 48].map(|pair| pair as u32 & 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    /// Without cleverness: digits and a point among them.
    fn expected(text: &[u8], may_have_point: bool) -> Option<ShortDecimal> {
        let text = core::str::from_utf8(text).ok()?;
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if may_have_point && !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (text, ""),
        };
        let all = format!("{whole}{fraction}");
        let is_number = !whole.is_empty() && text.len() <= 8 && all.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| ShortDecimal {
            digits: all.parse().unwrap(),
            scale: fraction.len() as u8,
        })
    }

    /// The text, or the beginning of it, with digits behind it that are none of it.
    fn with_more<const N: usize>(text: &[u8]) -> [u8; N] {
        let mut all = [b'9'; N];
        all.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        all
    }

    /// Every text of up to 8 characters of a few kinds: digits, points, the neighbours of the digits in ASCII.
    #[test]
    fn short_decimals_are_what_they_say() {
        const KINDS: [u8; 6] = [b'0', b'7', b'9', b'.', b'/', b':'];
        for len in 0..=6 {
            for number in 0..KINDS.len().pow(len) {
                let kind = |at: u32| KINDS[number / KINDS.len().pow(at) % KINDS.len()];
                let text: Vec<u8> = (0..len).map(kind).collect();
                for points in [false, true] {
                    assert_eq!(short_decimal(&text, points), expected(&text, points), "{text:?}");
                }
                assert_eq!(short_decimal_in(&with_more(&text), text.len()), expected(&text, true));
            }
        }
    }

    #[test]
    fn one_wrong_byte_anywhere_is_seen() {
        for len in 1..=8 {
            let good: Vec<u8> = (0..len).map(|at| b'1' + at as u8).collect();
            assert_eq!(short_decimal(&good, true), expected(&good, true));
            for at in 0..len {
                for byte in 0..=255 {
                    let mut text = good.clone();
                    text[at] = byte;
                    assert_eq!(short_decimal(&text, true), expected(&text, true), "{text:?}");
                    assert_eq!(
                        short_decimal_in(&with_more(&text), len),
                        expected(&text, true),
                        "{text:?}"
                    );
                    let digits = expected(&text, false).map(|decimal| u64::from(decimal.digits));
                    assert_eq!(short_digits(&text), digits, "{text:?}");
                }
            }
        }
        assert_eq!(short_decimal(b"123456789", true), None);
    }

    #[test]
    fn up_to_sixteen_digits_are_read() {
        for len in 0..=18 {
            let text: String = (0..len).map(|at| char::from(b'0' + (at * 7 + 3) % 10)).collect();
            let expected = (1..=16).contains(&len).then(|| text.parse().unwrap());
            assert_eq!(short_digits(text.as_bytes()), expected, "{text}");
            assert_eq!(
                short_digits_in(&with_more(text.as_bytes()), text.len()),
                expected,
                "{text}"
            );
            for at in 0..text.len() {
                let mut bad = text.clone().into_bytes();
                bad[at] = b'x';
                assert_eq!(short_digits(&bad), None);
                assert_eq!(short_digits_in(&with_more(&bad), bad.len()), None);
            }
        }
        assert_eq!(short_digits_in(b"1234567890123456", usize::MAX), None);
    }

    #[test]
    fn three_pairs_are_digits_between_their_separators() {
        assert_eq!(three_pairs(*b"24-12-31", b'-'), Some([24, 12, 31]));
        assert_eq!(three_pairs(*b"09:00:59", b':'), Some([9, 0, 59]));
        for at in 0..8 {
            for byte in 0..=255u8 {
                let mut text = *b"23:59:47";
                text[at] = byte;
                let is_good = match at {
                    2 | 5 => byte == b':',
                    _ => byte.is_ascii_digit(),
                };
                let number = |at: usize| u32::from(text[at] & 15) * 10 + u32::from(text[at + 1] & 15);
                let expected = is_good.then(|| [number(0), number(3), number(6)]);
                assert_eq!(three_pairs(text, b':'), expected, "{text:?}");
            }
        }
    }
}
