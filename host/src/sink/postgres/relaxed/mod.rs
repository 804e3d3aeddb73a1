//! Several connections that write at the same time (`transactions: relaxed`).
//!
//! ```text
//!   window        a1 b1 | c1 a2 | b2 d1          rows of three source transactions
//!   connection 1  BEGIN  a1 a2 d1                  COMMIT + position        (last)
//!   connection 2  BEGIN  b1 c1 b2  COMMIT + share                           (first)
//! ```
//!
//! Rows are divided by their table and key (`division`), so that the changes of a key stay in order on one connection.
//! Whole tables go to one where keys don't tell rows apart: without a key, with another unique index or exclusion
//! constraint, with a key of a type that has several texts for a value, and with triggers that act; these are all the
//! first's, as triggers may write to each other's tables. Foreign keys don't act on what arrives; where the role may not
//! see to that, nothing is divided.
//!
//! What concerns several shares is applied by the first connection alone, with its whole transaction, when the others
//! have committed: TRUNCATE, changes of a key that lead to another share, letters that are sent again. So is what some
//! connection was refused, and what one waits too long for a lock for, as only another of them may hold it. Few rows
//! aren't worth it either. Copied rows without a key can't be found again: they are committed with all of their window, by one.
//!
//! **Exactly once.** The other connections commit first, each with a row of `rowmill.shares` that says before what change
//! all of its share is there. The first commits last, with the sink's position, as ever. So after a crash the position
//! is behind what all have, and a share may be ahead of it (`ahead`): its rows up to there are left out when they come
//! again, found by the division that is written beside its position. Until the position is behind all of that, the
//! first connection works alone, so that there is never more than one division to remember. A session begins when the
//! connections of those before it have ended, which all hold a lock.
//!
//! A large transaction is divided as it comes, and committed in the midst only where some of its rows have to be applied
//! alone: bounds are a commit LSN and an ordinal.

mod ahead;
mod connection;
mod division;

pub(super) use ahead::{Ahead, Bound};

use super::apply::{Applier, PassedOver, Work};
use super::connection::Predecessor;
use super::facts::Failed;
use super::pipeline::Pipeline;
use super::position::Identity;
use super::{error, refusal};
use crate::batch::{Origin, Row};
use crate::config;
use crate::sink::{SinkContext, SinkError};
use connection::Connection;
use division::{Division, Undivided, Ways};
use futures_util::future::join_all;
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};

/// Rows from which on they are divided: a further commit costs as much as some hundred. Tests have fewer.
const ROWS_MIN: usize = if cfg!(test) { 5 } else { 200 };
/// How long one works alone after connections have waited for each other: it costs the wait to find out again.
const REST: Duration = Duration::from_secs(300);

pub(super) struct Relaxed {
    /// Those of the shares from 1 on; share 0 is the session's own.
    others: Vec<Connection>,
    update: Statement,
    /// What holds since the last commit.
    division: Division,
    /// Whether a divided target transaction is open.
    pub(super) open: bool,
    resting: Option<Instant>,
}

/// Rows in pieces.
pub(super) struct Cut {
    /// Which rows, and whether they are divided.
    pub(super) pieces: Vec<(Range<usize>, bool)>,
    /// The share of each row, from `start` on.
    places: Vec<Result<Option<usize>, Undivided>>,
    start: usize,
}

impl Cut {
    /// All of them alone.
    pub(super) fn alone(rows: Range<usize>) -> Self {
        Self {
            pieces: vec![(rows.clone(), false)],
            places: Vec::new(),
            start: rows.start,
        }
    }

    /// Which row of a piece is the share's row of this number.
    fn row_of(&self, piece: &Range<usize>, share: usize, number: usize) -> Option<usize> {
        let mut of_share = piece
            .clone()
            .filter(|row| matches!(self.places.get(row - self.start), Some(Ok(Some(at))) if *at == share));
        of_share.nth(number)
    }

    fn shares(&self, rows: &[Row], piece: Range<usize>, connections: usize) -> Vec<Vec<Row>> {
        let guessed = piece.len() / connections + piece.len() / 8;
        let mut shares = Vec::with_capacity(connections);
        shares.resize_with(connections, || Vec::with_capacity(guessed));
        let places = &self.places[piece.start - self.start..piece.end - self.start];
        for (row, place) in rows[piece].iter().zip(places) {
            if let Ok(Some(share)) = place {
                shares[*share].push(*row);
            }
        }
        shares
    }
}

