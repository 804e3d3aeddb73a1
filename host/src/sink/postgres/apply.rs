//! Applies the runs of a delivery inside the open target transaction.

use super::encode;
use super::error::{self, Change};
use super::pipeline::Pipeline;
use super::run::{Columns, Cutter, Kind, Run};
use super::statement::{self, Sql};
use super::target::Target;
use crate::batch::{Batch, Op, Row};
use crate::sink::{SinkContext, SinkError};
use bytes::Bytes;
use futures_util::SinkExt;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

/// From here on COPY is faster than a statement with arrays, its round trips included.
const COPY_ROWS_MIN: usize = 64;
/// Runs of a table that go as upserts after a COPY met a row that was there; then COPY gets another chance.
const RUNS_WITHOUT_COPY: u32 = 64;
/// Prepared statements kept on both sides before all are let go.
const STATEMENTS_MAX: usize = 500;
/// Looked-up tables kept before all are looked up again.
const TARGETS_MAX: usize = 10_000;

const SAVEPOINT: &str = "SAVEPOINT rowmill_copy";
const RELEASE: &str = "RELEASE SAVEPOINT rowmill_copy";
const BACK: &str = "ROLLBACK TO SAVEPOINT rowmill_copy; RELEASE SAVEPOINT rowmill_copy";

/// Which statement: of which relation, doing what to which columns. `true` for COPY.
type Key = (u32, Kind, Columns, bool);

/// What is known of the target for as long as the connection lasts.
#[derive(Default)]
pub(super) struct Applier {
    targets: FxHashMap<u32, Arc<Target>>,
    statements: FxHashMap<Key, Option<Arc<Prepared>>>,
    /// How many more runs of a relation avoid COPY.
    without_copy: FxHashMap<u32, u32>,
    cutter: Cutter,
    lines: Vec<u8>,
    /// Updates and deletes whose row wasn't there.
    pub(super) missed: u64,
}

struct Prepared {
    sql: Sql,
    statement: Statement,
}

/// What a delivery's rows are applied with.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) client: &'a Client,
    pub(super) context: &'a SinkContext,
    pub(super) batch: &'a Batch,
    pub(super) rows: &'a [Row],
}

/// What an outstanding reply belongs to: a run's first row and how many rows it should have touched.
struct Sent {
    first: usize,
    expected: u64,
}

impl Applier {
    /// Applies `range` of the rows, in order. On return everything has been replied to.
    pub(super) async fn apply(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        self.look_up(work, range.clone()).await?;
        let mut pipeline = Pipeline::new();
        self.apply_as(work, range, Kind::Insert, &mut pipeline).await?;
        self.drain(work, &mut pipeline).await
    }

    async fn look_up(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        if self.targets.len() > TARGETS_MAX {
            self.targets.clear();
        }
        let mut last = None;
        for row in &work.rows[range] {
            if matches!(row.op, Op::Truncate | Op::Message) || last == Some(row.relation) {
                continue;
            }
            last = Some(row.relation);
            let relation = work.batch.relation(row);
            if !self.targets.contains_key(&relation.index) {
                let target = Target::look_up(work.client, relation, work.context).await?;
                self.targets.insert(relation.index, Arc::new(target));
            }
        }
        Ok(())
    }

