//! What filters and transforms answer, so that the rest need not know which of them it has.

use super::outcome::Outcome;
use super::replies::{Sent, read_outcomes, read_verdicts};
use super::sample::Sample;
use crate::guest::{FilterPlugin, Plugin, TransformPlugin};
use crate::{Error, Filter, Result, Transform};
use rowmill_abi::{Malformed, Reader};
use std::fmt::Debug;

/// A plugin whose replies can be read.
pub trait Answers: Plugin {
    /// What becomes of an event.
    type Answer: Clone + Debug + PartialEq;

    /// Reads the reply to a batch.
    #[doc(hidden)]
    fn read(reply: Reader<'_>, sent: &[Sent<'_>]) -> Result<Vec<Self::Answer>, Malformed>;
    /// Of what the plugin isn't shown: a row, or a truncate or message.
    #[doc(hidden)]
    fn passed(row: Option<&Sample>) -> Self::Answer;
    /// Of a row of a table that it drops.
    #[doc(hidden)]
    fn dropped() -> Self::Answer;
    #[doc(hidden)]
    fn rejected(error: Error) -> Self::Answer;
}

impl<F: Filter> Answers for FilterPlugin<F> {
    type Answer = Result<bool>;

    fn read(reply: Reader<'_>, sent: &[Sent<'_>]) -> Result<Vec<Self::Answer>, Malformed> {
        let mut verdicts = read_verdicts(reply, sent.len())?;
        // The host looks at no bit of a truncate: it goes on.
        for (verdict, _) in verdicts.iter_mut().zip(sent).filter(|(_, sent)| sent.is_truncate) {
            if verdict.is_ok() {
                *verdict = Ok(true);
            }
        }
        Ok(verdicts)
    }

    fn passed(_: Option<&Sample>) -> Self::Answer {
        Ok(true)
    }

    fn dropped() -> Self::Answer {
        Ok(false)
    }

    fn rejected(error: Error) -> Self::Answer {
        Err(error)
    }
}

impl<T: Transform> Answers for TransformPlugin<T> {
    type Answer = Outcome;

    fn read(reply: Reader<'_>, sent: &[Sent<'_>]) -> Result<Vec<Self::Answer>, Malformed> {
        read_outcomes(reply, sent)
    }

    fn passed(row: Option<&Sample>) -> Self::Answer {
        row.map_or(Outcome::Passed, |row| Outcome::Row(row.clone()))
    }

    fn dropped() -> Self::Answer {
        Outcome::Dropped
    }

    fn rejected(error: Error) -> Self::Answer {
        Outcome::Rejected(error)
    }
}
