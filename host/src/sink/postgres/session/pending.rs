//! What was sent and has not been replied to: the COPY that the last window ends with.

use super::{Session, work};
use crate::batch::{Delivery, Lsn};
use crate::sink::SinkError;
use crate::sink::driver;
use crate::sink::postgres::apply::PassedOver;
use crate::sink::postgres::relaxed::Bound;
use crate::sink::postgres::{error, refusal};
use std::ops::Range;

/// Rows that may have to be applied again, and what was known before they were sent.
pub(super) struct Pending {
    delivery: Delivery,
    range: Range<usize>,
    /// The position without the delivery's transactions.
    before: Option<Lsn>,
    pub(super) complete: u64,
    pub(super) applied: Bound,
    passed_over: PassedOver,
    /// Whether several connections have them.
    divided: bool,
}

impl Session {
    /// Remembers rows of which a tail is left. What was known `before` them is [`Self::known`].
    pub(super) fn leave(
        &mut self,
        delivery: &Delivery,
        range: Range<usize>,
        before: Option<Lsn>,
        (passed_over, divided): (PassedOver, bool),
    ) {
        let is_left = self.applier.tail.is_some() || self.relaxed.as_ref().is_some_and(|it| divided && it.has_tail());
        if is_left {
            self.pending = Some(Pending {
                delivery: delivery.clone(),
                range,
                before,
                complete: self.complete,
                applied: self.applied,
                passed_over,
                divided,
            });
        }
    }

    /// Waits for the reply to what was left. Where the target refuses some of it, all of it is taken back and applied
    /// again, with what it takes to find out which.
    pub(super) async fn settle_pending(&mut self) -> Result<(), SinkError> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let own = self.applier.settle_tail(&self.context).await;
        let mut errors: Vec<SinkError> = own.err().into_iter().collect();
        if let Some(relaxed) = self.relaxed.as_mut().filter(|_| pending.divided) {
            errors.extend(relaxed.settle_tails(&self.context).await);
        }
        if errors.is_empty() {
            return Ok(());
        }
        let complete = std::mem::replace(&mut self.complete, pending.complete);
        let applied = std::mem::replace(&mut self.applied, pending.applied);
        let again = Box::pin(self.apply_again(&pending, errors)).await;
        if again.is_ok() {
            (self.complete, self.applied) = (complete, applied);
        }
        again.map_err(|error| match error {
            // They are no rows of the window that the driver knows of by now.
            SinkError::Row { row, error } => driver::refused(&self.context, &pending.delivery, row, &error).into(),
            other => other,
        })
    }

    async fn apply_again(&mut self, pending: &Pending, errors: Vec<SinkError>) -> Result<(), SinkError> {
        let (delivery, range, before) = (&pending.delivery, pending.range.clone(), pending.before);
        let client = &self.client;
        if let Some(relaxed) = self.relaxed.as_mut().filter(|_| pending.divided) {
            let work = work(client, &self.context, delivery);
            let first = &mut self.applier;
            relaxed.back(first, work, errors, pending.passed_over).await?;
            self.settle(before).await?;
            return self.apply_alone(delivery, range, before, false).await;
        }
        // What is refused once more then is told with its row.
        if let Some(other) = errors
            .into_iter()
            .find(|error| !matches!(error, SinkError::Definite(_)))
        {
            return Err(other);
        }
        self.applier.passed_over = pending.passed_over;
        let back = client.batch_execute(refusal::BACK).await;
        back.map_err(|error| error::of(&error, &self.context))?;
        self.apply_alone(delivery, range, before, false).await
    }
}
