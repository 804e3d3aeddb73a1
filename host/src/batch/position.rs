//! Positions in the WAL, transactions, and the ids by which changes are known for ever.

use std::fmt;
use std::str::FromStr;

/// A position in the WAL, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no position of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no WAL position of the form 16/B374D848")]
pub struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let error = || NotAnLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| error())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| error())?;
        Ok(Self((u64::from(high) << 32) | u64::from(low)))
    }
}

/// Which part of its transaction a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    Middle,
    Last,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A transaction of the replication stream.
    Stream,
    /// A unit of the snapshot, delivered at a commit boundary as if it were a transaction.
    Copy(CopyUnit),
    /// A change that had been set aside and is sent again.
    Replay(Replay),
}

/// A change that is sent again, out of its place: commit LSN, xid and ordinal are those that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Which replay it was sent by first: it keeps its id however often it takes until it has arrived.
    pub request: u32,
    pub letter: u64,
    /// The unit that it was copied with, where it was.
    pub copy: Option<CopyUnit>,
}

/// A unit of the snapshot. Its numbers stay the same however often it is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CopyUnit {
    /// Which copy of the table: 1 for the first, one more for each resync.
    pub epoch: u32,
    pub table_oid: u32,
    pub unit: u32,
}

impl CopyUnit {
    /// The number of the unit that has no rows, but empties the table at the targets.
    pub const EMPTYING: u32 = u32::MAX;

    pub fn emptying(epoch: u32, table_oid: u32) -> Self {
        Self {
            epoch,
            table_oid,
            unit: Self::EMPTYING,
        }
    }
}

/// A transaction, or the part of one that a batch holds.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    /// The top-level transaction id; 0 for a copied unit.
    pub xid: u32,
    /// Where the commit record begins. For a copied unit, the stream's position that it was merged at.
    pub commit_lsn: Lsn,
    /// Where the commit record ends: the position that may be acknowledged. `Lsn(0)` before the last part, and for
    /// what moves no position though it is whole: see [`Self::is_aside`].
    pub end_lsn: Lsn,
    /// Commit time in µs since 2000-01-01 UTC.
    pub commit_us: i64,
    pub part: Part,
    pub origin: Origin,
}

impl Transaction {
    /// Whether it is delivered out of its place: a message that belongs to no transaction, changes that waited until
    /// their table was copied, or changes that had been set aside. A sink's position says nothing of it.
    pub fn is_aside(&self) -> bool {
        self.part == Part::Whole && self.end_lsn == Lsn(0)
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.part, Part::Whole | Part::Last)
    }
}

/// The id by which a change is known at every sink, for ever: `system:commit LSN:ordinal:fan-out` for a streamed
/// change, `system:copy epoch-table-unit:row:fan-out` for a copied row, `system:replay request-letter:ordinal:fan-out`
/// for one that is sent again: never the id that it had, by which a sink may know it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId {
    pub system_identifier: u64,
    pub commit_lsn: Lsn,
    pub origin: Origin,
    pub ordinal: u64,
    pub fan_out: u16,
}

impl RowId {
    /// Of a streamed change, as it is written.
    pub fn streamed(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let system_identifier = parts.next()?.parse().ok()?;
        let commit_lsn = Lsn(u64::from_str_radix(parts.next()?, 16).ok()?);
        let (ordinal, fan_out) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self {
            system_identifier,
            commit_lsn,
            origin: Origin::Stream,
            ordinal,
            fan_out,
        })
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Stream => {
                write!(
                    f,
                    "{}:{:X}:{}:{}",
                    self.system_identifier, self.commit_lsn.0, self.ordinal, self.fan_out
                )
            }
            Origin::Copy(CopyUnit { epoch, table_oid, unit }) => {
                let (system, row, fan_out) = (self.system_identifier, self.ordinal, self.fan_out);
                write!(f, "{system}:copy{epoch}-{table_oid}-{unit}:{row}:{fan_out}")
            }
            Origin::Replay(Replay { request, letter, .. }) => {
                let (system, row, fan_out) = (self.system_identifier, self.ordinal, self.fan_out);
                write!(f, "{system}:replay{request}-{letter}:{row}:{fan_out}")
            }
        }
    }
}
