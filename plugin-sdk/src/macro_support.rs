//! What the code that the macros write calls.

use crate::projection::{Projection, Selection};
use crate::relation::Relation;
use crate::{Error, Image, Result, Row};
use rowmill_abi::{Reader, Token};

/// The choice of `#[filter(read(..))]`.
pub fn select_read(relation: &Relation, read: &[&str]) -> Result<Projection<()>> {
    let mut selection = Selection::of(relation);
    for column in read {
        selection.read(column)?;
    }
    Ok(selection.with(()))
}

/// Which of the columns that a transform writes are part of the key: the only ones that a key image has.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// A bit for each, in the order in which they are declared. Those beyond 64 count as part of it.
    keys: u64,
}

impl Written {
    fn is_key(self, at: usize) -> bool {
        self.keys.checked_shr(at as u32).is_none_or(|keys| keys & 1 == 1)
    }
}

/// The choice of `#[transform(read(..), write(..))]`. Columns that are written alone aren't read: their old values are
/// nobody's business, and cost what the others do.
pub fn select_write(relation: &Relation, read: &[&str], write: &[&str]) -> Result<Projection<Written>> {
    let mut selection = Selection::of(relation);
    for column in read {
        selection.read(column)?;
    }
    let mut keys = 0;
    for (at, column) in write.iter().enumerate() {
        selection.write(column)?;
        let is_key = relation.column(column).is_some_and(|column| column.key);
        keys |= u64::from(is_key).checked_shl(at as u32).unwrap_or(0);
    }
    Ok(selection.with(Written { keys }))
}

/// Whether nothing that is written has a value in this image: each such column is absent, or it is read as well (so
/// that its new value hangs on the old one) and unchanged.
///
/// `places` has, for each written column, its place among those that are read, where the plugin reads it as well.
#[inline]
pub fn nothing_to_write(row: &Row<'_>, written: Written, places: &[Option<u16>]) -> bool {
    (row.gaps || row.image() == Image::OldKey) && nothing_in_gaps(*row, written, places)
}

#[inline(never)]
fn nothing_in_gaps(row: Row<'_>, written: Written, places: &[Option<u16>]) -> bool {
    places.iter().enumerate().all(|(at, place)| match place {
        Some(place) => row.gap(*place).is_some(),
        // Not shipped. A whole old image lacks what a plugin before this one has stripped from it: then nothing is written
        // there, and the host strips this column too.
        None => row.image() != Image::New && !written.is_key(at),
    })
}

/// Checks that a plugin without a config got none.
pub fn no_config(config: &[u8]) -> Result<()> {
    match Reader::new(config).token()? {
        Token::Nil | Token::Map(0) => Ok(()),
        _ => Err(Error::new("this plugin takes no config")),
    }
}
