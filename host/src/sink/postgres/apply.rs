//! Applies the runs of a delivery inside the open target transaction.

use super::compact;
use super::encode;
use super::error;
use super::facts::Facts;
use super::group;
use super::keys::Due;
use super::pipeline::{Pipeline, Tail};
use super::refusal::{AGAIN, incomplete, refused};
use super::run::{Columns, Cutter, Kind, Run};
use super::statement::{self, Sql};
use super::straight;
use super::target::Target;
use crate::batch::{Batch, Op, Row};
use crate::config::{self, OnConflict, WriteMode};
use crate::sink::{SinkContext, SinkError};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::{Client, Statement};

/// Prepared statements kept on both sides before all are let go.
const STATEMENTS_MAX: usize = 500;

/// Which statement: of which relation, doing what to which columns, which of them in binary form. `true` for COPY.
type Key = (u32, Kind, Columns, Columns, bool);

/// What is known of the target for as long as the connection lasts.
pub(super) struct Applier {
    pub(super) mode: WriteMode,
    /// Whether tables and columns are made where they are missing.
    pub(super) creates: bool,
    pub(super) conflict: OnConflict,
    pub(super) relay: Option<config::Relay>,
    /// Whether foreign keys and ordinary triggers don't act, so that the order between tables can't be seen.
    pub(super) independent: bool,
    /// Numbers of tables, by their quoted names.
    pub(super) tables: FxHashMap<String, u32>,
    pub(super) targets: FxHashMap<u32, Arc<Target>>,
    pub(super) statements: FxHashMap<Key, Option<Arc<Prepared>>>,
    /// Tables that were made without their keys.
    pub(super) due: Vec<Due>,
    /// How many more runs of a relation avoid COPY.
    pub(super) without_copy: FxHashMap<u32, u32>,
    /// Relations whose rows the target doesn't take as they came.
    pub(super) without_binary: FxHashSet<u32>,
    cutter: Cutter,
    /// Whether a COPY met a row that was there already, or bytes that aren't what its columns take: what a statement with
    /// texts would settle.
    pub(super) copy_met: bool,
    /// Whether [`Self::apply`] may return before the COPY that rows end with was replied to. Whoever lets it has to see
    /// to the tail before anything else is sent.
    pub(super) leaves_tail: bool,
    pub(super) tail: Option<Tail<Sent>>,
    /// Whether the savepoint that is set is that of the rows that were to be applied last. Before, going back to it would
    /// take back those before them.
    pub(super) begun: bool,
    pub(super) passed_over: PassedOver,
    /// What has to hold of tables until the commit.
    pub(super) facts: Facts,
    /// The row that the target takes under no circumstances.
    pub(super) refused: Option<usize>,
    /// Whether temporary tables may be made, once that was asked.
    pub(super) temporary: Option<bool>,
    /// Columns that had been renamed when the targets were looked up.
    pub(super) renames: u64,
}

/// Changes that were passed over since the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PassedOver {
    /// Updates and deletes whose row wasn't there.
    pub(super) missing: u64,
    /// Changes that met another row of the same key.
    pub(super) conflicts: u64,
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
    /// OIDs of the tables that are being copied.
    pub(super) copying: &'a [u32],
}

/// What an outstanding reply belongs to: a run's first row and how many rows it should have touched.
pub(super) struct Sent {
    pub(super) first: usize,
    pub(super) expected: u64,
    pub(super) fewer: Fewer,
    /// The relation's index where it is a COPY after which the rows may be tried otherwise.
    pub(super) copied: Option<u32>,
    /// The same where the rows went as they came.
    pub(super) straight: Option<u32>,
}

/// What it means that fewer rows than expected were touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fewer {
    /// They aren't there.
    Missing,
    /// Others are there.
    Conflict,
    /// The change can't be applied at all.
    Failure,
}

impl Sent {
    /// Of a statement that doesn't count rows.
    pub(super) fn uncounted(first: usize) -> Self {
        Self {
            first,
            expected: 0,
            fewer: Fewer::Missing,
            copied: None,
            straight: None,
        }
    }
}

impl Applier {
    pub(super) fn new(config: &config::PostgresSink, independent: bool) -> Self {
        Self {
            mode: config.mode,
            creates: config.create_tables,
            conflict: config.conflict,
            relay: config.relay.clone(),
            independent,
            tables: FxHashMap::default(),
            targets: FxHashMap::default(),
            statements: FxHashMap::default(),
            due: Vec::new(),
            without_copy: FxHashMap::default(),
            without_binary: FxHashSet::default(),
            cutter: Cutter::new(config.mode),
            copy_met: false,
            leaves_tail: false,
            tail: None,
            begun: false,
            passed_over: PassedOver::default(),
            facts: Facts::default(),
            refused: None,
            temporary: None,
            renames: 0,
        }
    }

