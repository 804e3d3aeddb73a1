//! Whether a server has the history that the stored position belongs to.
//!
//! A copy of a data folder (a restored volume, a clone) has the system identifier, the timeline and the slot of the server
//! that it was made of, and writes on. Once it is past our position nothing in names and positions tells the two apart; a
//! stream from there would leave out in silence what the copy committed before. Its slot tells: it stands where it was
//! when the copy was made, behind our position. So the server still has what lies between, and is asked what that is:
//!
//! ```text
//!   slot          our last commit     our position
//!   --|--------------|------------------|--------->  the server that it was: the same commit, and none behind it
//!   --|---------|----------|--------|------------->  a copy that went on: others
//! ```
//!
//! Commits are compared by where they begin and end, and by their time to the microsecond. Only those count that bring rows:
//! whether the server sends others depends on how it is asked.
//!
//! A server's crash puts its slot back, too. Then the same commit is there, and nothing is wrong.
//!
//! A COMMIT PREPARED whose rows were sent before the slot's position comes without them. Whether it brought any isn't known
//! then: it may be our last commit, and is passed over where it isn't.

use super::positions::gap;
use super::{SlotState, Stored};
use crate::batch::Lsn;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};

/// A commit of the stream, and nothing of what it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Where its record begins, and ends.
    pub lsn: u64,
    pub end_lsn: u64,
    /// Microseconds since 2000-01-01 UTC.
    pub time_us: i64,
}

impl Commit {
    pub fn end(&self) -> Lsn {
        Lsn(self.end_lsn)
    }
}

/// A commit that the slot would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundCommit {
    pub commit: Commit,
    /// Else it may have brought some at its PREPARE.
    pub brings_rows: bool,
}

/// What is known of the last commit with rows before a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastCommit {
    /// The one that is stored.
    Same,
    Is(Commit),
    /// It isn't known: nothing can be compared with it.
    Unknown,
}

/// Whether the server has sent, from where its slot stands, what lies before our position: worth to be asked for.
pub fn is_in_question(stored: &Stored, slot: &SlotState) -> bool {
    slot.confirmed_flush < stored.lsn
}

/// Compares `last`, the last commit with rows before our position, with `found`: the commits with rows that the slot would
/// send up to there.
pub fn compare_history(stored: &Stored, slot: &SlotState, last: Commit, found: &[FoundCommit]) -> Result<(), Problem> {
    let expected = (Lsn(last.lsn) >= slot.confirmed_flush).then_some(last);
    let counts = |found: &&FoundCommit| found.brings_rows || Some(found.commit) == expected;
    let before = found.iter().filter(counts).map(|found| found.commit);
    let before = before.filter(|commit| commit.end() <= stored.lsn);
    let newest = before.max_by_key(|commit| commit.lsn);
    if newest == expected {
        return Ok(());
    }
    let told = |commit: Option<Commit>, none: &str| {
        commit.map_or_else(
            || none.to_owned(),
            |commit| format!("the one that ends at {}", commit.end()),
        )
    };
    let headline = format!("the server has another history before our position {}", stored.lsn);
    let cause = format!(
        "the last transaction before it was {}, here it is {}: this is a copy of the server that went on by itself",
        told(expected, &format!("before {}", slot.confirmed_flush)),
        match (newest, expected) {
            (Some(found), Some(expected)) if found.end_lsn == expected.end_lsn =>
                "another one of the same place".into(),
            _ => told(newest, "none"),
        }
    );
    Err(gap("E0518", headline, cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Identity;

    fn commit(lsn: u64, time_us: i64) -> Commit {
        Commit {
            lsn,
            end_lsn: lsn + 0x30,
            time_us,
        }
    }

    fn compared(position: u64, confirmed: u64, last: Commit, found: &[Commit]) -> Option<&'static str> {
        let found: Vec<FoundCommit> = found.iter().map(|commit| with_rows(*commit, true)).collect();
        compared_with(position, confirmed, last, &found)
    }

    fn with_rows(commit: Commit, brings_rows: bool) -> FoundCommit {
        FoundCommit { commit, brings_rows }
    }

    fn compared_with(position: u64, confirmed: u64, last: Commit, found: &[FoundCommit]) -> Option<&'static str> {
        let stored = Stored {
            identity: Identity {
                pipeline: "shop".into(),
                system_identifier: 1,
                timeline: 1,
                began: None,
                database: "source".into(),
                slot: "rowmill_shop".into(),
                publication: "rowmill_shop".into(),
            },
            lsn: Lsn(position),
        };
        let slot = SlotState {
            confirmed_flush: Lsn(confirmed),
            restart_lsn: Some(Lsn(0x10)),
            wal_status: None,
            plugin: "pgoutput".into(),
            database: "source".into(),
        };
        assert!(is_in_question(&stored, &slot));
        compare_history(&stored, &slot, last, found)
            .err()
            .map(|problem| problem.code)
    }

    #[test]
    fn the_same_commit_is_the_same_history() {
        let (first, last) = (commit(0x1000, 5), commit(0x2000, 6));
        assert_eq!(compared(0x2030, 0x900, last, &[last, first]), None);
        assert_eq!(
            compared(0x9000, 0x900, last, &[first, last]),
            None,
            "a silent time behind it"
        );
        let behind = commit(0x9000, 9);
        assert_eq!(
            compared(0x9000, 0x900, last, &[first, last, behind]),
            None,
            "not before it"
        );
        assert_eq!(compared(0x9000, 0x2030, last, &[]), None, "the slot is past it");
    }

    #[test]
    fn commits_whose_rows_came_before_are_ours_or_passed_over() {
        let (last, bare) = (commit(0x2000, 6), commit(0x3000, 7));
        let rowless = |commit| with_rows(commit, false);
        let of = |found: &[FoundCommit]| compared_with(0x9000, 0x900, last, found);
        assert_eq!(of(&[rowless(last)]), None, "its rows came at its PREPARE");
        assert_eq!(of(&[rowless(bare), with_rows(last, true)]), None);
        assert_eq!(of(&[rowless(bare)]), Some("E0518"), "ours isn't there");
        assert_eq!(of(&[with_rows(bare, true), rowless(last)]), Some("E0518"));
        assert_eq!(
            compared_with(0x9000, 0x2030, last, &[rowless(bare)]),
            None,
            "while we were idle"
        );
    }

    #[test]
    fn a_copy_that_went_on_is_told_by_its_commits() {
        let last = commit(0x2000, 6);
        for found in [
            &[][..],
            &[commit(0x1ff8, 6)],
            &[commit(0x2000, 7)],
            &[last, commit(0x3000, 7)],
        ] {
            assert_eq!(compared(0x9000, 0x900, last, found), Some("E0518"), "{found:?}");
        }
        assert_eq!(
            compared(0x9000, 0x2030, last, &[commit(0x3000, 7)]),
            Some("E0518"),
            "while we were idle"
        );
    }
}
