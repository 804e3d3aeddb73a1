//! Texts without a byte above 127, which are UTF-8 as they are.

/// The bytes as text, where all are ASCII. Quicker than a check for UTF-8, for short ones by much.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    is_ascii(bytes).then(|| {
        #[expect(
            unsafe_code,
            reason = "no safe way in std to take checked ASCII as text without checking it again"
        )]
        // SAFETY: every ASCII text is UTF-8, and it was checked to be ASCII.
        unsafe {
            std::str::from_utf8_unchecked(bytes)
        }
    })
}

/// Eight bytes at a time; the last ones overlap with those before.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
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
}