    /// Sends `begin`, which sets a savepoint, and applies `range` of the rows. On return everything has been replied
    /// to, but for a tail where one may be left. Where the target refuses something, the rows are taken back and applied again, in parts; where it was a COPY
    /// that met rows of the same keys, all at once by statements.
    pub(super) async fn apply(
        &mut self,
        work: Work<'_>,
        range: Range<usize>,
        begin: &'static str,
    ) -> Result<(), SinkError> {
        self.tail = None;
        self.begun = false;
        self.look_up(work, range.clone()).await?;
        self.facts.rest_on(work.batch, &self.targets);
        let before = self.passed_over;
        let mut begin = begin;
        let mut by_copy = true;
        if let Some(runs) = self.straight_runs(work, range.clone()) {
            self.begun = true;
            let Err(error) = self.apply_straight(work, &runs, begin).await else {
                return Ok(());
            };
            by_copy = !std::mem::take(&mut self.copy_met);
            if by_copy && !error::is_refusal(&error) {
                return Err(error);
            }
            self.passed_over = before;
            self.take_back(work, range.start).await?;
            begin = AGAIN;
        }
        let told = straight::as_text(work, range.clone())?;
        self.begun = true;
        let work = Work { batch: &told, ..work };
        let mut applied = self.apply_at_once(work, range.clone(), begin, by_copy).await;
        if std::mem::take(&mut self.copy_met) && applied.is_err() {
            self.passed_over = before;
            self.take_back(work, range.start).await?;
            applied = self.apply_at_once(work, range.clone(), AGAIN, false).await;
        }
        match applied {
            Err(error) if error::is_refusal(&error) => {
                self.passed_over = before;
                self.leaves_tail = false;
                self.take_back(work, range.start).await?;
                let applied = self.apply_in_parts(work, range).await;
                if applied.is_err() {
                    self.passed_over = before;
                }
                applied
            }
            applied => applied,
        }
    }

    async fn apply_at_once(
        &mut self,
        work: Work<'_>,
        range: Range<usize>,
        begin: &'static str,
        by_copy: bool,
    ) -> Result<(), SinkError> {
        let mut rows = Cow::Borrowed(&work.rows[range.clone()]);
        let mut from: Vec<usize> = Vec::new();
        if self.independent
            && self.mode != WriteMode::Append
            && let Some((left, places)) = compact::compact(work, range.clone(), &self.targets)
        {
            rows = Cow::Owned(left);
            from = places;
        }
        if self.is_order_unseen(work.batch)
            && let Some((grouped, places)) = group::by_table(work.batch, &rows, &self.targets)
        {
            from = match from.is_empty() {
                true => places.iter().map(|at| range.start + at).collect(),
                false => places.iter().map(|at| from[*at]).collect(),
            };
            rows = Cow::Owned(grouped);
        }
        let Cow::Owned(rows) = rows else {
            return self.apply_in_order(work, range, begin, by_copy).await;
        };
        let all = 0..rows.len();
        let work = Work { rows: &rows, ..work };
        let applied = self.apply_in_order(work, all, begin, by_copy).await;
        applied.map_err(|error| match error {
            SinkError::Row { row, error } => SinkError::Row { row: from[row], error },
            other => other,
        })
    }

    /// Whether nobody can tell in which order the tables of a batch were changed.
    fn is_order_unseen(&self, batch: &Batch) -> bool {
        let mut targets = batch.relations.iter().filter_map(|it| self.targets.get(&it.index));
        self.independent && !targets.any(|target| target.triggers)
    }

    pub(super) async fn apply_in_order(
        &mut self,
        work: Work<'_>,
        range: Range<usize>,
        begin: &'static str,
        by_copy: bool,
    ) -> Result<(), SinkError> {
        let mut pipeline = Pipeline::new();
        let client = work.client;
        let begun = async move { client.batch_execute(begin).await.map(|()| 0) };
        pipeline.send(Sent::uncounted(range.start), begun).await;
        self.apply_as(work, range, by_copy, &mut pipeline).await?;
        if self.leaves_tail && self.tail.is_some() && pipeline.is_empty() {
            return Ok(());
        }
        self.drain(work, &mut pipeline).await
    }

    /// What has become of the tail, if one was left. Of an error only its kind counts: the rows are to be applied again.
    pub(super) async fn settle_tail(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        let Some(tail) = self.tail.take() else {
            return Ok(());
        };
        let (sent, reply) = tail.receive().await;
        reply.map(|_| ()).map_err(|error| {
            self.note_copy(&sent, &error);
            match std::mem::take(&mut self.copy_met) && sent.straight.is_some() {
                true => straight::not_taken(context).into(),
                false => error::of(&error, context),
            }
        })
    }

