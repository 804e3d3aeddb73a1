//! Finds the bytes that a text format has to escape, eight at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many bytes at the start of `text` are neither below 0x20, nor a backslash, nor (with `QUOTE`) a double quote.
#[inline]
pub(super) fn clean_prefix<const QUOTE: bool>(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let marks = marks::<QUOTE>(u64::from_le_bytes(*word));
        if marks != 0 {
            return at * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'\\' || (QUOTE && *byte == b'"');
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

/// The high bit of each byte that is special. A borrow may mark bytes above a marked one, never below: the lowest
/// mark is always right.
#[inline]
fn marks<const QUOTE: bool>(word: u64) -> u64 {
    let equal = |byte: u8| {
        let difference = word ^ (ONES * u64::from(byte));
        difference.wrapping_sub(ONES) & !difference
    };
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = if QUOTE { equal(b'"') } else { 0 };
    (control | equal(b'\\') | quote) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_look_at_each_byte(text in proptest::collection::vec(any::<u8>(), 0..40), plain in "[ -~é]{0,30}") {
            for text in [text.as_slice(), plain.as_bytes()] {
                let slow = |quote| {
                    let special = |byte: &u8| *byte < 0x20 || *byte == b'\\' || (quote && *byte == b'"');
                    text.iter().position(special).unwrap_or(text.len())
                };
                prop_assert_eq!(clean_prefix::<true>(text), slow(true));
                prop_assert_eq!(clean_prefix::<false>(text), slow(false));
            }
        }
    }
}
