//! A deserializer of MessagePack that says little: see the module above.

use rowmill_abi::{Malformed, Reader, Token};
use serde::de::{self, DeserializeSeed, Expected, Unexpected, Visitor};
use std::fmt;

/// An error while reading. Names kinds and keys, never values: a config holds secrets.
#[derive(Debug)]
pub(super) struct Bad(pub(super) String);

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

    /// Without what was found: it is a value, or the key beside which a secret stands.
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        match expected {
            [] => Self("a variant found, of which there are none".to_owned()),
            [one] => Self(format!("`{one}` expected, something else found")),
            some => Self(format!("one of `{}` expected, something else found", some.join("`, `"))),
        }
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

pub(super) struct Deserializer<'de> {
    pub reader: Reader<'de>,
    pub depth: u8,
}

impl<'de> Deserializer<'de> {
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Bad>) -> Result<T, Bad> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Bad("nested too deep".to_owned()));
        };
        self.depth = depth;
        let result = read(self);
        self.depth += 1;
        result
    }

    /// Has a list or map read, and nothing of it left: what would stand there next is something else, a value where a key
    /// is expected.
    fn elements<T>(
        &mut self,
        left: usize,
        read: impl FnOnce(&mut Elements<'_, 'de>) -> Result<T, Bad>,
    ) -> Result<T, Bad> {
        self.nested(|nested| {
            let mut elements = Elements { nested, left };
            let value = read(&mut elements)?;
            match elements.left {
                0 => Ok(value),
                _ => Err(Bad("more elements than expected".to_owned())),
            }
        })
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
            Token::Array(left) => self.elements(left, |elements| visitor.visit_seq(elements)),
            Token::Map(left) => self.elements(left, |elements| visitor.visit_map(elements)),
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
        if self.holds && !self.nested.reader.take_nil() {
            return Err(Bad("a variant that holds nothing has something".to_owned()));
        }
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Bad> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Bad> {
        de::Deserializer::deserialize_any(self.content()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Bad> {
        de::Deserializer::deserialize_any(self.content()?, visitor)
    }
}

impl<'a, 'de> Variant<'a, 'de> {
    /// Before what the variant holds. Behind a name alone stands the next key, or value, of what it is part of.
    fn content(self) -> Result<&'a mut Deserializer<'de>, Bad> {
        match self.holds {
            true => Ok(self.nested),
            false => Err(Bad("a variant that holds something has nothing".to_owned())),
        }
    }
}
