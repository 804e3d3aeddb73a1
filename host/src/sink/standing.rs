//! How far a target has come by its own word, and what it had before: one that holds less than it did has lost rows that
//! were acknowledged.
//!
//! ```text
//!   target holds     0/30            what it committed last
//!   known            0/50            by the state, stored with the position; in a session by its own commits
//!   stream begins    0/20            nothing is missing: what it lost comes again
//!                    0/40            what committed from 0/30 to 0/40 doesn't come again
//! ```
//!
//! Copied rows and replayed letters come again at no position of the stream. So the commits that bring any are counted at the
//! target: one that has fewer of them has lost some for good, wherever it stands.
//!
//! What is known is what a target has committed, and never a position that others have brought us to: that one moves
//! without rows for this sink, and so without its target.

use super::SinkError;
use crate::batch::Lsn;
use crate::problem::{Exit, Problem};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a person does with a target that isn't what it was. A sink of another name has no position there, and gets a
/// copy; what the source has deleted meanwhile would stay in tables that aren't emptied.
pub(super) const COPIED_ANEW: &str =
    "empty its tables and give the sink another name in pipeline.yaml: it gets a copy of its own";

/// What a target holds of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has never heard of the sink.
    Nothing,
    /// It knows the sink, and has none of the stream's transactions. Copied rows may be there.
    Begun,
    /// Every transaction that commits before it.
    At(Lsn),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no row in rowmill.positions"),
            Self::Begun => f.write_str("a row without a position"),
            Self::At(position) => write!(f, "position {position}"),
        }
    }
}

/// The same, with how many of its commits brought what the stream doesn't bring again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub standing: Standing,
    pub unstreamed: u64,
}

impl From<Standing> for Held {
    /// Of a target that doesn't count.
    fn from(standing: Standing) -> Self {
        Self {
            standing,
            unstreamed: 0,
        }
    }
}

impl Held {
    fn is_less_than(self, other: Self) -> bool {
        self.standing < other.standing || self.unstreamed < other.unstreamed
    }

    /// `it holds this, and held that before`.
    fn beside(self, known: Self) -> String {
        match self.standing < known.standing {
            true => format!("holds {}, and held {} before", self.standing, known.standing),
            false => format!(
                "holds {} commits of copied rows and replayed letters, and held {} before",
                self.unstreamed, known.unstreamed
            ),
        }
    }
}

/// What the target of a sink is known to have committed, through one session and from the sessions before.
#[derive(Debug, Default)]
pub struct Known(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By the sessions before, where they have stored it.
    before: Option<Held>,
    /// Where the session's stream begins: what commits from there on comes again.
    start: Lsn,
    /// Where the slot was made, if that is known: what commits before it never came.
    begun: Option<Lsn>,
    /// Where the source's timeline parts from the one that the target was seen on last.
    parts_at: Option<Lsn>,
    /// By this session; `None` until the target was opened.
    now: Option<Held>,
    has_gone_back: bool,
}

impl Known {
    /// What is known when a session begins, whose stream begins at `start`.
    pub fn new(before: Option<Held>, start: Lsn) -> Self {
        Self(Mutex::new(Inner {
            before,
            start,
            ..Inner::default()
        }))
    }

    /// The slot was made at this position by the state that this is known by.
    #[must_use]
    pub fn since(self, begun: Option<Lsn>) -> Self {
        self.inner().begun = begun;
        self
    }

    /// The target wasn't seen yet since the source's timeline parted here from the one before.
    #[must_use]
    pub fn parted(self, at: Option<Lsn>) -> Self {
        self.inner().parts_at = at;
        self
    }

    /// Whether it is still to be compared with that point.
    pub(super) fn is_parted(&self) -> bool {
        self.inner().parts_at.is_some()
    }

    /// It was compared, and stands on what both timelines have.
    pub(super) fn settled(&self) {
        self.inner().parts_at = None;
    }

    /// Compares a position of the target's own with where the source's timeline parts from the one that it is from.
    ///
    /// # Errors
    /// The target has what never happened at the source, and would take what did for that.
    pub(super) fn on_the_timeline(&self, sink: &str, position: Lsn) -> Result<(), SinkError> {
        match self.inner().parts_at {
            Some(parts_at) if position > parts_at => Err(parted(sink, position, parts_at).into()),
            _ => Ok(()),
        }
    }

    /// What is to be stored: the last that the target has committed.
    pub fn standing(&self) -> Option<Held> {
        let inner = self.inner();
        inner.now.or(inner.before)
    }

