//! What the code that the macros write calls.

use crate::projection::{Projection, Selection};
use crate::relation::Relation;
use crate::{Error, Result, Row};
use rowmill_abi::{Reader, Token, ext};

/// The choice of `#[filter(read(..))]`.
pub fn select_read(relation: &Relation, read: &[&str]) -> Result<Projection<()>> {
    let mut selection = Selection::of(relation);
    for column in read {
        selection.read(column)?;
    }
    Ok(selection.with(()))
}

/// The choice of `#[transform(read(..), write(..))]`: written columns are read too, behind the others.
pub fn select_write(relation: &Relation, read: &[&str], write: &[&str]) -> Result<Projection<()>> {
    let mut selection = Selection::of(relation);
    for column in read.iter().chain(write) {
        selection.read(column)?;
    }
    for column in write {
        selection.write(column)?;
    }
    Ok(selection.with(()))
}

/// Whether nothing that is written has a value in this image: each such column is absent, or it is read as well (so
/// that its new value hangs on the old one) and unchanged.
///
/// `written` are places among the columns read, with whether the plugin reads them itself.
#[inline]
pub fn nothing_to_write(row: &Row<'_>, written: &[(u16, bool)]) -> bool {
    row.gaps
        && written.iter().all(|(position, is_read)| match row.gap(*position) {
            Some(ext::ABSENT) => true,
            Some(ext::UNCHANGED) => *is_read,
            _ => false,
        })
}

/// Checks that a plugin without a config got none.
pub fn no_config(config: &[u8]) -> Result<()> {
    match Reader::new(config).token()? {
        Token::Nil | Token::Map(0) => Ok(()),
        _ => Err(Error::new("this plugin takes no config")),
    }
}
