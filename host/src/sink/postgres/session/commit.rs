//! How a target transaction ends, and what the target refuses of it only then: deferred constraints and constraint triggers.
//!
//! ```text
//!   source   T1 T2 T3          T2 has a child without its parent, and the target's foreign key is DEFERRABLE INITIALLY DEFERRED
//!   target   BEGIN T1 T2 T3 COMMIT   BEGIN T1 ALL IMMEDIATE COMMIT   BEGIN T2 ALL IMMEDIATE
//!                            fails: all of it comes again                       fails: it is T2
//! ```
//!
//! No row's statement fails, and of the rows of several transactions it isn't said which it was. So the session ends, and the
//! next one commits each source transaction for itself, and has the target check it before: until all is past that
//! was under way.

use super::Session;
use crate::batch::{Delivery, Origin};
use crate::sink::SinkError;
use crate::sink::postgres::apply::PassedOver;
use crate::sink::postgres::error::{self, Change};
use crate::sink::postgres::facts::{self, Failed};
use crate::sink::postgres::pipeline::Pipeline;
use crate::sink::postgres::refusal;
use crate::sink::standing::Standing;
use std::sync::atomic::Ordering;
use tokio_postgres::Error;

/// What a source transaction may not leave for the target's COMMIT.
const CHECK: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// Source transactions are committed each for itself.
#[derive(Debug)]
pub(in crate::sink::postgres) struct OneByOne {
    /// The last delivery that was under way.
    until: u64,
    /// The transaction that is open, by the first of its rows.
    open: Option<Change>,
}

impl Session {
    /// Commits the open target transaction with the position.
    pub(super) async fn commit(&mut self) -> Result<(), SinkError> {
        if self.open {
            self.check_deferred().await?;
            self.note_doubt().await?;
            self.commit_open().await?;
            self.durable = self.complete;
            let durable = self.durable;
            self.one_by_one.take_if(|one_by_one| durable >= one_by_one.until);
        }
        Ok(())
    }

    pub(super) async fn commit_open(&mut self) -> Result<(), SinkError> {
        self.settle_pending().await?;
        let position = self.position.take();
        self.commit_others(position).await?;
        let client = &self.client;
        let mut pipeline: Pipeline<'_, Failed> = Pipeline::new();
        if let (Some(relaxed), Some(part)) = (&self.relaxed, self.part_beyond(position)) {
            relaxed.send_all(client, part, &self.identity, &mut pipeline).await;
        }
        if let Some(hold) = self.applier.facts.hold(client, &self.hold) {
            pipeline.send(facts::changed, hold).await;
        }
        let unstreamed = self.unstreamed + u64::from(self.is_unstreamed);
        if position.is_some() || self.is_unstreamed {
            let (statement, parameters) = (&self.update_position, self.identity.parameters(position, unstreamed));
            let update = async move { client.execute_raw(statement, parameters).await };
            pipeline.send(error::of, update).await;
        }
        let commit = async move { client.batch_execute(refusal::COMMIT).await.map(|()| 0) };
        pipeline.send(error::of, commit).await;
        while let Some((failed, reply)) = pipeline.receive().await {
            let Err(error) = reply else { continue };
            let is_of_commit = pipeline.is_empty();
            drop(pipeline);
            return Err(match is_of_commit && is_of_data(&error) {
                true => self.refused_at_commit(&error),
                false => failed(&error, &self.context),
            });
        }
        drop(pipeline);
        self.open = false;
        self.bytes = 0;
        self.unrecognised = false;
        self.is_unstreamed = false;
        self.unstreamed = unstreamed;
        self.context.known.brought(unstreamed);
        self.in_doubt = None;
        if let Some(position) = position {
            self.context.known.reached(Standing::At(position));
        }
        self.settle_others(position);
        self.close_beside();
        self.count_passed_over();
        Ok(())
    }

    /// To be called for rows that are about to be applied, from `first` on.
    pub(super) fn note_one(&mut self, delivery: &Delivery, first: usize) {
        let Some((one_by_one, row)) = self.one_by_one.as_mut().zip(delivery.rows.get(first)) else {
            return;
        };
        let relation = delivery.batch.relations.get(row.relation as usize);
        let transaction = delivery.batch.transaction(row);
        one_by_one.open = Some(Change {
            table: relation.map_or_else(String::new, |relation| relation.full_name()),
            commit_lsn: transaction.commit_lsn,
            streamed: transaction.origin == Origin::Stream && !transaction.is_aside(),
        });
    }

    /// Has the target check now what it would check at the commit, of a transaction that is alone in it.
    async fn check_deferred(&mut self) -> Result<(), SinkError> {
        if self
            .one_by_one
            .as_ref()
            .is_none_or(|one_by_one| one_by_one.open.is_none())
        {
            return Ok(());
        }
        self.settle_pending().await?;
        let checked = self.client.batch_execute(CHECK).await;
        checked.map_err(|error| self.refused_at_commit(&error))
    }

    /// Where it isn't known which transaction it was, all of them are to come again one by one.
    fn refused_at_commit(&mut self, error: &Error) -> SinkError {
        let one = self.one_by_one.as_ref().and_then(|one_by_one| one_by_one.open.as_ref());
        if let Some(one) = one {
            return error::of_change(error, &self.context, Some(&of_table(one, error)));
        }
        self.one_by_one = Some(OneByOne {
            until: self.under_way,
            open: None,
        });
        let (sink, code) = (&self.context.sink, error.code().map_or("", |code| code.code()));
        SinkError::Transient(anyhow::anyhow!(
            "sink {sink}: the target refuses a commit (SQLSTATE {code}); its transactions are sent again, one by one"
        ))
    }

    fn count_passed_over(&mut self) {
        let PassedOver { missing, conflicts } = std::mem::take(&mut self.applier.passed_over);
        let (sink, counts) = (&self.context.sink, &self.context.passed_over);
        counts.missing.fetch_add(missing, Ordering::Relaxed);
        counts.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        if missing > 0 {
            tracing::debug!(
                sink,
                rows = missing,
                "updates or deletes of rows that the target doesn't have"
            );
        }
        if conflicts > 0 {
            tracing::warn!(
                sink,
                rows = conflicts,
                "changes met other rows of the same key and were skipped"
            );
        }
    }
}

/// Whether rows are the reason: a constraint, a value, or what a trigger has raised.
fn is_of_data(error: &Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    class.is_some_and(|class| ["22", "23", "P0"].contains(&class))
}

/// The change with the table that the error names.
fn of_table(change: &Change, error: &Error) -> Change {
    let named = error
        .as_db_error()
        .and_then(|error| Some((error.schema()?, error.table()?)));
    Change {
        table: named.map_or_else(|| change.table.clone(), |(schema, table)| format!("{schema}.{table}")),
        ..*change
    }
}
