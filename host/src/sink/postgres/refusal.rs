//! What the target refuses: found, settled by the sink's policy, or told with the row that it is.

use super::apply::{Applier, Work};
use super::error::{self, Change};
use super::target::qualified;
use crate::batch::{Op, Origin};
use crate::config::OnConflict;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkError, driver};
use std::ops::Range;
use tokio_postgres::Error;

/// Set before each delivery, and before each part of one that is applied again.
const SAVEPOINT: &str = "SAVEPOINT rowmill_part";
const RELEASE: &str = "RELEASE SAVEPOINT rowmill_part";
pub(super) const BACK: &str = "ROLLBACK TO SAVEPOINT rowmill_part";

/// Begins a target transaction.
pub(super) const BEGIN: &str = "BEGIN; SAVEPOINT rowmill_part";
/// Begins one beside others of the same sink. They wait for each other where the server sees no deadlock: one holds what
/// another needs until that one is done, too.
pub(super) const BEGIN_BESIDE: &str = "BEGIN; SET LOCAL lock_timeout = '10s'; SAVEPOINT rowmill_part";
/// Goes on behind [`BACK`], with the savepoint that is still set.
pub(super) const AGAIN: &str = "SELECT";
/// Goes on with one.
pub(super) const NEXT: &str = "RELEASE SAVEPOINT rowmill_part; SAVEPOINT rowmill_part";
/// Ends a target transaction. Where something in it has failed unseen, the server's answer to COMMIT is that it has rolled
/// back, which is no error, and not told by the client. What stands before it in the same message is one there, and then
/// COMMIT isn't tried.
pub(super) const COMMIT: &str = "SELECT; COMMIT";

impl Applier {
    /// Takes back what was done since the last savepoint, which stays set.
    pub(super) async fn take_back(&mut self, work: Work<'_>, first: usize) -> Result<(), SinkError> {
        self.execute(work, first, BACK).await
    }

    async fn execute(&mut self, work: Work<'_>, first: usize, text: &str) -> Result<(), SinkError> {
        let done = work.client.batch_execute(text).await;
        done.map_err(|error| refused(work, first, &error))
    }

    /// Applies rows of which some are refused: halves them until the one that is refused is alone. The order stays.
    pub(super) async fn apply_in_parts(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        let before = self.passed_over;
        let error = match self.apply_in_order(work, range.clone(), SAVEPOINT, true).await {
            Ok(()) => return self.execute(work, range.start, RELEASE).await,
            Err(error) => error,
        };
        self.passed_over = before;
        self.tail = None;
        // Whatever it is: who goes back behind this means the savepoint that all of the rows began with, not this one of
        // the same name.
        self.take_back(work, range.start).await?;
        self.execute(work, range.start, RELEASE).await?;
        if !error::is_refusal(&error) {
            return Err(error);
        }
        let middle = middle(work, &range);
        if middle == range.end {
            return self.settle(work, range.start, error);
        }
        Box::pin(self.apply_in_parts(work, range.start..middle)).await?;
        Box::pin(self.apply_in_parts(work, middle..range.end)).await
    }

    fn settle(&mut self, work: Work<'_>, at: usize, error: SinkError) -> Result<(), SinkError> {
        match error {
            SinkError::Definite(problem) if problem.code == error::CONFLICT && self.conflict == OnConflict::Skip => {
                self.passed_over.conflicts += 1;
                Ok(())
            }
            SinkError::Definite(problem) => {
                self.refused = Some(at);
                Err(named(work, at, *problem).into())
            }
            other => Err(other),
        }
    }
}

/// Where rows are halved; their end where they can't be. Parts of one truncate stay together.
fn middle(work: Work<'_>, range: &Range<usize>) -> usize {
    let is_one = |at: usize| {
        let (one, next) = (&work.rows[at - 1], &work.rows[at]);
        let same = (one.transaction, one.ordinal) == (next.transaction, next.ordinal);
        same && one.op == Op::Truncate && next.op == Op::Truncate
    };
    let half = range.start + range.len() / 2;
    let before = (range.start + 1..=half).rev().find(|at| !is_one(*at));
    let behind = || (half + 1..range.end).find(|at| !is_one(*at));
    match range.len() {
        1 => range.end,
        _ => before.or_else(behind).unwrap_or(range.end),
    }
}

/// Adds which row it is.
pub(super) fn named(work: Work<'_>, at: usize, problem: Problem) -> Problem {
    let row = &work.rows[at];
    let transaction = work.batch.transaction(row);
    let id = driver::stopped_at(work.context, work.batch, row);
    let cause = problem.cause.clone().unwrap_or_default();
    let mut problem = problem.with_cause(format!("{cause}, row {id}"));
    if transaction.origin == Origin::Stream && !transaction.is_aside() && row.op.is_of_a_table() {
        let (sink, help) = (&work.context.sink, &mut problem.help);
        *help = format!(
            "{help}; where its route leads to no other sink, `rowmill dead-letter add {sink} {id}` sets this row alone aside"
        );
    }
    problem
}

pub(super) fn refused(work: Work<'_>, first: usize, error: &Error) -> SinkError {
    let row = &work.rows[first];
    let transaction = work.batch.transaction(row);
    let relation = work.batch.relations.get(row.relation as usize);
    let change = Change {
        table: relation.map_or_else(String::new, |relation| relation.full_name()),
        commit_lsn: transaction.commit_lsn,
        streamed: transaction.origin == Origin::Stream && !transaction.is_aside(),
    };
    error::of_change(error, work.context, Some(&change))
}

/// A column that the target lets nobody update has another value at the source.
pub(super) fn regiven(work: Work<'_>, first: usize) -> Problem {
    let row = &work.rows[first];
    let relation = work.batch.relation(row);
    let headline = format!(
        "{} at sink {} refuses a change",
        relation.full_name(),
        work.context.sink
    );
    let help = format!(
        "ALTER TABLE {} ALTER COLUMN .. SET GENERATED BY DEFAULT at the target, then start again",
        qualified(relation)
    );
    let position = work.batch.transaction(row).commit_lsn;
    Problem::new(error::REFUSED, Exit::Sink, headline, help).with_cause(format!(
        "an update at {position} gives an identity column another value, and at the target it is GENERATED ALWAYS"
    ))
}

/// A row that entered a filtered set without the values that the change left alone, and that the target never had.
pub(super) fn incomplete(work: Work<'_>, first: usize) -> Problem {
    let relation = work.batch.relation(&work.rows[first]);
    let table = relation.full_name();
    let headline = format!("a row of {table} came into the set without all of its values");
    let help = format!(
        "ALTER TABLE {} REPLICA IDENTITY FULL at the source, then remove the pipeline and start it anew",
        qualified(relation)
    );
    let position = work.batch.transaction(&work.rows[first]).commit_lsn;
    // Which of several it is isn't known, and all are of one kind.
    driver::stopped_at(work.context, work.batch, &work.rows[first]);
    Problem::new("E0413", Exit::Sink, headline, help).with_cause(format!(
        "an update at {position} left a TOASTed column alone, and sink {} doesn't have the row",
        work.context.sink
    ))
}
