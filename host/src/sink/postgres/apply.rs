//! Applies the runs of a delivery inside the open target transaction.

use super::encode;
use super::error::{self, Change};
use super::group;
use super::pipeline::Pipeline;
use super::run::{Columns, Cutter, Kind, Run};
use super::statement::{self, Sql};
use super::target::{Target, qualified};
use crate::batch::{Batch, Op, Row};
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::{Client, Error, Statement};

/// Prepared statements kept on both sides before all are let go.
const STATEMENTS_MAX: usize = 500;
/// Looked-up tables kept before all are looked up again.
const TARGETS_MAX: usize = 10_000;

/// Which statement: of which relation, doing what to which columns. `true` for COPY.
type Key = (u32, Kind, Columns, bool);

/// What is known of the target for as long as the connection lasts.
#[derive(Default)]
pub(super) struct Applier {
    /// Whether the order between tables can't be seen.
    independent: bool,
    /// Numbers of tables, by their quoted names.
    tables: FxHashMap<String, u32>,
    pub(super) targets: FxHashMap<u32, Arc<Target>>,
    statements: FxHashMap<Key, Option<Arc<Prepared>>>,
    /// How many more runs of a relation avoid COPY.
    pub(super) without_copy: FxHashMap<u32, u32>,
    cutter: Cutter,
    /// Updates and deletes whose row wasn't there.
    pub(super) missed: u64,
}

pub(super) struct Prepared {
    pub(super) sql: Sql,
    pub(super) statement: Statement,
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
pub(super) struct Sent {
    pub(super) first: usize,
    pub(super) expected: u64,
    /// Whether fewer rows than expected are a failure.
    pub(super) required: bool,
}

impl Applier {
    pub(super) fn new(independent: bool) -> Self {
        Self {
            independent,
            ..Self::default()
        }
    }

    /// Applies `range` of the rows. On return everything has been replied to.
    pub(super) async fn apply(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        self.look_up(work, range.clone()).await?;
        let grouped = match self.independent {
            true => group::by_table(work.batch, &work.rows[range.clone()], &self.targets),
            false => None,
        };
        let Some((rows, from)) = grouped else {
            return self.apply_in_order(work, range).await;
        };
        let applied = self.apply_in_order(Work { rows: &rows, ..work }, 0..rows.len()).await;
        applied.map_err(|error| match error {
            SinkError::Row { row, error } => SinkError::Row {
                row: range.start + from[row],
                error,
            },
            other => other,
        })
    }

    async fn apply_in_order(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
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
                let known = self.tables.len() as u32;
                let table = *self.tables.entry(qualified(relation)).or_insert(known);
                let target = Target::look_up(work.client, relation, table, work.context).await?;
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
            let sent = Sent {
                first,
                expected: 0,
                required: false,
            };
            pipeline.send(sent, reply).await;
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
        let required = kind == Kind::Complete;
        pipeline
            .send(
                Sent {
                    first,
                    expected,
                    required,
                },
                reply,
            )
            .await;
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
            if sent.required && touched < sent.expected {
                return Err(incomplete(work, sent.first).into());
            }
            self.missed += sent.expected.saturating_sub(touched);
        }
        Ok(())
    }

    pub(super) async fn prepared<'a>(
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
}

pub(super) fn refused(work: Work<'_>, first: usize, error: &Error) -> SinkError {
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

/// A row that entered a filtered set without the values that the change left alone, and that the target never had.
fn incomplete(work: Work<'_>, first: usize) -> Problem {
    let relation = work.batch.relation(&work.rows[first]);
    let table = relation.full_name();
    let headline = format!("a row of {table} came into the set without all of its values");
    let help = format!(
        "ALTER TABLE {} REPLICA IDENTITY FULL at the source, then remove the pipeline and start it anew",
        qualified(relation)
    );
    let position = work.batch.transaction(&work.rows[first]).commit_lsn;
    Problem::new("E0413", Exit::Sink, headline, help).with_cause(format!(
        "an update at {position} left a TOASTed column alone, and sink {} doesn't have the row",
        work.context.sink
    ))
}
