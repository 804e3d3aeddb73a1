//! An audit trail: every change a row of one table, with what the application said of it.
//!
//! ```text
//!   source        BEGIN  message _bemi {"user":7}  UPDATE orders  INSERT items  COMMIT
//!   changes       UPDATE orders {"user":7}    INSERT items {"user":7}      one row each, in one target transaction
//! ```
//!
//! The table is Bemi's `changes`, with `ordinal` and `fan_out` beside its columns: rows of one COPY share a position in
//! the WAL. Here `position` is where the transaction commits, so (position, ordinal, fan_out) orders all changes and
//! is the same however often one is sent: the unique index makes each of them one row.
//!
//! Context is what `pg_logical_emit_message(true, '_bemi', ...)` wrote in the same transaction. Messages come with the
//! batch, not as rows; what a plugin dropped isn't there any more.

mod check;
mod context;
mod encode;
mod table;

pub(super) use check::check;

use super::apply::Work;
use super::error;
use super::position::Identity;
use super::refusal::{self, named, refused};
use crate::batch::Delivery;
use crate::config;
use crate::sink::{SinkContext, SinkError};
use context::Stitcher;
use encode::{Arrays, Encoder};
use std::ops::Range;
use tokio_postgres::{Client, Statement};

/// Rows of one statement.
const ROWS_MAX: usize = 1000;

/// Writes the trail, for as long as the connection lasts.
pub(super) struct Trail {
    /// Of the table, quoted.
    name: String,
    insert: Statement,
    /// Whether some of the rows that weren't inserted aren't the ones that are there.
    others: Statement,
    /// Gives a transaction's rows the context that came behind them.
    settle: Statement,
    stitcher: Stitcher,
    encoder: Encoder,
    /// The row that the table takes under no circumstances.
    pub(super) refused: Option<usize>,
}

impl Trail {
    /// Makes the table where it is missing.
    pub(super) async fn open(
        client: &Client,
        config: &config::Audit,
        identity: &Identity,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        let failed = |error| error::of(&error, context);
        table::make(client, config, context).await?;
        let name = table::name(config);
        let insert = client.prepare(&table::insert(&name)).await.map_err(failed)?;
        let others = client.prepare(&table::others(&name)).await.map_err(failed)?;
        let settle = client.prepare(&table::settle(&name)).await.map_err(failed)?;
        let database = client
            .query_one("SELECT pg_catalog.current_database()::text", &[])
            .await;
        let database: String = database.map_err(failed)?.get(0);
        // The trail's own rows must not make further ones.
        let is_own = identity.source == identity.target && database == context.source_database;
        let own = is_own.then(|| (config.schema.clone(), config.table.clone()));
        Ok(Self {
            name,
            insert,
            others,
            settle,
            stitcher: Stitcher::new(config.context),
            encoder: Encoder::new(own),
            refused: None,
        })
    }

    /// The rows that `range` of the delivery's makes; `None` where it makes none.
    pub(super) fn encode(&mut self, work: Work<'_>, range: Range<usize>) -> Result<Option<Arrays>, SinkError> {
        self.encoder.encode(work, range, &self.stitcher)
    }

    /// Inserts them behind `begin`, which sets a savepoint. Where one is refused, it is found.
    pub(super) async fn insert(
        &mut self,
        work: Work<'_>,
        range: Range<usize>,
        arrays: Arrays,
    ) -> Result<(), SinkError> {
        let start = range.start;
        let Err(error) = self.send(work, start, arrays).await else {
            return Ok(());
        };
        if !error::is_refusal(&error) && !table::is_taken(&error) {
            return Err(error);
        }
        let back = work.client.batch_execute(refusal::BACK).await;
        back.map_err(|error| refused(work, start, &error))?;
        for at in range {
            let Some(arrays) = self.encode(work, at..at + 1)? else {
                continue;
            };
            match self.send(work, at, arrays).await {
                Err(SinkError::Definite(problem)) => {
                    self.refused = Some(at);
                    return Err(named(work, at, *problem).into());
                }
                sent => sent?,
            }
        }
        Ok(())
    }

    async fn send(&self, work: Work<'_>, first: usize, arrays: Arrays) -> Result<(), SinkError> {
        let database = work.context.source_database.as_str();
        for part in arrays.parts() {
            let parameters = part.parameters(&database);
            let inserted = work.client.execute(&self.insert, &parameters).await;
            if inserted.map_err(|error| refused(work, first, &error))? < part.rows {
                let others = work.client.query_one(&self.others, &parameters).await;
                if others.map_err(|error| refused(work, first, &error))?.get(0) {
                    return Err(table::taken(&self.name, work.context).into());
                }
            }
        }
        Ok(())
    }

    /// Gives rows that were inserted of a transaction that goes on with `delivery` what is said in there. The target
    /// transaction that has them must be open still.
    pub(super) async fn settle(
        &mut self,
        client: &Client,
        delivery: &Delivery,
        context: &SinkContext,
    ) -> Result<(), SinkError> {
        if let Some((position, said)) = self.stitcher.late(delivery) {
            let parameters = [said, context.source_database.clone(), position.0.to_string()];
            let settled = client.execute_raw(&self.settle, parameters).await;
            settled.map_err(|error| error::of(&error, context))?;
        }
        Ok(())
    }

    /// Remembers what was said in a transaction that goes on behind `delivery`, which is in the trail.
    pub(super) fn carry(&mut self, delivery: &Delivery) {
        self.stitcher.carry(delivery);
    }
}