    /// Whether the target lost something in this session, which another one may bring again.
    pub fn has_gone_back(&self) -> bool {
        self.inner().has_gone_back
    }

    /// Compares what an opened target holds with what it did. To be called before anything is changed there.
    ///
    /// # Errors
    /// Rows are missing: for good, or for this session, whose stream is beyond them.
    pub(super) fn opened(&self, sink: &str, found: Held) -> Result<(), SinkError> {
        let mut inner = self.inner();
        let start = inner.start;
        let comes_again = |known: Held| {
            found.standing >= known.standing.min(Standing::At(start)) && found.unstreamed >= known.unstreamed
        };
        match (inner.now, inner.before) {
            (Some(known), _) if found.is_less_than(known) => {
                inner.has_gone_back = true;
                let lost = anyhow::anyhow!("the target of sink {sink} {}", found.beside(known));
                return Err(SinkError::Transient(lost));
            }
            (None, Some(known)) if !comes_again(known) => return Err(lost(sink, found, known).into()),
            (None, Some(known)) if found.is_less_than(known) => {
                let (found, known) = (found.standing, known.standing);
                tracing::warn!(sink, %found, %known, %start, "the target has gone back; what it lost comes again");
            }
            // Of an earlier life, or another host's: what committed since then, and before the slot, isn't streamed.
            (None, None) => {
                if let (Standing::At(position), Some(begun)) = (found.standing, inner.begun)
                    && position < begun
                {
                    return Err(missed(sink, found.standing, begun).into());
                }
            }
            _ => {}
        }
        inner.now = Some(found);
        Ok(())
    }

    /// The target has committed this, and keeps it through a crash of its own.
    pub(super) fn reached(&self, standing: Standing) {
        let mut inner = self.inner();
        let now = inner.now.get_or_insert(standing.into());
        now.standing = now.standing.max(standing);
    }

