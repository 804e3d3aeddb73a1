//! The ways to mask a text.

use hmac::{Hmac, KeyInit, Mac};
use rowmill_plugin::prelude::*;
use sha2::Sha256;

/// Characters that `keep-last-4` leaves.
const KEPT: usize = 4;
/// What stands for a redacted value.
const REDACTED: &str = "***";
/// Characters of a SHA-256 in hex.
pub const HASH_LEN: usize = 64;

/// How a column is masked.
#[config]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// HMAC-SHA-256 under the salt, in hex: equal values stay equal, so that joins and counts still work.
    Hash,
    /// `***`
    Redact,
    /// `***1234`: the last four characters of values that are at least twice as long.
    #[serde(rename = "keep-last-4")]
    KeepLast4,
}

/// The key of the hashes, worked in once.
#[derive(Clone, Debug)]
pub struct Salt(Hmac<Sha256>);

impl Salt {
    pub fn new(salt: &str) -> Result<Self> {
        Ok(Self(Hmac::new_from_slice(salt.as_bytes())?))
    }

    /// The hash in hex, written to `hex`.
    pub fn hash<'h>(&self, text: &str, hex: &'h mut [u8; HASH_LEN]) -> Result<&'h str> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        for (pair, byte) in hex.chunks_exact_mut(2).zip(mac.finalize().into_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Ok(std::str::from_utf8(hex)?)
    }
}

/// Masks a text and gives the result to `set`. `length_max` is what the column holds, where that is limited.
pub fn apply(method: Method, salt: &Salt, text: &str, length_max: Option<usize>, set: impl FnOnce(&str)) -> Result<()> {
    match method {
        Method::Hash => set(salt.hash(text, &mut [0; HASH_LEN])?),
        Method::Redact => set(cut(REDACTED, length_max)),
        Method::KeepLast4 => match last_characters(text) {
            Some(kept) => {
                let masked = format!("{REDACTED}{kept}");
                set(cut(&masked, length_max));
            }
            None => set(cut(REDACTED, length_max)),
        },
    }
    Ok(())
}

/// The last four characters; none of a text that they would give half away.
fn last_characters(text: &str) -> Option<&str> {
    let (start, _) = text.char_indices().rev().nth(KEPT - 1)?;
    let (hidden, kept) = text.split_at(start);
    (hidden.chars().count() >= KEPT).then_some(kept)
}

fn cut(text: &str, length_max: Option<usize>) -> &str {
    match length_max.and_then(|max| text.char_indices().nth(max)) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