    async fn apply_as<'a>(
        &mut self,
        work: Work<'a>,
        range: Range<usize>,
        insert: Kind,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let mut at = range.start;
        loop {
            let cut = self
                .cutter
                .next(work.batch, work.rows, at..range.end, &self.targets, insert);
            let Some(run) = cut.map_err(|(row, error)| SinkError::Row {
                row,
                error: error.into(),
            })?
            else {
                return Ok(());
            };
            at = run.rows.end;
            if self.wants_copy(work, &run) {
                self.drain(work, pipeline).await?;
                if !self.copy(work, &run, pipeline).await? {
                    Box::pin(self.apply_as(work, run.rows, Kind::Upsert, pipeline)).await?;
                }
            } else {
                self.send(work, run, pipeline).await?;
            }
        }
    }

    fn wants_copy(&mut self, work: Work<'_>, run: &Run) -> bool {
        if run.kind != Kind::Insert || run.rows.len() < COPY_ROWS_MIN {
            return false;
        }
        let index = work.batch.relations[run.relation as usize].index;
        match self.without_copy.get_mut(&index) {
            Some(0) => {
                self.without_copy.remove(&index);
                self.targets[&index].copy
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => self.targets[&index].copy,
        }
    }

    /// Sends one run's statement.
    async fn send<'a>(&mut self, work: Work<'a>, run: Run, pipeline: &mut Pipeline<'a, Sent>) -> Result<(), SinkError> {
        if pipeline.is_full() {
            self.drain(work, pipeline).await?;
        }
        let (client, first) = (work.client, run.rows.start);
        let rows = &work.rows[run.rows.clone()];
        if run.kind == Kind::Truncate {
            let text = statement::truncate(work.batch, &work.batch.truncates[rows[0].extra as usize]);
            let reply = async move { client.batch_execute(&text).await.map(|()| 0) };
            pipeline.send(Sent { first, expected: 0 }, reply).await;
            return Ok(());
        }
        let kind = run.kind;
        let Some(prepared) = self.prepared(work, &run, false, pipeline).await? else {
            return Ok(());
        };
        let arrays = encode::arrays(work.batch, rows, &prepared.sql);
        let touches = matches!(kind, Kind::Insert | Kind::Upsert);
        let expected = if touches { 0 } else { rows.len() as u64 };
        let reply = async move { client.execute_raw(&prepared.statement, arrays).await };
        pipeline.send(Sent { first, expected }, reply).await;
        if kind == Kind::Move {
            self.settle_move(work, run, pipeline).await?;
        }
        Ok(())
    }

    /// A key change of a row that isn't there yet brings the row, where all of it is known.
    async fn settle_move<'a>(
        &mut self,
        work: Work<'a>,
        run: Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let missed = self.missed;
        self.drain(work, pipeline).await?;
        let target = &self.targets[&work.batch.relations[run.relation as usize].index];
        let whole = (0..target.columns.len()).all(|at| run.columns.contains(at));
        if self.missed > missed && whole {
            self.missed = missed;
            let upsert = Run {
                kind: Kind::Upsert,
                ..run
            };
            Box::pin(self.send(work, upsert, pipeline)).await?;
        }
        Ok(())
    }

    /// Waits for all replies.
    async fn drain(&mut self, work: Work<'_>, pipeline: &mut Pipeline<'_, Sent>) -> Result<(), SinkError> {
        while let Some((sent, reply)) = pipeline.receive().await {
            let touched = reply.map_err(|error| refused(work, sent.first, &error))?;
            self.missed += sent.expected.saturating_sub(touched);
        }
        Ok(())
    }

    async fn prepared<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        copy: bool,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<Option<Arc<Prepared>>, SinkError> {
        let index = work.batch.relations[run.relation as usize].index;
        let key = (index, run.kind, run.columns.clone(), copy);
        if let Some(known) = self.statements.get(&key) {
            return Ok(known.clone());
        }
        // Its reply must not be hidden by an earlier statement's failure.
        self.drain(work, pipeline).await?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let target = &self.targets[&index];
        let sql = if copy {
            Some(statement::copy(target, &run.columns))
        } else {
            statement::sql(target, run.kind, &run.columns)
        };
        let prepared = match sql {
            Some(sql) => {
                let prepare = work.client.prepare(&sql.text).await;
                let statement = prepare.map_err(|error| refused(work, run.rows.start, &error))?;
                Some(Arc::new(Prepared { sql, statement }))
            }
            None => None,
        };
        self.statements.insert(key, prepared.clone());
        Ok(prepared)
    }

    /// Copies a run; `false` where a row was there already and nothing of the run has been applied. Nothing may be
    /// outstanding.
    async fn copy<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<bool, SinkError> {
        let Some(prepared) = self.prepared(work, run, true, pipeline).await? else {
            return Ok(true);
        };
        let (client, first) = (work.client, run.rows.start);
        let mark = || Sent { first, expected: 0 };
        let savepoint = async move { client.batch_execute(SAVEPOINT).await.map(|()| 0) };
        pipeline.send(mark(), savepoint).await;
        self.lines.clear();
        encode::copy_lines(work.batch, &work.rows[run.rows.clone()], &prepared.sql, &mut self.lines);
        let lines = Bytes::from(std::mem::take(&mut self.lines));
        match copy_in(client, &prepared.statement, lines).await {
            Ok(()) => {
                let release = async move { client.batch_execute(RELEASE).await.map(|()| 0) };
                pipeline.send(mark(), release).await;
                Ok(true)
            }
            Err(there) if there.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let index = work.batch.relations[run.relation as usize].index;
                if !self.targets[&index].keyed {
                    return Err(refused(work, first, &there));
                }
                client
                    .batch_execute(BACK)
                    .await
                    .map_err(|error| refused(work, first, &error))?;
                self.without_copy.insert(index, RUNS_WITHOUT_COPY);
                Ok(false)
            }
            Err(error) => Err(refused(work, first, &error)),
        }
    }
}

async fn copy_in(client: &Client, statement: &Statement, lines: Bytes) -> Result<(), Error> {
    let mut copy = pin!(client.copy_in::<_, Bytes>(statement).await?);
    copy.send(lines).await?;
    copy.finish().await?;
    Ok(())
}

fn refused(work: Work<'_>, first: usize, error: &Error) -> SinkError {
    let row = &work.rows[first];
    let change = Change {
        table: work
            .batch
            .relations
            .get(row.relation as usize)
            .map_or_else(String::new, |relation| relation.full_name()),
        commit_lsn: work.batch.transaction(row).commit_lsn,
    };
    error::of_change(error, work.context, Some(&change))
}
