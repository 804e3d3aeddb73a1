//! A row's key as bytes: the key columns' texts, each behind its length. The same from COPY and stream, as both are
//! decoded from the same pinned text output.

use crate::batch::{Batch, Relation, Tuple, Value};

/// A row of a table under copy that has no usable key: a value is missing, or not in text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row came without its key")]
pub(super) struct NoKey;

/// Where the values of a relation's key lie in its tuples. `None` where the relation lacks one of the columns.
pub(super) fn slots(relation: &Relation, key: &[String]) -> Option<Box<[u16]>> {
    key.iter()
        .map(|name| Some(relation.columns[relation.column_index(name)?].slot))
        .collect()
}

/// Replaces `out` by the key of `tuple`. What the new image leaves out as unchanged is taken from `old`.
pub(super) fn write(
    batch: &Batch,
    tuple: Tuple,
    old: Option<Tuple>,
    slots: &[u16],
    out: &mut Vec<u8>,
) -> Result<(), NoKey> {
    out.clear();
    for slot in slots {
        let value = match (batch.value(tuple, *slot), old) {
            (Value::Unchanged, Some(old)) => batch.value(old, *slot),
            (value, _) => value,
        };
        let text = value.text().ok_or(NoKey)?;
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    }
    Ok(())
}

/// The texts that a key was made of.
pub(super) fn texts(key: &[u8]) -> Result<Vec<String>, NoKey> {
    let mut rest = key;
    let mut texts = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let (text, behind) = behind
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or(NoKey)?;
        texts.push(std::str::from_utf8(text).map_err(|_| NoKey)?.to_owned());
        rest = behind;
    }
    Ok(texts)
}