impl Relaxed {
    /// `client` is the session's own, the first of `connections`.
    pub(super) async fn open(
        client: &Client,
        connections: usize,
        config: &config::PostgresSink,
        context: &SinkContext,
        predecessors: &mut Vec<Predecessor>,
    ) -> Result<Self, SinkError> {
        let failed = |error| error::of(&error, context);
        let there = "SELECT pg_catalog.to_regclass('rowmill.shares') IS NOT NULL";
        if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
            let made = client.batch_execute(ahead::CREATE).await;
            made.map_err(|error| error::of_making(&error, context))?;
        }
        let mut others = Vec::with_capacity(connections);
        for _ in 1..connections {
            let (other, own) = Connection::open(config, context).await?;
            others.push(other);
            predecessors.push(own);
        }
        Ok(Self {
            others,
            update: client.prepare(ahead::UPDATE).await.map_err(failed)?,
            division: Division::new(connections),
            open: false,
            resting: None,
        })
    }

    #[cfg(test)]
    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.others.iter().map(Connection::client)
    }

    /// Whether so many rows are to be divided.
    pub(super) fn wants(&mut self, rows: usize) -> bool {
        if self.resting.is_some_and(|since| since.elapsed() < REST) {
            return false;
        }
        self.resting = None;
        self.open || rows >= ROWS_MIN
    }

    /// Cuts rows, whose tables have been looked up, into those that are divided and those that are applied alone: as far
    /// as they are there, the whole transactions of changes that concern several shares, and what is too little between
    /// them.
    pub(super) fn cut(&mut self, work: Work<'_>, range: Range<usize>, applier: &Applier) -> Cut {
        self.note_tables(work, range.clone(), applier);
        let ways = self.division.ways(work.batch);
        let rows = &work.rows[range.clone()];
        let places: Vec<Result<Option<usize>, Undivided>> = rows.iter().map(|row| share(work, &ways, row)).collect();
        let mut runs = Vec::new();
        let mut at = 0;
        for transaction in rows.chunk_by(|one, next| one.transaction == next.transaction) {
            let end = at + transaction.len();
            let divided = places[at..end].iter().all(Result::is_ok);
            push(&mut runs, range.start + at..range.start + end, divided);
            at = end;
        }
        let mut pieces = Vec::new();
        for (run, divided) in runs {
            let is_enough = run.len() >= ROWS_MIN;
            push(&mut pieces, run, divided && is_enough);
        }
        Cut {
            pieces,
            places,
            start: range.start,
        }
    }

    /// Notes how the rows' tables are divided.
    fn note_tables(&mut self, work: Work<'_>, range: Range<usize>, applier: &Applier) {
        if !self.open {
            self.division.clear();
        }
        let mut last = None;
        for row in work.rows[range].iter().filter(|row| row.op.is_of_a_table()) {
            if last.replace(row.relation) == Some(row.relation) {
                continue;
            }
            let relation = work.batch.relation(row);
            let name = |slot: u16| {
                let mut columns = relation.columns.iter();
                columns
                    .find(|column| column.slot == slot)
                    .map(|column| column.name.clone())
            };
            if let Some(target) = applier.targets.get(&relation.index) {
                self.division.add(target, name);
            }
        }
    }

    /// Applies the shares, each by its connection. `false` where that can't be: then all of it is taken back, and what
    /// was applied before is still to be committed.
    pub(super) async fn apply(
        &mut self,
        first: &mut Applier,
        work: Work<'_>,
        cut: &Cut,
        piece: Range<usize>,
    ) -> Result<bool, SinkError> {
        self.note_tables(work, piece.clone(), first);
        let shares = cut.shares(work.rows, piece.clone(), 1 + self.others.len());
        let before = first.passed_over;
        let begin = if self.open {
            refusal::NEXT
        } else {
            refusal::BEGIN_BESIDE
        };
        self.open = true;
        let (targets, due) = (first.targets.clone(), first.due.clone());
        let others = self.others.iter_mut().zip(&shares[1..]);
        let others = others.map(|(other, rows)| other.apply(work, rows, &targets, &due));
        let own = apply_own(first, work, &shares[0], begin);
        let (own, others) = tokio::join!(own, join_all(others));
        let began = [first.begun].into_iter();
        let began = began.chain(self.others.iter().map(|other| other.applier.begun));
        let applied = [own].into_iter().chain(others);
        let mut errors = Vec::new();
        for (share, (applied, began)) in applied.zip(began).enumerate() {
            match applied {
                Ok(()) => {}
                Err(error) if began => errors.push(error),
                // It may have broken what it did before, and there is nothing to go back to: the session ends.
                Err(SinkError::Row { row, error }) => {
                    let row = cut.row_of(&piece, share, row).unwrap_or(usize::MAX);
                    return Err(SinkError::Row { row, error });
                }
                Err(error) => return Err(error),
            }
        }
        if errors.is_empty() {
            return Ok(true);
        }
        self.back(first, work, errors, before).await?;
        Ok(false)
    }

    /// Takes back what was applied last, unless it failed for a reason that one connection alone would meet, too.
    pub(super) async fn back(
        &mut self,
        first: &mut Applier,
        work: Work<'_>,
        errors: Vec<SinkError>,
        before: PassedOver,
    ) -> Result<(), SinkError> {
        if errors.iter().any(error::is_blocked) {
            let sink = &work.context.sink;
            tracing::warn!(
                sink,
                "connections of the sink waited for locks: one works alone for a while"
            );
            self.resting = Some(Instant::now());
        }
        for error in errors {
            if !error::is_blocked(&error) && !is_of_a_row(&error) {
                return Err(error);
            }
        }
        first.passed_over = before;
        first.refused = None;
        first.tail = None;
        let back = work.client.batch_execute(refusal::BACK).await;
        back.map_err(|error| error::of(&error, work.context))?;
        for other in &mut self.others {
            other.take_back(work.context).await?;
        }
        Ok(())
    }

    /// The other connections look at tables anew.
    pub(super) fn forget(&mut self) {
        self.others.iter_mut().for_each(|other| other.applier.forget());
    }

    /// Whether another connection than the first has left something to be replied to.
    pub(super) fn has_tail(&self) -> bool {
        self.others.iter().any(|other| other.applier.tail.is_some())
    }

    /// What has become of the other connections' tails.
    pub(super) async fn settle_tails(&mut self, context: &SinkContext) -> Vec<SinkError> {
        let settled = self.others.iter_mut().map(|other| other.applier.settle_tail(context));
        join_all(settled).await.into_iter().filter_map(Result::err).collect()
    }

    /// Commits what the other connections have, with `bound` as their shares' position where there is one.
    pub(super) async fn commit(
        &mut self,
        bound: Option<Bound>,
        identity: &Identity,
        context: &SinkContext,
    ) -> Result<PassedOver, SinkError> {
        let division = &self.division;
        let open = self.others.iter_mut().enumerate().filter(|(_, other)| other.open);
        let commits = open.map(|(at, other)| {
            let share = at + 1;
            let moved = bound.map(|bound| ahead::parameters(identity, (share, share), division, bound));
            other.commit(moved, context)
        });
        let mut passed_over = PassedOver::default();
        for committed in join_all(commits).await {
            let PassedOver { missing, conflicts } = committed?;
            passed_over.missing += missing;
            passed_over.conflicts += conflicts;
        }
        Ok(passed_over)
    }

    /// Moves all shares, in the midst of a transaction: the first connection's commit tells nothing of that elsewhere.
    pub(super) async fn send_all<'a>(
        &'a self,
        client: &'a Client,
        bound: Bound,
        identity: &Identity,
        pipeline: &mut Pipeline<'a, Failed>,
    ) {
        let parameters = ahead::parameters(identity, (0, self.others.len()), &self.division, bound);
        let update = async move { client.execute_raw(&self.update, parameters).await };
        pipeline.send(error::of, update).await;
    }

    /// Everything is committed.
    pub(super) fn settled(&mut self) {
        self.open = false;
        self.division.clear();
    }
}