    /// And so many commits of what the stream doesn't bring again.
    pub(super) fn brought(&self, unstreamed: u64) {
        let mut inner = self.inner();
        if let Some(now) = &mut inner.now {
            now.unstreamed = unstreamed;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parted(sink: &str, position: Lsn, parts_at: Lsn) -> Problem {
    let headline = format!("the server's timeline doesn't have the position of sink {sink}");
    let cause = format!(
        "the sink is at {position}, the timelines part at {parts_at}: it has what never happened on this one, and would leave out \
         what commits below its position"
    );
    Problem::new("E0517", Exit::Gap, headline, COPIED_ANEW).with_cause(cause)
}

fn lost(sink: &str, found: Held, known: Held) -> Problem {
    let headline = format!("the target of sink {sink} has lost what it had");
    let cause = format!("it {}: what is missing doesn't come again", found.beside(known));
    Problem::new("E0425", Exit::Sink, headline, COPIED_ANEW).with_cause(cause)
}

fn missed(sink: &str, found: Standing, begun: Lsn) -> Problem {
    let headline = format!("the stream begins behind what the target of sink {sink} holds");
    let cause = format!("it holds {found}, and the slot was made at {begun}: changes from in between are missing");
    Problem::new("E0426", Exit::Sink, headline, COPIED_ANEW).with_cause(cause)
}

#[cfg(test)]
mod tests {
    use super::Standing::{At, Begun, Nothing};
    use super::*;

    /// What becomes of a target that holds this when a session begins, as the code of the problem.
    fn first(found: Standing, before: Option<Standing>, start: u64) -> Option<&'static str> {
        match Known::new(before.map(Held::from), Lsn(start)).opened("warehouse", found.into()) {
            Ok(()) => None,
            Err(SinkError::Definite(problem)) => Some(problem.code),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_target_that_lost_what_doesnt_come_again_is_refused() {
        let lost = Some("E0425");
        let at = |position| At(Lsn(position));
        assert_eq!(first(at(0x30), Some(at(0x50)), 0x40), lost);
        assert_eq!(first(at(0x30), Some(at(0x50)), 0x60), lost);
        assert_eq!(first(Begun, Some(at(0x50)), 0x60), lost);
        assert_eq!(first(Nothing, Some(at(0x50)), 0x60), lost);
        assert_eq!(first(Nothing, Some(Begun), 0x60), lost, "copied rows were there");
    }

    #[test]
    fn one_that_holds_what_it_did_or_gets_it_again_is_taken() {
        let at = |position| At(Lsn(position));
        assert_eq!(
            first(Nothing, None, 0x60),
            None,
            "it is new, or the state is older than this"
        );
        assert_eq!(first(Begun, Some(Begun), 0x60), None);
        assert_eq!(
            first(at(0x50), Some(at(0x50)), 0x90),
            None,
            "others have brought us further"
        );
        assert_eq!(
            first(at(0x70), Some(at(0x50)), 0x60),
            None,
            "its last commits weren't stored"
        );
        assert_eq!(first(at(0x30), Some(at(0x50)), 0x30), None, "the stream begins there");
    }

    #[test]
    fn one_that_lost_commits_of_copied_rows_is_refused_wherever_it_stands() {
        let held = |standing, unstreamed| Held { standing, unstreamed };
        let opened = |found, before| Known::new(Some(before), Lsn(0x30)).opened("warehouse", found);
        let lost = |found, before| match opened(found, before) {
            Err(SinkError::Definite(problem)) => (problem.code, problem.cause.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        let (code, cause) = lost(held(Begun, 3), held(Begun, 5));
        assert_eq!(code, "E0425");
        assert!(cause.contains("it holds 3 commits of copied rows"), "{cause}");
        assert_eq!(lost(held(At(Lsn(0x40)), 4), held(At(Lsn(0x40)), 5)).0, "E0425");
        // The stream brings its own again, and not these.
        assert_eq!(lost(held(At(Lsn(0x30)), 4), held(At(Lsn(0x50)), 5)).0, "E0425");
        opened(held(At(Lsn(0x30)), 5), held(At(Lsn(0x50)), 5)).unwrap();
        opened(held(At(Lsn(0x30)), 6), held(At(Lsn(0x30)), 5)).unwrap();

        let known = Known::new(None, Lsn(0x10));
        known.opened("warehouse", held(Begun, 5)).unwrap();
        known.brought(6);
        assert_eq!(known.standing(), Some(held(Begun, 6)));
        assert!(matches!(
            known.opened("warehouse", held(Begun, 5)),
            Err(SinkError::Transient(_))
        ));
        assert!(known.has_gone_back());
    }

    #[test]
    fn one_that_was_left_before_the_slot_was_made_is_refused() {
        let opened = |found: Standing, before: Option<Standing>, begun| {
            let known = Known::new(before.map(Held::from), Lsn(0x60)).since(begun);
            known.opened("warehouse", Held::from(found))
        };
        let (at, begun) = (|position| At(Lsn(position)), Some(Lsn(0x50)));
        match opened(at(0x40), None, begun) {
            Err(SinkError::Definite(problem)) => assert_eq!(problem.code, "E0426"),
            other => panic!("{other:?}"),
        }
        opened(at(0x50), None, begun).unwrap();
        opened(Begun, None, begun).unwrap();
        opened(at(0x40), None, None).unwrap();
        // It was taken before: nothing has come for it since.
        opened(at(0x40), Some(at(0x40)), begun).unwrap();
    }

    #[test]
    fn one_that_is_beyond_where_the_timelines_part_is_refused_until_it_was_seen_on_the_new_one() {
        let known = Known::new(None, Lsn(0x10)).parted(Some(Lsn(0x30)));
        assert!(known.is_parted());
        match known.on_the_timeline("warehouse", Lsn(0x31)) {
            Err(SinkError::Definite(problem)) => {
                assert_eq!((problem.code, problem.exit), ("E0517", Exit::Gap));
                let cause = problem.cause.unwrap_or_default();
                assert!(cause.contains("at 0/31, the timelines part at 0/30"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        known.on_the_timeline("warehouse", Lsn(0x30)).unwrap();
        known.settled();
        assert!(!known.is_parted());
        known.on_the_timeline("warehouse", Lsn(0x50)).unwrap();
    }

    #[test]
    fn one_that_goes_back_within_a_session_ends_it() {
        let known = Known::new(None, Lsn(0x10));
        known.opened("warehouse", Nothing.into()).unwrap();
        known.reached(Begun);
        known.reached(At(Lsn(0x20)));
        known.opened("warehouse", At(Lsn(0x20)).into()).unwrap();
        assert!(!known.has_gone_back());
        let error = known.opened("warehouse", Begun.into()).unwrap_err();
        assert!(matches!(error, SinkError::Transient(_)), "{error}");
        assert!(known.has_gone_back());
        assert_eq!(
            known.standing(),
            Some(At(Lsn(0x20)).into()),
            "what is stored doesn't go back with it"
        );
    }
}
