//! Reads a plugin's config, MessagePack, into its type.
//!
//! A deserializer of our own, because of what it doesn't bring along: the general one formats whatever it finds into
//! its errors, numbers with fractions included, which makes up half of a small module.

mod deserialize;
#[cfg(test)]
mod tests;

use crate::{Error, Result};
use deserialize::{Bad, Deserializer};
use rowmill_abi::{Reader, Token};
use serde::de::DeserializeOwned;

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
