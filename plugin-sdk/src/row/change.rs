//! What a row's change is, and which state of the row is seen.

use rowmill_abi::{image, op};

/// What the change does to its row.
///
/// ```
/// use rowmill_plugin::{Op, Row};
///
/// fn is_new(row: &Row) -> bool {
///     matches!(row.op(), Op::Insert | Op::Read)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new row.
    Insert,
    /// A row has other values.
    Update,
    /// A row is gone.
    Delete,
    /// A row copied by the snapshot.
    Read,
}

impl Op {
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        Some(match u8::try_from(code).ok()? {
            op::INSERT => Self::Insert,
            op::UPDATE => Self::Update,
            op::DELETE => Self::Delete,
            op::READ => Self::Read,
            _ => return None,
        })
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Insert => op::INSERT,
            Self::Update => op::UPDATE,
            Self::Delete => op::DELETE,
            Self::Read => op::READ,
        }
    }
}

/// Which state of the row this is.
///
/// ```
/// use rowmill_plugin::{Image, Row};
///
/// fn is_old(row: &Row) -> bool {
///     row.image() != Image::New
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The row as it is now.
    New,
    /// The whole old row.
    Old,
    /// The key columns of the old row; the others are [`Value::Absent`](crate::Value::Absent).
    OldKey,
}

impl Image {
    pub(crate) fn from_wire(code: u64) -> Option<Self> {
        Some(match u8::try_from(code).ok()? {
            image::NEW => Self::New,
            image::OLD => Self::Old,
            image::OLD_KEY => Self::OldKey,
            _ => return None,
        })
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::New => image::NEW,
            Self::Old => image::OLD,
            Self::OldKey => image::OLD_KEY,
        }
    }
}

/// The transaction that a row is part of.
///
/// ```
/// use rowmill_plugin::Row;
///
/// fn committed_seconds(row: &Row) -> i64 {
///     row.transaction().commit_us / 1_000_000
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) index: u32,
    /// Its number at the source.
    pub xid: u32,
    /// Where it commits in the WAL.
    pub commit_lsn: u64,
    /// Microseconds since 1970.
    pub commit_us: i64,
}
