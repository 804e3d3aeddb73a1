//! What is to be copied, and what is known of a unit that was.

use super::pace::Pace;
use super::visibility::Snapshot;
use super::waiting::WaitingRoom;
use crate::batch::{CopyUnit, Lsn, OwnTypes, Relation};
use crate::decode::Types;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A table to copy.
#[derive(Clone, Debug)]
pub struct TableCopy {
    /// The table with the columns to copy, which are those that the stream sends; generated ones are left out.
    pub relation: Arc<Relation>,
    /// The names of the columns that identify a row, in the order of their index. All of them must be in the old
    /// image of an update that changes one: the replica identity's columns, or with REPLICA IDENTITY FULL the
    /// primary key's. Empty: the table has none, and is copied as one unit.
    pub key: Vec<String>,
    /// Whether it is the root of partitions that are published as the root.
    pub partitioned: bool,
    /// Where its units are ranges of the heap: the number of the file (`pg_relation_filenode`) whose blocks they name. A
    /// [`KeyRange`] is one of `ctid` then. `None`: they are ranges of the key. Where it has no key, they are parts of its
    /// only unit, which several connections read under one snapshot; `None`: one connection reads it.
    pub file: Option<u32>,
    /// Which copy of the table this is, see [`CopyUnit::epoch`]. One that starts over counts on.
    pub epoch: u32,
    /// What the statistics say that it has; `None` where there are none.
    pub rows_estimated: Option<u64>,
    /// What an earlier run has copied of it for good, in the key's order: it isn't read again.
    pub copied: Vec<KeyRange>,
    /// What that was made of.
    pub tally: Tally,
    /// Rows that an earlier run let out before the stream had passed them.
    pub ahead: Vec<Ahead>,
    /// The columns that it had, as `number name type typmod,...` in the order of their numbers: a table that has others
    /// now is another table. `None` takes those that the first unit meets.
    pub shape: Option<String>,
    /// The publication that the table is streamed by: what that withholds of it must be the same for as long as it is
    /// copied. Empty where none is asked.
    pub publication: String,
    /// The targets are emptied before anything else is sent.
    pub empties: bool,
    /// It had other columns not long ago, and the stream may still bring rows that have them: nothing is read before the
    /// stream has passed where the WAL ended at the start.
    pub altered: bool,
    /// Only some sinks lack it: the others get all of the stream. Its units go out behind what they show, however long that
    /// takes, so that little is left out for those.
    pub late: bool,
    /// Whether plugins may keep rows of it from the targets, and let them in later.
    pub filtered: bool,
    /// Where it is read in binary form: the source's types.
    pub types: Option<Arc<Types>>,
    /// Whether its units leave as they are read, in binary form: nothing on their way looks at more than the key, and all
    /// columns are of types whose form is alike everywhere.
    pub straight: bool,
    /// Types of its columns that the source defines itself.
    pub own_types: Arc<OwnTypes>,
    /// What its rows must meet, as SQL: others never leave, since the stream doesn't bring them either.
    pub filter: Option<String>,
    /// What rows must meet to be copied. A row that is read again for the stream's sake need not: the stream brings all.
    pub condition: Option<String>,
}

/// Rows that go out before the stream has passed what they show. Stored before they do, so that a start drops what is in
/// them already, and the target never goes back.
#[derive(Clone, PartialEq, Eq)]
pub struct Ahead {
    pub table_oid: u32,
    /// S and F.
    pub snapshot: Snapshot,
    pub finish: Lsn,
    /// Their keys, which are row values: never shown, never logged.
    pub keys: Vec<Box<[u8]>>,
    /// No unit may bring them again: they were read for a change that came without all of its values, or lie in a block
    /// that another unit has.
    pub repair: bool,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("table_oid", &self.table_oid)
            .field("finish", &self.finish)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub units: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tables: Vec<TableCopy>,
    /// Connections that read units at the same time; at least 1. One more reads rows again.
    pub connections: usize,
    /// Rows of a unit of a table with a key, fewer where rows are large.
    pub unit_rows: usize,
    /// Units that a connection has under way, from their reading until they count; at least 1. What goes through plugins
    /// and sinks and into the ledger takes longer than to read the next: with one, the connection would be idle meanwhile.
    /// A crash costs so many units per connection.
    pub units_under_way: usize,
    /// How long a unit waits for the stream to pass its F. Merged behind F its rows are plain reads that no change is
    /// still to come for; before, changes that it shows are dropped when they come, its rows may have to take others
    /// back (see [`super::Merger::at_boundary`]), and it is only counted once the stream has passed F.
    pub patience: Duration,
    /// How fast it goes.
    pub pace: Arc<Pace>,
    /// Where changes of tables without a key wait until their rows are out.
    pub room: WaitingRoom,
    /// A table has come while the stream ran: the copy begins when all transactions have ended that ran then, those
    /// that are idle too.
    pub patient: bool,
}