async fn apply_own(first: &mut Applier, work: Work<'_>, rows: &[Row], begin: &'static str) -> Result<(), SinkError> {
    if rows.is_empty() {
        let begun = work.client.batch_execute(begin).await;
        first.begun = begun.is_ok();
        return begun.map_err(|error| error::of(&error, work.context));
    }
    first.apply(Work { rows, ..work }, 0..rows.len(), begin).await
}

/// Lengthens the last run, or begins another.
fn push(runs: &mut Vec<(Range<usize>, bool)>, rows: Range<usize>, divided: bool) {
    match runs.last_mut() {
        Some((last, same)) if *same == divided => last.end = rows.end,
        _ => runs.push((rows, divided)),
    }
}

fn share(work: Work<'_>, ways: &Ways, row: &Row) -> Result<Option<usize>, Undivided> {
    let transaction = work.batch.transaction(row);
    if matches!(transaction.origin, Origin::Replay(_)) || transaction.is_aside() {
        return Err(Undivided);
    }
    match ways.share(work.batch, row) {
        // What is copied again after a failure must find itself there, or nothing.
        Ok(Some(_)) if transaction.origin != Origin::Stream && !ways.is_by_key(row) => Err(Undivided),
        // Its table is divided by a column that this version of it hasn't: it would be nobody's.
        Ok(None) if row.op.is_of_a_table() => Err(Undivided),
        share => share,
    }
}

/// Whether it is told again, with its row, when the rows are applied alone.
fn is_of_a_row(error: &SinkError) -> bool {
    matches!(error, SinkError::Row { .. } | SinkError::Definite(_))
}
