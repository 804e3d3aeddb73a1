//! What happens to a plugin in a test: rows, messages, truncates, and the ends of transactions.

use super::sample::Sample;

/// Something that a batch carries, or the end of a transaction. [`events!`](crate::events!) makes a list of them.
///
/// ```
/// use rowmill_plugin::testing::{Event, commit_at, message, truncate};
/// use rowmill_plugin::{events, row};
///
/// let script = events![
///     row! { id: 1 },
///     commit_at(1_700_000_000_000_000),
///     message("audit", "checked"),
///     truncate(["sample"]),
/// ];
/// assert!(matches!(&script[1], Event::Commit { commit_us: Some(_) }));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One image of a row. An update with an old image is two, old first.
    Row(Sample),
    /// A logical message; see [`message`].
    Message {
        /// Whether it belongs to its transaction.
        is_transactional: bool,
        /// Whom it is for.
        prefix: String,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// A truncate; see [`truncate`].
    Truncate {
        /// Names of the tables, without their schema.
        tables: Vec<String>,
        /// `TRUNCATE .. CASCADE`.
        cascades: bool,
        /// `TRUNCATE .. RESTART IDENTITY`.
        restarts_identity: bool,
    },
    /// The transaction ends, committed at this time; see [`commit`] and [`commit_at`]. What comes last is ended anyhow.
    Commit {
        /// In microseconds since 1970; `None` for the host's own, see [`MockHost::at`](super::MockHost::at).
        commit_us: Option<i64>,
    },
}

impl From<Sample> for Event {
    fn from(sample: Sample) -> Self {
        Self::Row(sample)
    }
}

/// A list of [`Event`]s, made of rows and of what [`testing`](crate::testing) has functions for.
///
/// ```
/// use rowmill_plugin::testing::{commit, truncate};
/// use rowmill_plugin::{events, row};
///
/// assert_eq!(events![row! { id: 1 }, commit(), truncate(["sample"])].len(), 3);
/// ```
#[macro_export]
macro_rules! events {
    ($($event:expr),* $(,)?) => {
        [$($crate::testing::Event::from($event)),*]
    };
}

/// A logical message that belongs to its transaction.
///
/// ```
/// use rowmill_plugin::testing::{Event, message};
///
/// assert!(matches!(message("audit", b"\xff"), Event::Message { is_transactional: true, .. }));
/// ```
pub fn message(prefix: &str, content: impl AsRef<[u8]>) -> Event {
    Event::Message {
        is_transactional: true,
        prefix: prefix.to_owned(),
        content: content.as_ref().to_owned(),
    }
}

/// A truncate of tables that rows have come from; a row's table is `sample` unless the test says otherwise.
///
/// ```
/// use rowmill_plugin::testing::{Event, truncate};
///
/// assert!(matches!(truncate(["sample"]), Event::Truncate { cascades: false, .. }));
/// ```
pub fn truncate<'n>(tables: impl IntoIterator<Item = &'n str>) -> Event {
    Event::Truncate {
        tables: tables.into_iter().map(str::to_owned).collect(),
        cascades: false,
        restarts_identity: false,
    }
}

/// The end of a transaction.
///
/// ```
/// use rowmill_plugin::testing::{Event, commit};
///
/// assert_eq!(commit(), Event::Commit { commit_us: None });
/// ```
pub fn commit() -> Event {
    Event::Commit { commit_us: None }
}

/// The end of a transaction that committed at this time, in microseconds since 1970.
///
/// ```
/// use rowmill_plugin::testing::{Event, commit_at};
///
/// assert_eq!(commit_at(0), Event::Commit { commit_us: Some(0) });
/// ```
pub fn commit_at(commit_us: i64) -> Event {
    Event::Commit {
        commit_us: Some(commit_us),
    }
}
