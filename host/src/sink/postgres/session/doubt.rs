//! Commits whose reply may be lost, of copied rows and of letters that are sent again, which nothing at the target tells from
//! the same ones once more: those of an appending sink, and of tables without a key there.
//!
//! A change of the stream is known by the sink's position, any other row by its key. Where there is none, the transaction is
//! asked for its number before it is committed, and the server, by the connection that comes next, what became of it.

use super::Session;
use crate::batch::{Delivery, Origin};
use crate::config::WriteMode;
use crate::sink::postgres::error;
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// A target transaction that was about to be committed.
#[derive(Clone, Copy, Debug)]
pub(in crate::sink::postgres) struct InDoubt {
    transaction: i64,
    /// The last delivery that is durable by it.
    complete: u64,
}

impl Session {
    /// To be called for rows that were applied.
    pub(super) fn note_copied(&mut self, delivery: &Delivery) {
        let mut transactions = delivery.batch.transactions.iter();
        if self.unrecognised || transactions.all(|it| it.origin == Origin::Stream) {
            return;
        }
        let (appends, targets) = (self.applier.mode == WriteMode::Append, &self.applier.targets);
        let relations = delivery.batch.relations.iter();
        let mut targets = relations.filter_map(|relation| targets.get(&relation.index));
        self.unrecognised = targets.any(|target| appends || !target.keyed);
    }

    /// To be called before a commit. Nothing else may be under way.
    pub(super) async fn note_doubt(&mut self) -> Result<(), SinkError> {
        if self.unrecognised {
            self.settle_pending().await?;
            let number = self.client.query_one("SELECT pg_catalog.txid_current()", &[]).await;
            let number = number.map_err(|error| error::of(&error, &self.context))?;
            self.in_doubt = Some(InDoubt {
                transaction: number.get(0),
                complete: self.complete,
            });
        }
        Ok(())
    }
}

impl InDoubt {
    /// The last delivery that is durable by it, where it was committed. The session that it was of has to have ended.
    pub(in crate::sink::postgres) async fn settle(
        self,
        client: &Client,
        context: &SinkContext,
    ) -> Result<Option<u64>, SinkError> {
        let status = "SELECT pg_catalog.txid_status($1) IS NOT DISTINCT FROM 'committed'";
        match client.query_one(status, &[&self.transaction]).await {
            Ok(row) => Ok(row.get::<_, bool>(0).then_some(self.complete)),
            // Another server, which has never come so far.
            Err(refused) if refused.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => Ok(None),
            Err(other) => Err(error::of(&other, context)),
        }
    }
}