    /// The text of what has been prepared.
    #[cfg(test)]
    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        let prepared = self.statements.values().flatten();
        prepared.map(|prepared| prepared.sql.text.as_str())
    }

    /// Sends what applies the runs of `range`.
    async fn apply_as<'a>(
        &mut self,
        work: Work<'a>,
        range: Range<usize>,
        by_copy: bool,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let mut at = range.start;
        while let Some(run) = self.cut(work, at..range.end, by_copy)? {
            at = run.rows.end;
            if by_copy && self.wants_copy(work, &run) {
                self.copy(work, &run, pipeline).await?;
            } else if by_copy && run.kind.is_insert() {
                // A statement takes fewer rows, and no two of the same key.
                self.insert(work, run.rows, pipeline).await?;
            } else {
                self.send(work, run, pipeline).await?;
            }
        }
        Ok(())
    }

    /// Sends new rows by statements.
    async fn insert<'a>(
        &mut self,
        work: Work<'a>,
        rows: Range<usize>,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let mut at = rows.start;
        while let Some(run) = self.cut(work, at..rows.end, false)? {
            at = run.rows.end;
            self.send(work, run, pipeline).await?;
        }
        Ok(())
    }

    fn cut(&mut self, work: Work<'_>, rows: Range<usize>, by_copy: bool) -> Result<Option<Run>, SinkError> {
        let cut = self.cutter.next(work, rows, &self.targets, by_copy);
        cut.map_err(|(row, error)| SinkError::Row {
            row,
            error: error.into(),
        })
    }

    /// Sends one run's statement.
    async fn send<'a>(&mut self, work: Work<'a>, run: Run, pipeline: &mut Pipeline<'a, Sent>) -> Result<(), SinkError> {
        if pipeline.is_full() {
            self.drain(work, pipeline).await?;
        }
        let (client, first) = (work.client, run.rows.start);
        let rows = &work.rows[run.rows.clone()];
        if run.kind == Kind::Truncate {
            return self.truncate(work, run.rows, pipeline).await;
        }
        let kind = run.kind;
        let always = self.brings_always(work, &run);
        if always {
            self.before_always(work, &run, pipeline).await?;
        }
        if run.long && self.may_make_tables(work, first, pipeline).await? {
            self.send_long(work, &run, pipeline).await?;
        } else {
            let Some(prepared) = self.prepared(work, &run, false, pipeline).await? else {
                return Ok(());
            };
            let arrays = encode::arrays(work, rows, &prepared.sql);
            let sent = self.expected(kind, first, rows);
            let reply = async move { client.execute_raw(&prepared.statement, arrays).await };
            pipeline.send(sent, reply).await;
        }
        if kind == Kind::Move {
            self.settle_move(work, run, pipeline).await?;
        } else if always {
            self.settle_always(work, &run, pipeline).await?;
        }
        Ok(())
    }

    pub(super) fn expected(&self, kind: Kind, first: usize, rows: &[Row]) -> Sent {
        let changes = rows.iter().filter(|row| row.op != Op::Message).count() as u64;
        let (expected, fewer) = match (kind, self.conflict) {
            (Kind::Add, OnConflict::Skip) => (changes, Fewer::Conflict),
            // Where the row with the new key takes the change, none with the old one is expected.
            (Kind::Add | Kind::Insert | Kind::Upsert | Kind::Append, _) | (Kind::Shift, OnConflict::Overwrite) => {
                (0, Fewer::Missing)
            }
            (Kind::Complete, _) => (changes, Fewer::Failure),
            _ => (changes, Fewer::Missing),
        };
        Sent {
            first,
            expected,
            fewer,
            copied: None,
            straight: None,
        }
    }

    /// A key change of a row that isn't there yet brings the row, where all of it is known.
    async fn settle_move<'a>(
        &mut self,
        work: Work<'a>,
        run: Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let before = self.passed_over;
        self.drain(work, pipeline).await?;
        let target = &self.targets[&work.batch.relations[run.relation as usize].index];
        let whole = (0..target.columns.len()).all(|at| run.columns.contains(at));
        if self.passed_over.missing > before.missing && !whole && work.rows[run.rows.start].op == Op::Upsert {
            return Err(incomplete(work, run.rows.start).into());
        }
        if self.passed_over.missing > before.missing && whole {
            self.passed_over.missing = before.missing;
            let upsert = Run {
                kind: Kind::Upsert,
                ..run
            };
            Box::pin(self.send(work, upsert, pipeline)).await?;
        }
        Ok(())
    }

    /// Waits for all replies.
    pub(super) async fn drain(&mut self, work: Work<'_>, pipeline: &mut Pipeline<'_, Sent>) -> Result<(), SinkError> {
        // It was sent before all that is in the pipeline.
        if let Some(tail) = self.tail.take() {
            let (sent, reply) = tail.receive().await;
            reply.map_err(|error| {
                self.note_copy(&sent, &error);
                refused(work, sent.first, &error)
            })?;
        }
        while let Some((sent, reply)) = pipeline.receive().await {
            let touched = reply.map_err(|error| {
                self.note_copy(&sent, &error);
                refused(work, sent.first, &error)
            })?;
            let lacking = sent.expected.saturating_sub(touched);
            match sent.fewer {
                Fewer::Failure if lacking > 0 => return Err(incomplete(work, sent.first).into()),
                Fewer::Conflict => self.passed_over.conflicts += lacking,
                Fewer::Missing | Fewer::Failure => self.passed_over.missing += lacking,
            }
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
        let key = (index, run.kind, run.columns.clone(), run.binary.clone(), copy);
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
            Some(statement::copy(target, run.kind, &run.columns, &run.binary))
        } else {
            statement::sql(target, run, self.conflict)
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
