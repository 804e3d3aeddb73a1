//! A value of a letter as JSON: whatever Postgres sent comes back as it was.
//!
//! | value | JSON |
//! | --- | --- |
//! | text | the text as a string; `{"hex": "…"}` where it isn't UTF-8 |
//! | NULL | `null` |
//! | unchanged TOAST | `{"unchanged": true}` |
//! | not part of the image | `{"absent": true}` |
//! | binary form | `{"binary": "…"}`, in hex |

use crate::batch::Value;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Write as _;

/// [`Value`], owned. Its `Debug` shows no bytes: letters may stand in an error's context.
#[derive(Clone, PartialEq, Eq)]
pub enum Owned {
    Null,
    Unchanged,
    Absent,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

impl Owned {
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Unchanged => Value::Unchanged,
            Self::Absent => Value::Absent,
            Self::Text(text) => Value::Text(text),
            Self::Binary(bytes) => Value::Binary(bytes),
        }
    }

    /// What is shown of it without its value.
    pub fn redacted(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Unchanged => "unchanged".to_owned(),
            Self::Absent => "absent".to_owned(),
            Self::Text(bytes) | Self::Binary(bytes) => format!("{} bytes", bytes.len()),
        }
    }
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Unchanged => Self::Unchanged,
            Value::Absent => Self::Absent,
            Value::Text(text) => Self::Text(text.to_vec()),
            Value::Binary(bytes) => Self::Binary(bytes.to_vec()),
        }
    }
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Other(Other),
}

impl Serialize for Owned {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let other = match self {
            Self::Null => return to.serialize_none(),
            Self::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => return to.serialize_str(text),
                Err(_) => Other {
                    hex: Some(hex(text)),
                    ..Other::default()
                },
            },
            Self::Binary(bytes) => Other {
                binary: Some(hex(bytes)),
                ..Other::default()
            },
            Self::Unchanged => Other {
                unchanged: Some(true),
                ..Other::default()
            },
            Self::Absent => Other {
                absent: Some(true),
                ..Other::default()
            },
        };
        other.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bad = || D::Error::custom("no value of a letter");
        let other = match Option::<Form>::deserialize(from)? {
            None => return Ok(Self::Null),
            Some(Form::Text(text)) => return Ok(Self::Text(text.into_bytes())),
            Some(Form::Other(other)) => other,
        };
        match (other.hex, other.binary, other.unchanged, other.absent) {
            (Some(text), None, None, None) => unhex(&text).map(Self::Text).ok_or_else(bad),
            (None, Some(text), None, None) => unhex(&text).map(Self::Binary).ok_or_else(bad),
            (None, None, Some(true), None) => Ok(Self::Unchanged),
            (None, None, None, Some(true)) => Ok(Self::Absent),
            _ => Err(bad()),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(value: &Owned) -> Owned {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    #[test]
    fn every_kind_comes_back() {
        for value in [
            Owned::Null,
            Owned::Unchanged,
            Owned::Absent,
            Owned::Text(Vec::new()),
            Owned::Text(b"\x00 \"quoted\" \\ \n \xf0\x9f\xa6\x80".to_vec()),
            Owned::Text(b"latin1 \xe9".to_vec()),
            Owned::Binary(vec![0, 255]),
        ] {
            assert_eq!(round_trip(&value), value);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(round_trip(&Owned::Text(bytes.clone())), Owned::Text(bytes.clone()));
            prop_assert_eq!(round_trip(&Owned::Binary(bytes.clone())), Owned::Binary(bytes));
        }
    }
}
