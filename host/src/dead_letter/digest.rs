//! What copied rows in letters are known by: where they stand is another place each time that they are read.

use super::key;
use super::letter::{Image, Letter};
use super::value::Owned;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

pub(super) type RowDigest = [u8; 16];

/// The copied row itself, wherever it was merged and in whichever form it came. Without a key there may be several of the same values: rather twice
/// than never.
pub(super) fn of(letter: &Letter) -> RowDigest {
    let keyless = letter.table.columns.iter().all(|column| column.key) || letter.table.key_columns().next().is_none();
    let ordinal = keyless.then_some(letter.change.ordinal);
    let (new, old) = (as_text(letter.new.as_ref()), as_text(letter.old.as_ref()));
    let row = serde_json::to_vec(&(&letter.route, letter.change.copy, ordinal, &new, &old));
    let whole = Sha256::digest(row.unwrap_or_default());
    let mut digest = RowDigest::default();
    digest.copy_from_slice(&whole[..size_of::<RowDigest>()]);
    digest
}

fn as_text(image: Option<&Image>) -> Option<Cow<'_, [Owned]>> {
    let is_binary = |value: &Owned| matches!(value, Owned::Binary(_));
    let text = |value: &Owned| match value {
        Owned::Binary(bytes) => Owned::Text(key::text_of(bytes).collect()),
        other => other.clone(),
    };
    image.map(|image| match image.iter().any(is_binary) {
        true => Cow::Owned(image.iter().map(text).collect()),
        false => Cow::Borrowed(image.as_slice()),
    })
}
