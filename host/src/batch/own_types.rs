//! Types that a source defines itself, where values of them travel in binary form.

use rustc_hash::FxHashMap;

/// What the binary form of a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnType {
    /// An enum's: the label's text.
    Enum,
    /// A domain's: the form of the type under it, at the end of a chain of them.
    Under(u32),
}

/// By the source's OIDs. Enums, and domains whatever is under them; all others are what their OID says, or aren't known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTypes(FxHashMap<u32, OwnType>);

impl OwnTypes {
    const TEXT: u32 = 25;

    pub fn of(&self, oid: u32) -> Option<OwnType> {
        self.0.get(&oid).copied()
    }

    /// The type by whose form the values of this one are read.
    #[inline]
    pub fn read_as(&self, oid: u32) -> u32 {
        match self.of(oid) {
            Some(OwnType::Enum) => Self::TEXT,
            Some(OwnType::Under(under)) => under,
            None => oid,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }
}

impl FromIterator<(u32, OwnType)> for OwnTypes {
    fn from_iter<T: IntoIterator<Item = (u32, OwnType)>>(types: T) -> Self {
        Self(types.into_iter().collect())
    }
}
