//! The tables that rows go to: looked up once a connection, and made where they are missing.

use super::apply::{Applier, Work};
use super::create::{Maker, has_key};
use super::follow::{self, Follower};
use super::keys::{Due, is_plain};
use super::lacking;
use super::relay;
use super::target::{MISSING_COLUMN, MISSING_KEY, MISSING_TABLE, Target, qualified};
use crate::batch::{Batch, Column, Op, Origin, Relation, Row};
use crate::config::WriteMode;
use crate::sink::SinkError;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Looked-up tables kept before all are looked up again.
const TARGETS_MAX: usize = 10_000;

impl Applier {
    /// Looks up the tables that rows go to, and makes those that are missing where that is asked for.
    pub(super) async fn look_up(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        if self.targets.len() > TARGETS_MAX {
            self.targets.clear();
        }
        loop {
            let renames = work.context.changes.renames();
            if std::mem::replace(&mut self.renames, renames) != renames {
                self.targets.clear();
                self.statements.clear();
            }
            self.look_up_all(work, range.clone()).await?;
            // Versions from before have the old name where they were looked up already.
            if work.context.changes.renames() == renames {
                return Ok(());
            }
        }
    }

    async fn look_up_all(&mut self, work: Work<'_>, range: Range<usize>) -> Result<(), SinkError> {
        let rows = &work.rows[range];
        let is_plain = |row: &Row| row.op == Op::Message || is_plain(work.batch, row);
        let plain = self.creates && rows.iter().all(is_plain);
        let mut last = None;
        for row in rows {
            match row.op {
                Op::Message => {}
                // One that is emptied before its first row comes has to be there, too.
                Op::Truncate if self.mode == WriteMode::Append || self.creates => {
                    for relation in &work.batch.truncates[row.extra as usize].relations {
                        self.look_up_one(work, row, *relation, false).await?;
                    }
                }
                Op::Truncate if is_copied_by_key(work.batch, row) => self.look_before_emptying(work, row).await?,
                Op::Truncate => {}
                _ if last == Some((row.relation, row.transaction)) => {}
                _ => {
                    last = Some((row.relation, row.transaction));
                    self.look_up_one(work, row, row.relation, plain).await?;
                }
            }
        }
        Ok(())
    }

    /// All is forgotten that was known of tables at the target.
    pub(super) fn forget(&mut self) {
        self.targets.clear();
        self.statements.clear();
    }

    /// Looks up a table that `row` is of.
    async fn look_up_one(&mut self, work: Work<'_>, row: &Row, relation: u32, plain: bool) -> Result<(), SinkError> {
        let relation = &work.batch.relations[relation as usize];
        let by_key = is_copied_by_key(work.batch, row);
        if !self.targets.contains_key(&relation.index) {
            let known = self.tables.len() as u32;
            let table = *self.tables.entry(qualified(relation)).or_insert(known);
            let target = self.look_up_or_make(work, relation, table, (plain, by_key)).await?;
            if let Some(relay) = &self.relay {
                relay::table(work.client, relay, relation, work.context).await?;
            }
            self.targets.insert(relation.index, Arc::new(target));
        }
        match by_key && self.mode != WriteMode::Append && !self.targets[&relation.index].keyed {
            true => Err(lacking::key_to_copy(&called_now(work, relation), work.context).into()),
            false => Ok(()),
        }
    }

    /// A table that can't be copied isn't emptied for its copy. What else stands in the way is told with its rows.
    async fn look_before_emptying(&mut self, work: Work<'_>, row: &Row) -> Result<(), SinkError> {
        for relation in &work.batch.truncates[row.extra as usize].relations {
            match self.look_up_one(work, row, *relation, false).await {
                Err(SinkError::Definite(problem)) if problem.code != MISSING_KEY => {}
                looked_up => looked_up?,
            }
        }
        Ok(())
    }

    /// `plain`: for rows of units alone, as they were read first. `by_key`: for rows of units of a table with a key.
    async fn look_up_or_make(
        &mut self,
        work: Work<'_>,
        relation: &Relation,
        table: u32,
        (plain, by_key): (bool, bool),
    ) -> Result<Target, SinkError> {
        let changes = work.context.changes.of(relation);
        let relation = match &changes {
            Some(changes) => {
                let Work { client, context, .. } = work;
                let due = self.due.iter_mut().find(|due| due.is_of(relation));
                Follower { client, context }.follow(relation, changes, due).await?;
                follow::called_now(relation, changes)
            }
            None => Cow::Borrowed(relation),
        };
        let relation = &*relation;
        let mode = self.mode;
        let look_up = || Target::look_up(work.client, relation, table, mode, work.context);
        let look_up_due = || Target::look_up_due(work.client, relation, table, mode, work.context);
        if self.due.iter().any(|due| due.is_of(relation)) {
            return look_up_due().await;
        }
        // With more copied rows to come the key is built behind them. Whoever follows a relay needs it from the first on.
        let is_later = plain && work.copying.contains(&relation.oid) && self.relay.is_none();
        let is_later = is_later && mode != WriteMode::Append;
        let maker = Maker {
            client: work.client,
            context: work.context,
            mode: self.mode,
        };
        match look_up().await {
            Err(SinkError::Definite(problem)) if self.creates && problem.code == MISSING_TABLE => {
                let has_key = has_key(relation, by_key);
                let due = (is_later && has_key).then(|| Due::of(relation));
                maker.table(relation, has_key, due.as_ref()).await?;
                if let Some(due) = due {
                    self.due.push(due);
                    return look_up_due().await;
                }
            }
            Err(SinkError::Definite(problem)) if self.creates && problem.code == MISSING_COLUMN => {
                maker.columns(relation, |_| true).await?;
            }
            Err(SinkError::Definite(problem))
                if problem.code == MISSING_COLUMN && work.context.changes.has_any(relation) =>
            {
                let has_come = |column: &Column| work.context.changes.has(relation, &column.name);
                maker.columns(relation, has_come).await?;
            }
            looked_up => return looked_up,
        }
        look_up().await
    }
}

/// Whether a row comes from the copy of a table that has a key at the source. Such a row may come twice, and by the stream as
/// well: it is found by the key then. One without is read once, and its targets are emptied where it has to be read again.
fn is_copied_by_key(batch: &Batch, row: &Row) -> bool {
    !batch.keyless && matches!(batch.transaction(row).origin, Origin::Copy(_))
}

/// The relation with the names that its columns have at the target.
fn called_now<'a>(work: Work<'_>, relation: &'a Relation) -> Cow<'a, Relation> {
    match work.context.changes.of(relation) {
        Some(changes) => follow::called_now(relation, &changes),
        None => Cow::Borrowed(relation),
    }
}
