//! The quoted texts within arrays and ranges.

use std::borrow::Cow;

/// The place behind the quoted text that begins at `start` with its quote; `None` where it doesn't end. `""` inside is
/// a quote where `doubled` says so, else an end.
pub(super) fn end_of(bytes: &[u8], start: usize, doubled: bool) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' if doubled && bytes.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The text without what escapes its characters; borrowed where nothing does.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"']) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // A backslash stands before what it escapes, a quote before a quote.
            '\\' | '"' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    Cow::Owned(plain)
}
