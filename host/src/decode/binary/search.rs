//! Full text search and hstore: tsvector.c, tsquery.c, and hstore_io.c of the extension.

use super::Bad;
use super::fields::Fields;
use super::number::int;

/// In single quotes, each of those and each backslash doubled.
fn lexeme(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in text {
        if matches!(byte, b'\'' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'\'');
}

/// Lexemes, each with its positions: 14 bits of place, 2 of weight.
pub(super) fn vector(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    for at in 0..count {
        if at > 0 {
            out.push(b' ');
        }
        lexeme(from.text()?, out);
        for at in 0..from.u16()? {
            out.push(if at == 0 { b':' } else { b',' });
            let position = from.u16()?;
            int(position & 0x3FFF, out);
            out.extend_from_slice([&b""[..], b"C", b"B", b"A"][usize::from(position >> 14)]);
        }
    }
    Ok(())
}

/// An item of a query.
enum Item<'a> {
    Value { weight: u8, prefix: bool, text: &'a [u8] },
    Not,
    And,
    Or,
    Phrase(i16),
}

impl Item<'_> {
    /// What binds tighter is higher; a value tightest of all.
    fn priority(&self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Phrase(_) => 3,
            Self::Not => 4,
            Self::Value { .. } => 5,
        }
    }
}

/// A part of a query that is written already.
struct Written {
    text: Vec<u8>,
    priority: u8,
}

impl Written {
    /// Bracketed where it binds less than what it is an operand of.
    fn within(mut self, is_bracketed: bool) -> Vec<u8> {
        if is_bracketed {
            self.text.splice(0..0, *b"( ");
            self.text.extend_from_slice(b" )");
        }
        self.text
    }
}

/// An operator comes before its right operand, and that before the left one: read backwards, both are there when it comes.
pub(super) fn query(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(from)?);
    }
    let mut stack: Vec<Written> = Vec::new();
    for item in items.iter().rev() {
        let priority = item.priority();
        let text = match item {
            Item::Value { weight, prefix, text } => value(*weight, *prefix, text),
            Item::Not => {
                let operand = stack.pop().ok_or(Bad::Malformed)?;
                let is_bracketed = operand.priority < priority;
                let mut text = vec![b'!'];
                text.extend(operand.within(is_bracketed));
                text
            }
            Item::And | Item::Or | Item::Phrase(_) => {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
                    return Err(Bad::Malformed);
                };
                let is_phrase = matches!(item, Item::Phrase(_));
                let left_bracketed = left.priority < priority;
                let right_bracketed = right.priority < priority || is_phrase && right.priority == priority;
                let mut text = left.within(left_bracketed);
                match item {
                    Item::And => text.extend_from_slice(b" & "),
                    Item::Phrase(1) => text.extend_from_slice(b" <-> "),
                    Item::Phrase(distance) => {
                        text.extend_from_slice(b" <");
                        int(*distance, &mut text);
                        text.extend_from_slice(b"> ");
                    }
                    _ => text.extend_from_slice(b" | "),
                }
                text.extend(right.within(right_bracketed));
                text
            }
        };
        stack.push(Written { text, priority });
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(whole), true) => out.extend(whole.text),
        (None, _) => {}
        _ => return Err(Bad::Malformed),
    }
    Ok(())
}

fn item<'a>(from: &mut Fields<'a>) -> Result<Item<'a>, Bad> {
    const VALUE: u8 = 1;
    const OPERATOR: u8 = 2;
    match from.u8()? {
        VALUE => Ok(Item::Value {
            weight: from.u8()?,
            prefix: from.u8()? != 0,
            text: from.text()?,
        }),
        OPERATOR => match from.u8()? {
            1 => Ok(Item::Not),
            2 => Ok(Item::And),
            3 => Ok(Item::Or),
            4 => Ok(Item::Phrase(from.i16()?)),
            _ => Err(Bad::Malformed),
        },
        _ => Err(Bad::Malformed),
    }
}

fn value(weight: u8, prefix: bool, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    lexeme(text, &mut out);
    if weight != 0 || prefix {
        out.push(b':');
    }
    if prefix {
        out.push(b'*');
    }
    let letters = [(8, b'A'), (4, b'B'), (2, b'C'), (1, b'D')];
    out.extend(
        letters
            .iter()
            .filter(|(bit, _)| weight & bit != 0)
            .map(|(_, letter)| letter),
    );
    out
}

pub(super) fn hstore(from: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let count = from.count()?;
    for at in 0..count {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(from.value()?.ok_or(Bad::Malformed)?, out);
        out.extend_from_slice(b"=>");
        match from.value()? {
            Some(text) => quoted(text, out),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    Ok(())
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
