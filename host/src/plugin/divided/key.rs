//! Which division a change belongs to.

use super::DIVISIONS;
use crate::batch::{Batch, Op, Row, Value};

/// FNV-1a of 64 bits. What it gives is stored: a state belongs to the keys that were counted to its division, in every
/// release and on every machine.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Behind each value; no byte of a text.
const END: u8 = 0xff;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// In the place of a value that is NULL or wasn't sent.
const NONE: u8 = 0xfe;

/// `None` for what belongs to no row: truncates and messages.
///
/// It follows from the values of the key alone, not from the table, so that rows of several tables with the same key
/// meet. A change of the key belongs to the key that the row had. Rows of a table without a key are all together.
pub(super) fn division(batch: &Batch, row: &Row) -> Option<usize> {
    if matches!(row.op, Op::Truncate | Op::Message) {
        return None;
    }
    let mut hash = BASIS;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for column in batch.relation(row).key_columns() {
        let value = |image| batch.value(image, column.slot);
        // An unchanged value is what it was.
        let sent = |value: &Value<'_>| !matches!(value, Value::Unchanged | Value::Absent);
        let value = row.old.map(value).filter(sent).or_else(|| row.new.map(value));
        match value {
            Some(Value::Text(text)) => text.iter().for_each(|byte| add(*byte)),
            // As the server's text has them: in which form values are received is a setting.
            Some(Value::Binary(bytes)) => {
                b"\\x".iter().for_each(|byte| add(*byte));
                let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                digits.for_each(|digit| add(HEX[usize::from(digit)]));
            }
            _ => add(NONE),
        }
        add(END);
    }
    // The lower bits of a product depend on the lower bits of its factors alone.
    Some(((hash >> 32) ^ hash) as usize % DIVISIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::OldImage;
    use crate::plugin::tests::{batch, row, table};

    /// Stored states rely on it.
    #[test]
    fn divisions_stay_what_they_are() {
        let accounts = table(&[("id", 20, true), ("name", 25, false)]);
        let mut batch = batch(&accounts);
        let mut of = |id: &str, name: &str| {
            let row = row(&mut batch, Op::Insert, None, Some(&[id, name]));
            division(&batch, &row).unwrap()
        };
        let first: Vec<usize> = (0..12).map(|id| of(&id.to_string(), "ada")).collect();
        assert_eq!(first, STORED);
        assert_eq!(of("7", "grace"), first[7], "only the key counts");
        let all: std::collections::HashSet<usize> = (0..1000).map(|id| of(&id.to_string(), "ada")).collect();
        assert_eq!(all.len(), DIVISIONS);
    }

    const STORED: [usize; 12] = [7, 14, 9, 0, 3, 10, 5, 12, 15, 6, 9, 0];

    #[test]
    fn bytes_belong_where_their_text_does() {
        let files = table(&[("digest", 17, true)]);
        let mut batch = batch(&files);
        batch.bytes = bytes::Bytes::from_static(b"\x00\xab\x7f");
        let text = row(&mut batch, Op::Insert, None, Some(&["\\x00ab7f"]));
        let mut binary = text;
        binary.new = Some(batch.push_tuple([crate::batch::Cell::binary(0, 3)]));
        assert_eq!(division(&batch, &binary), division(&batch, &text));
    }

    #[test]
    fn a_change_of_the_key_belongs_to_the_old_key() {
        let accounts = table(&[("id", 20, true), ("name", 25, false)]);
        let mut batch = batch(&accounts);
        let kept = row(&mut batch, Op::Insert, None, Some(&["1", "ada"]));
        let old = Some((OldImage::Key, &["1", "-"][..]));
        let moved = row(&mut batch, Op::Update, old, Some(&["2", "ada"]));
        let gone = row(&mut batch, Op::Delete, old, None);
        let expected = division(&batch, &kept);
        assert_eq!(division(&batch, &moved), expected);
        assert_eq!(division(&batch, &gone), expected);
    }
}
