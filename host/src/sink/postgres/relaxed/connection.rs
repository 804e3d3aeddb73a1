//! A connection beside the sink's first one.

use super::ahead;
use crate::batch::Row;
use crate::config;
use crate::sink::postgres::apply::{Applier, PassedOver, Work};
use crate::sink::postgres::connection::{self, Predecessor};
use crate::sink::postgres::facts::{self, Failed, HOLD};
use crate::sink::postgres::keys::Due;
use crate::sink::postgres::pipeline::Pipeline;
use crate::sink::postgres::target::Target;
use crate::sink::postgres::{error, refusal};
use crate::sink::{SinkContext, SinkError};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio_postgres::{Client, Statement};

pub(super) struct Connection {
    client: Client,
    pub(super) applier: Applier,
    update: Statement,
    hold: Statement,
    /// Whether a target transaction is open.
    pub(super) open: bool,
    /// What was passed over before the last delivery.
    before: PassedOver,
}

impl Connection {
    pub(super) async fn open(
        config: &config::PostgresSink,
        context: &SinkContext,
    ) -> Result<(Self, Predecessor), SinkError> {
        let failed = |error| error::of(&error, context);
        let (client, independent) = connection::connect(config, context, &mut Vec::new()).await?;
        ahead::enter(&client, context).await?;
        let own = connection::predecessor(&client).await.map_err(failed)?;
        let connection = Self {
            update: client.prepare(ahead::UPDATE).await.map_err(failed)?,
            hold: client.prepare(HOLD).await.map_err(failed)?,
            client,
            applier: Applier::new(config, independent),
            open: false,
            before: PassedOver::default(),
        };
        Ok((connection, own))
    }

    #[cfg(test)]
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Applies its share of a delivery, whose tables the first connection has looked up. Where those are looked up again,
    /// as a column has been renamed, some may still be without their keys.
    pub(super) async fn apply(
        &mut self,
        work: Work<'_>,
        rows: &[Row],
        targets: &FxHashMap<u32, Arc<Target>>,
        due: &[Due],
    ) -> Result<(), SinkError> {
        self.before = self.applier.passed_over;
        self.applier.begun = false;
        if rows.is_empty() {
            return Ok(());
        }
        self.applier.due = due.to_vec();
        let mut last = None;
        for row in rows
            .iter()
            .filter(|row| last.replace(row.relation) != Some(row.relation))
        {
            let index = work.batch.relation(row).index;
            if let Some(target) = targets.get(&index) {
                self.applier.targets.entry(index).or_insert_with(|| Arc::clone(target));
            }
        }
        let begin = if self.open {
            refusal::NEXT
        } else {
            refusal::BEGIN_BESIDE
        };
        self.open = true;
        let client = &self.client;
        self.applier.leaves_tail = true;
        let applied = self
            .applier
            .apply(Work { client, rows, ..work }, 0..rows.len(), begin)
            .await;
        self.applier.refused = None;
        applied
    }

    /// Takes back what was done of the last delivery, if it had a share of that.
    pub(super) async fn take_back(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.applier.passed_over = self.before;
        self.applier.tail = None;
        if self.applier.begun {
            let back = self.client.batch_execute(refusal::BACK).await;
            back.map_err(|error| error::of(&error, context))?;
        }
        Ok(())
    }

    /// Commits what is open, with the share's position where there is one.
    pub(super) async fn commit(
        &mut self,
        moved: Option<[String; 8]>,
        context: &SinkContext,
    ) -> Result<PassedOver, SinkError> {
        let (client, update) = (&self.client, &self.update);
        let mut pipeline: Pipeline<'_, Failed> = Pipeline::new();
        if let Some(hold) = self.applier.facts.hold(client, &self.hold) {
            pipeline.send(facts::changed, hold).await;
        }
        if let Some(parameters) = moved {
            let update = async move { client.execute_raw(update, parameters).await };
            pipeline.send(error::of, update).await;
        }
        let commit = async move { client.batch_execute(refusal::COMMIT).await.map(|()| 0) };
        pipeline.send(error::of, commit).await;
        while let Some((failed, reply)) = pipeline.receive().await {
            reply.map_err(|error| failed(&error, context))?;
        }
        drop(pipeline);
        self.open = false;
        Ok(std::mem::take(&mut self.applier.passed_over))
    }
}
