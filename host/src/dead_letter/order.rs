//! What a person asks of the store, the same over HTTP as without a host.

use super::replay::Selection;
use super::store::DeadLetters;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Drop,
    Replay,
}

impl Action {
    /// As it stands in a path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Replay => "replay",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Drop, Self::Replay]
            .into_iter()
            .find(|action| action.name() == name)
    }
}

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    pub letters: Vec<u64>,
    /// `schema.table`
    pub table: Option<String>,
    pub all: bool,
    pub force: bool,
}

impl Order {
    /// `None` where it names nothing, or more than one kind of thing.
    pub fn selection(&self) -> Option<Selection> {
        match (&self.letters[..], &self.table, self.all) {
            ([_, ..], None, false) => Some(Selection::Numbers(self.letters.clone())),
            ([], Some(table), false) => Some(Selection::Table(table.clone())),
            ([], None, true) => Some(Selection::All),
            _ => None,
        }
    }
}

/// Does it, durably, and says what came of it. Blocks for the fsync.
///
/// # Errors
/// As [`DeadLetters::drop_letters`] and [`DeadLetters::request_replay`].
pub fn carry_out(
    letters: &DeadLetters,
    action: Action,
    selection: &Selection,
    force: bool,
) -> Result<Value, Box<Problem>> {
    Ok(match action {
        Action::Drop => {
            let dropped = letters.drop_letters(selection)?;
            let waiting = dropped.waiting.iter();
            let waiting: Vec<Value> = waiting
                .map(|(letter, behind)| json!({ "letter": letter, "behind": behind }))
                .collect();
            json!({ "dropped": dropped.letters, "still_waiting": waiting })
        }
        Action::Replay => {
            let requested = letters.request_replay(selection, force)?;
            json!({
                "request": (!requested.letters.is_empty()).then_some(requested.request),
                "replay": requested.letters,
                "superseded": requested.superseded,
            })
        }
    })
}
