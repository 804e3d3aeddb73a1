//! Reads a plugin's config, MessagePack, into its type.
//!
//! A deserializer of our own, because of what it doesn't bring along: the general one formats whatever it finds into
//! its errors, numbers with fractions included, which makes up half of a small module.

use crate::{Error, Result};
use rowmill_abi::{Malformed, Reader, Token};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, Unexpected, Visitor};
use std::fmt;

/// How deep a config may nest.
const DEPTH_MAX: u8 = 32;

/// An empty map, for a config whose fields all have defaults.
const EMPTY_MAP: &[u8] = &[0x80];

/// Reads a config. Where the user gave none, an empty one.
pub(crate) fn read<C: DeserializeOwned>(raw: &[u8]) -> Result<C> {
    let read = |bytes| {
        C::deserialize(&mut Deserializer {
            reader: Reader::new(bytes),
            depth: DEPTH_MAX,
        })
    };
    let result = match read(raw) {
        Err(error) if Reader::new(raw).take_nil() => read(EMPTY_MAP).map_err(|_| error),
        result => result,
    };
    result.map_err(|Bad(reason)| Error::new(format!("config: {reason}")))
}

/// The config in what comes into `rowmill_init`.
pub(crate) fn find(input: &[u8]) -> Result<&[u8]> {
    let mut reader = Reader::new(input);
    reader.array()?;
    // ABI, features of the host, name.
    for _ in 0..3 {
        reader.skip()?;
    }
    Ok(reader.raw()?)
}

/// The state in what comes into `rowmill_init`, where there is some.
pub(crate) fn find_state(input: &[u8]) -> Result<Option<&[u8]>> {
    let mut reader = Reader::new(input);
    reader.array()?;
    // ABI, features of the host, name, config, mode, limits.
    for _ in 0..6 {
        reader.skip()?;
    }
    match reader.token()? {
        Token::Bin(state) => Ok(Some(state)),
        _ => Ok(None),
    }
}

/// An error while reading. Names kinds, never values: a config holds secrets.
#[derive(Debug)]
struct Bad(String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

impl From<Malformed> for Bad {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.to_string())
    }
}

impl de::Error for Bad {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("{expected} expected, {} found", kind(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        _ => "something else",
    }
}

struct Deserializer<'de> {
    reader: Reader<'de>,
    depth: u8,
}

impl Deserializer<'_> {
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Bad>) -> Result<T, Bad> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Bad("nested too deep".to_owned()));
        };
        self.depth = depth;
        let result = read(self);
        self.depth += 1;
        result
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Bad;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        match self.reader.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Int(value @ 0..) => visitor.visit_u64(value as u64),
            Token::Int(value) => visitor.visit_i64(value),
            Token::Huge(value) => visitor.visit_u64(value),
            Token::F32(value) => visitor.visit_f64(value.into()),
            Token::F64(value) => visitor.visit_f64(value),
            Token::Str(text) => {
                visitor.visit_borrowed_str(std::str::from_utf8(text).map_err(|_| Bad("UTF-8 expected".to_owned()))?)
            }
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Ext(..) => Err(Bad("an extension type found".to_owned())),
            Token::Array(left) => self.nested(|nested| visitor.visit_seq(Elements { nested, left })),
            Token::Map(left) => self.nested(|nested| visitor.visit_map(Elements { nested, left })),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        if self.reader.take_nil() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_newtype_struct(self)
    }

    /// A variant is its name, or a map of one pair from its name to what it holds.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        let mut ahead = self.reader;
        let holds = match ahead.token()? {
            Token::Str(_) => false,
            Token::Map(1) => {
                self.reader = ahead;
                true
            }
            _ => return Err(Bad("the name of a variant expected".to_owned())),
        };
        self.nested(|nested| visitor.visit_enum(Variant { nested, holds }))
    }

    /// By its keys only, not by position.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        let mut ahead = self.reader;
        match ahead.token()? {
            Token::Map(_) => self.deserialize_any(visitor),
            _ => Err(Bad("a map expected".to_owned())),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// What is left of a list or map.
struct Elements<'a, 'de> {
    nested: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Bad;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Bad> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.nested).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Bad;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Bad> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Bad> {
        seed.deserialize(&mut *self.nested)
    }
}

struct Variant<'a, 'de> {
    nested: &'a mut Deserializer<'de>,
    holds: bool,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Bad;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Bad> {
        let name = seed.deserialize(&mut *self.nested)?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Bad;

    fn unit_variant(self) -> Result<(), Bad> {
        if self.holds {
            Ok(self.nested.reader.skip()?)
        } else {
            Ok(())
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Bad> {
        seed.deserialize(&mut *self.nested)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Bad> {
        de::Deserializer::deserialize_any(&mut *self.nested, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Bad> {
        de::Deserializer::deserialize_any(&mut *self.nested, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        numbers: Vec<i32>,
        #[serde(default)]
        share: Option<f64>,
        #[serde(default)]
        shapes: BTreeMap<String, Shape>,
        #[serde(default)]
        either: Option<Either>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Shape {
        Point,
        Circle(u32),
        Box { width: u32, height: u32 },
        Line(i8, i8),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }

    fn parse(config: serde_json::Value) -> Result<Config> {
        read(&rmp_serde::to_vec_named(&config).unwrap())
    }

    #[test]
    fn every_shape_of_a_config_is_read() {
        let config = parse(serde_json::json!({
            "numbers": [1, -2, 70_000],
            "share": 0.5,
            "shapes": {
                "a": "Point",
                "b": { "Circle": 3 },
                "c": { "Box": { "width": 1, "height": 2 } },
                "d": { "Line": [-1, 1] },
            },
            "either": ["x", "y"],
        }))
        .unwrap();
        assert_eq!(config.numbers, [1, -2, 70_000]);
        assert_eq!(config.share, Some(0.5));
        let shapes: Vec<_> = config.shapes.into_values().collect();
        let wanted = [
            Shape::Point,
            Shape::Circle(3),
            Shape::Box { width: 1, height: 2 },
            Shape::Line(-1, 1),
        ];
        assert_eq!(shapes, wanted);
        assert_eq!(config.either, Some(Either::Many(vec!["x".to_owned(), "y".to_owned()])));
    }

    #[test]
    fn a_config_that_is_left_out_is_an_empty_one() {
        assert_eq!(parse(serde_json::Value::Null), parse(serde_json::json!({})));
    }

    #[test]
    fn errors_name_what_was_expected_and_no_value() {
        for (config, reason) in [
            (
                serde_json::json!({ "numbers": "secret" }),
                "config: a sequence expected, a string found",
            ),
            (
                serde_json::json!({ "numbers": [1.5] }),
                "config: i32 expected, a number with a fraction found",
            ),
            (serde_json::json!([]), "config: a map expected"),
        ] {
            let error = parse(config).unwrap_err();
            assert!(error.reason().starts_with(reason), "{error}");
            assert!(!error.reason().contains("secret"));
        }
        assert!(
            parse(serde_json::json!({ "number": [] }))
                .unwrap_err()
                .reason()
                .contains("unknown field `number`")
        );
    }

    #[test]
    fn depth_is_bounded() {
        let mut bytes = vec![0x91; 100_000];
        bytes.push(0xc0);
        assert!(read::<serde::de::IgnoredAny>(&bytes).is_err());
    }
}
