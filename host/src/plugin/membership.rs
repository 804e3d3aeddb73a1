//! A filter says which rows belong to a set. What that makes of a change follows from whether its row belonged before
//! and belongs now, as with Postgres' own row filters.
//!
//! | old image      | new matches | new doesn't    |
//! | -------------- | ----------- | -------------- |
//! | matches        | update      | delete         |
//! | doesn't        | insert      | nothing        |
//! | can't be judged| upsert      | delete by key  |
//!
//! So a filtered target never keeps a row that left the set.

use crate::batch::Op;
use crate::config::FilterMode;

/// What the filter says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Match,
    NoMatch,
    /// There is no such image, or it lacks a column that the filter reads.
    Unjudged,
}

/// What becomes of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on as it is.
    Pass,
    Drop,
    Insert,
    Upsert,
    /// Of the row in the old image.
    Delete,
    /// Of the row whose key the new image has, unless there is an old image with another one.
    DeleteByKey,
}

#[inline]
pub(crate) fn fate(mode: FilterMode, op: Op, old: Verdict, new: Verdict) -> Fate {
    use Verdict::{Match, NoMatch, Unjudged};
    match (op, mode) {
        (Op::Truncate, _) => Fate::Pass,
        (Op::Message, _) => pass_if(new != NoMatch),
        (Op::Insert | Op::Read, _) => pass_if(new == Match),
        // A delete that can't be judged is passed on: deleting what isn't there does no harm.
        (Op::Delete, _) => pass_if(old != NoMatch),
        (Op::Update | Op::Upsert, FilterMode::Event) => pass_if(new == Match),
        (Op::Update | Op::Upsert, FilterMode::Membership) => match (old, new == Match) {
            (Match, true) => Fate::Pass,
            (Match, false) => Fate::Delete,
            // An earlier filter could not tell whether the row is there, so it stays an upsert.
            (NoMatch | Unjudged, true) if op == Op::Upsert => Fate::Upsert,
            (NoMatch, true) => Fate::Insert,
            (NoMatch, false) => Fate::Drop,
            (Unjudged, true) => Fate::Upsert,
            (Unjudged, false) => Fate::DeleteByKey,
        },
    }
}

fn pass_if(passes: bool) -> Fate {
    if passes { Fate::Pass } else { Fate::Drop }
}

#[cfg(test)]
mod tests {
    use super::Fate::*;
    use super::Verdict::*;
    use super::*;

    /// Every operation with every pair of verdicts that it can have.
    #[test]
    fn every_case() {
        let table = [
            // op, old, new, membership, event
            (Op::Insert, Unjudged, Match, Pass, Pass),
            (Op::Insert, Unjudged, NoMatch, Drop, Drop),
            (Op::Read, Unjudged, Match, Pass, Pass),
            (Op::Read, Unjudged, NoMatch, Drop, Drop),
            (Op::Update, Match, Match, Pass, Pass),
            (Op::Update, Match, NoMatch, Delete, Drop),
            (Op::Update, NoMatch, Match, Insert, Pass),
            (Op::Update, NoMatch, NoMatch, Drop, Drop),
            (Op::Update, Unjudged, Match, Upsert, Pass),
            (Op::Update, Unjudged, NoMatch, DeleteByKey, Drop),
            (Op::Upsert, Match, Match, Pass, Pass),
            (Op::Upsert, Match, NoMatch, Delete, Drop),
            (Op::Upsert, NoMatch, Match, Upsert, Pass),
            (Op::Upsert, NoMatch, NoMatch, Drop, Drop),
            (Op::Upsert, Unjudged, Match, Upsert, Pass),
            (Op::Upsert, Unjudged, NoMatch, DeleteByKey, Drop),
            (Op::Delete, Match, Unjudged, Pass, Pass),
            (Op::Delete, NoMatch, Unjudged, Drop, Drop),
            (Op::Delete, Unjudged, Unjudged, Pass, Pass),
            (Op::Truncate, Unjudged, Unjudged, Pass, Pass),
            (Op::Truncate, Unjudged, NoMatch, Pass, Pass),
            (Op::Message, Unjudged, Unjudged, Pass, Pass),
            (Op::Message, Unjudged, Match, Pass, Pass),
            (Op::Message, Unjudged, NoMatch, Drop, Drop),
        ];
        for (op, old, new, membership, event) in table {
            assert_eq!(
                fate(FilterMode::Membership, op, old, new),
                membership,
                "{op:?} {old:?} {new:?}"
            );
            assert_eq!(
                fate(FilterMode::Event, op, old, new),
                event,
                "{op:?} {old:?} {new:?}, event"
            );
        }
    }
}