/// A range of a key in the order of the server: behind `after`, up to and with `up_to`. Of a heap: of `ctid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub after: Option<Vec<String>>,
    pub up_to: Option<Vec<String>>,
}

/// A part of a table's key that is still to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Its number among the copied ranges and what is beside them: the n-th range has 2n + 1, counted from 0, the gap
    /// before it 2n.
    pub index: u32,
    pub range: KeyRange,
}

/// What is left of a table's key beside these ranges, which are in its order and don't overlap.
pub(super) fn gaps(copied: &[KeyRange]) -> VecDeque<Gap> {
    let gap = |at: usize, after, up_to| Gap {
        index: 2 * at as u32,
        range: KeyRange { after, up_to },
    };
    let mut gaps = VecDeque::new();
    let mut end = None;
    for (at, range) in copied.iter().enumerate() {
        if range.after != end {
            gaps.push_back(gap(at, end.take(), range.after.clone()));
        }
        if range.up_to.is_none() {
            return gaps;
        }
        end.clone_from(&range.up_to);
    }
    gaps.push_back(gap(copied.len(), end, None));
    gaps
}

/// A unit as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRecord {
    pub unit: CopyUnit,
    /// The gap of [`TableCopy::copied`] that it lies in, and its number there, from 1.
    pub place: (u32, u32),
    pub range: KeyRange,
    /// S: what the copied rows show.
    pub snapshot: Snapshot,
    /// F: nothing that S sees committed behind it.
    pub finish: Lsn,
    pub rows: u64,
    pub bytes: u64,
    /// No unit of this copy has a higher number.
    pub last_of_table: bool,
}

/// How far the copy of a table has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProgress {
    pub oid: u32,
    /// `schema.table`.
    pub table: String,
    /// Rows, bytes and units that have gone out.
    pub rows: u64,
    pub bytes: u64,
    pub units: u64,
    /// What the statistics said that it has.
    pub rows_estimated: Option<u64>,
    /// How often it started over because of a TRUNCATE.
    pub restarts: u32,
    /// Whether every unit has gone out.
    pub done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<Vec<String>> {
        (!text.is_empty()).then(|| vec![text.to_owned()])
    }

    fn beside(copied: &[(&str, &str)]) -> Vec<(u32, String, String)> {
        let range = |(after, up_to): &(&str, &str)| KeyRange {
            after: key(after),
            up_to: key(up_to),
        };
        let copied: Vec<KeyRange> = copied.iter().map(range).collect();
        let text = |key: Option<Vec<String>>| key.unwrap_or_default().concat();
        let gaps = gaps(&copied).into_iter();
        gaps.map(|gap| (gap.index, text(gap.range.after), text(gap.range.up_to)))
            .collect()
    }

    #[test]
    fn gaps_are_what_no_copied_range_has() {
        let gap = |index: u32, after: &str, up_to: &str| (index, after.to_owned(), up_to.to_owned());
        assert_eq!(beside(&[]), [gap(0, "", "")]);
        assert_eq!(beside(&[("", "")]), []);
        assert_eq!(beside(&[("", "c")]), [gap(2, "c", "")]);
        assert_eq!(beside(&[("c", "")]), [gap(0, "", "c")]);
        assert_eq!(beside(&[("", "c"), ("c", "e"), ("g", "")]), [gap(4, "e", "g")]);
        let gaps = [gap(0, "", "b"), gap(2, "c", "e"), gap(4, "g", "")];
        assert_eq!(beside(&[("b", "c"), ("e", "g")]), gaps);
    }
}
