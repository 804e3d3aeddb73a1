//! Where the fields of a line of COPY end.

/// Bytes that are looked at together: most fields are shorter than that, so a line is a few looks and not one per field.
const BLOCK: usize = 64;

/// Calls `field` for each field of the line that lies from `begin` to `end` of these bytes: with its end, and whether a
/// backslash is in it. The caller has checked that the line lies within.
#[inline]
pub(super) fn fields(bytes: &[u8], begin: usize, end: usize, mut field: impl FnMut(usize, bool)) {
    let mut is_escaped = false;
    let mut at = begin;
    while at <= end {
        let rest = bytes.get(at..).unwrap_or_default();
        let padded;
        // What lies behind the line is looked at, too, where there is something, and not counted.
        let block = match rest.first_chunk() {
            Some(block) => block,
            None => {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                padded = block;
                &padded
            }
        };
        let (mut marked, mut backslashes) = (equal(block, b'\t'), equal(block, b'\\'));
        let left = end - at;
        if left < BLOCK {
            // The line's end is that of a field, as if a tab were there.
            let line_end = 1 << left;
            marked = marked & (line_end - 1) | line_end;
            backslashes &= line_end - 1;
        }
        marked |= backslashes;
        while marked != 0 {
            let bit = marked.trailing_zeros();
            marked &= marked - 1;
            if backslashes >> bit & 1 != 0 {
                is_escaped = true;
                continue;
            }
            field(at + bit as usize, is_escaped);
            is_escaped = false;
        }
        at += BLOCK;
    }
}

/// A bit for each byte of the block that is this one.
#[cfg(target_arch = "x86_64")]
#[inline]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    #[allow(
        unsafe_code,
        reason = "no safe way to these instructions, which are ten times as quick as others"
    )]
    // SAFETY: there is no x86-64 processor without SSE2.
    unsafe {
        equal_by_sixteens(block, byte)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_by_sixteens(block: &[u8; BLOCK], byte: u8) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let wanted = _mm_set1_epi8(byte.cast_signed());
    let of = |at: usize| {
        let sixteen = block[16 * at..].first_chunk().copied().unwrap_or_default();
        let value = u128::from_le_bytes(sixteen);
        let value = _mm_set_epi64x((value >> 64) as i64, value as i64);
        u64::from(_mm_movemask_epi8(_mm_cmpeq_epi8(value, wanted)).cast_unsigned()) << (16 * at)
    };
    of(0) | of(1) | of(2) | of(3)
}

#[cfg(not(target_arch = "x86_64"))]
use equal_by_eights as equal;

/// The same on other processors: eight bytes at a time.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline]
fn equal_by_eights(block: &[u8; BLOCK], byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Puts the lowest bits of eight bytes side by side, into the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = block.as_chunks::<8>();
    let mut bits = 0;
    for (at, eight) in eights.iter().enumerate() {
        let other = u64::from_le_bytes(*eight) ^ u64::from_ne_bytes([byte; 8]);
        // The highest bit of every byte that is zero, and of no other.
        let zero = !(((other & LOW) + LOW) | other | LOW);
        bits |= ((zero >> 7).wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\t'), Just(8_u8), Just(10), Just(0x89), Just(b'\\'), any::<u8>()];
        proptest::collection::vec(byte, length)
    }

    proptest! {
        #[test]
        fn fields_end_where_a_split_at_tabs_ends_them(
            (before, line, behind) in (bytes(0..9), bytes(0..150), bytes(0..80)),
        ) {
            let mut found = Vec::new();
            let all = [&before[..], &line, &behind].concat();
            let (begin, end) = (before.len(), before.len() + line.len());
            fields(&all, begin, end, |end, escaped| found.push((end, escaped)));
            let mut expected = Vec::new();
            let mut at = begin;
            for field in line.split(|byte| *byte == b'\t') {
                expected.push((at + field.len(), field.contains(&b'\\')));
                at += field.len() + 1;
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn bytes_are_found_in_the_same_places_by_all_processors(bytes in bytes(BLOCK)) {
            let block = bytes.first_chunk().unwrap();
            for byte in [b'\t', b'\\', 0x89] {
                let expected = (0..BLOCK).filter(|at| block[*at] == byte).fold(0, |bits, at| bits | 1 << at);
                prop_assert_eq!(equal(block, byte), expected);
                prop_assert_eq!(equal_by_eights(block, byte), expected);
            }
        }
    }
}
