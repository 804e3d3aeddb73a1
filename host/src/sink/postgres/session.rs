//! Target transactions: when one begins, and when it is committed with the position.

mod commit;
mod copying;
mod divided;
mod doubt;
mod pending;

use super::apply::{Applier, Work};
use super::audit::Trail;
use super::error;
use super::facts::HOLD;
use super::position::{Identity, UPDATE};
use super::refusal;
use super::relaxed::{Ahead, Bound, Relaxed};
use super::window::{Joint, Window};
use crate::batch::{Delivery, Lsn, Origin, Part, Transaction};
use crate::sink::driver;
use crate::sink::{SinkContext, SinkError};
pub(super) use commit::OneByOne;
pub(super) use copying::Copying;
use copying::is_copied;
pub(super) use doubt::InDoubt;
use pending::Pending;
use std::ops::Range;
use std::sync::atomic::Ordering;
use tokio_postgres::{Client, Statement};

/// Bytes of deliveries in one target transaction of several source transactions.
const TRANSACTION_BYTES: usize = 64 * 1024 * 1024;
/// The same of copied rows: the source reads on when they are durable (`snapshot::Plan::units_under_way`).
const COPIED_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Session {
    client: Client,
    context: SinkContext,
    identity: Identity,
    update_position: Statement,
    hold: Statement,
    applier: Applier,
    /// Takes the applier's place in an audit trail.
    pub(super) trail: Option<Trail>,
    /// The connections that write beside this one, where transactions may be seen in parts, and while rows are copied.
    pub(super) relaxed: Option<Relaxed>,
    /// Where they do so for copied rows alone.
    pub(super) copying: Option<Copying>,
    /// What is there beyond the position.
    pub(super) ahead: Option<Ahead>,
    window: Window,
    pending: Option<Pending>,
    /// Whether a target transaction is open, and what went into it.
    open: bool,
    bytes: usize,
    /// The end of the last streamed transaction, where the open target transaction moves the position.
    position: Option<Lsn>,
    /// Whether it brings what the stream doesn't bring again.
    is_unstreamed: bool,
    /// How many have, that were committed.
    pub(super) unstreamed: u64,
    /// Whether it has copied rows that nothing at the target would tell from the same ones once more.
    unrecognised: bool,
    /// Its number, while it is committed, where it has.
    pub(super) in_doubt: Option<InDoubt>,
    /// Whether each source transaction is committed for itself, as the target has refused several at their commit.
    pub(super) one_by_one: Option<OneByOne>,
    /// Whether the last source transaction hasn't ended.
    inside: bool,
    /// Up to where several connections have applied, and the position that was committed last.
    applied: Bound,
    pub(super) reached: Lsn,
    /// The last delivery of which nothing belongs to a transaction that hasn't ended.
    complete: u64,
    /// The last delivery of which something was to be applied.
    under_way: u64,
    written: u64,
    /// The last delivery of which everything is committed.
    pub(super) durable: u64,
}

impl Session {
    pub(super) async fn open(
        client: Client,
        context: SinkContext,
        identity: Identity,
        applier: Applier,
        durable: u64,
    ) -> Result<Self, SinkError> {
        let failed = |error| error::of(&error, &context);
        let update_position = client.prepare(UPDATE).await.map_err(failed)?;
        let hold = client.prepare(HOLD).await.map_err(failed)?;
        Ok(Self {
            client,
            context,
            identity,
            update_position,
            hold,
            applier,
            trail: None,
            relaxed: None,
            copying: None,
            ahead: None,
            window: Window::default(),
            pending: None,
            open: false,
            bytes: 0,
            position: None,
            is_unstreamed: false,
            unstreamed: 0,
            unrecognised: false,
            in_doubt: None,
            one_by_one: None,
            inside: false,
            applied: Bound::default(),
            reached: Lsn::default(),
            complete: durable,
            under_way: durable,
            written: durable,
            durable,
        })
    }

    /// Takes a delivery, applies what has come together where that is enough, and returns up to which one everything
    /// is durable.
    pub(super) async fn write(&mut self, delivery: &Delivery) -> Result<u64, SinkError> {
        let rest = self.ahead.as_ref().and_then(|ahead| ahead.without_known(delivery));
        let delivery = rest.as_ref().unwrap_or(delivery);
        let targets = &self.applier.targets;
        if !self.window.takes(delivery, |index| targets.contains_key(&index)) {
            self.apply_window().await?;
        }
        self.applier.note_over(delivery);
        self.window.push(delivery);
        if self.window.is_due() {
            self.apply_window().await?;
            self.settle_empty();
        }
        if self.bytes >= TRANSACTION_BYTES {
            self.flush().await?;
        }
        Ok(self.durable)
    }

    #[cfg(test)]
    pub(super) fn applier(&self) -> &Applier {
        &self.applier
    }

    /// Of all connections that write.
    #[cfg(test)]
    pub(super) fn clients(&self) -> Vec<&Client> {
        let others = self.relaxed.iter().flat_map(Relaxed::clients);
        std::iter::once(&self.client).chain(others).collect()
    }

    async fn apply_window(&mut self) -> Result<(), SinkError> {
        let Some(joint) = self.window.take(self.written) else {
            return Ok(());
        };
        match self.apply_joint(&joint).await {
            // The rows of several deliveries have no number that the driver would know.
            Err(SinkError::Row { row, error }) => {
                Err(driver::refused(&self.context, &joint.delivery, row, &error).into())
            }
            applied => applied,
        }
    }

    async fn apply_joint(&mut self, joint: &Joint) -> Result<(), SinkError> {
        let delivery = &joint.delivery;
        self.under_way = delivery.sequence;
        self.settle_pending().await?;
        if self.bytes >= COPIED_BYTES && !self.inside && is_copied(delivery) {
            self.commit().await?;
        }
        if let Some(trail) = &mut self.trail {
            trail.settle(&self.client, delivery, &self.context).await?;
        }
        let mut start = 0;
        let mut end = 0;
        let mut begun = None;
        let before = self.position;
        for (at, (transaction, rows)) in delivery.transactions().enumerate() {
            if !self.inside {
                begun = Some(at);
            }
            if transaction.part == Part::First || self.one_by_one.is_some() && !self.inside {
                // A large one begins: what came before it must not wait for its end. Or each is for itself.
                self.complete = joint.before(at);
                self.apply(delivery, start..end, before).await?;
                start = end;
                self.commit().await?;
            }
            end += rows.len();
            self.inside = !transaction.is_complete();
            if moves_position(transaction) {
                self.position = self.position.max(Some(transaction.end_lsn));
            }
        }
        self.apply(delivery, start..end, before).await?;
        if let Some(trail) = &mut self.trail {
            trail.carry(delivery);
        }
        self.written = delivery.sequence;
        if !self.inside {
            self.complete = delivery.sequence;
        } else if let Some(begun) = begun {
            self.complete = joint.before(begun);
        }
        Ok(())
    }

    /// Applies what waits, and commits unless a source transaction hasn't ended.
    pub(super) async fn flush(&mut self) -> Result<u64, SinkError> {
        self.apply_window().await?;
        if !self.inside {
            self.commit().await?;
            self.build_keys(false).await?;
        }
        self.settle_empty();
        Ok(self.durable)
    }

    /// Whether a table waits for its key.
    pub(super) fn has_due(&self) -> bool {
        !self.applier.due.is_empty()
    }

    /// Nothing has come for a while.
    pub(super) async fn idle(&mut self) -> Result<(), SinkError> {
        if !self.inside {
            self.commit().await?;
            self.build_keys(true).await?;
        }
        Ok(())
    }

    /// Builds the keys that are due, for rows that need them. `before` is the position without the delivery's
    /// transactions.
    async fn give_keys(&mut self, before: Option<Lsn>) -> Result<(), SinkError> {
        if self.relaxed.as_ref().is_some_and(|relaxed| relaxed.open) {
            self.settle(before).await?;
        }
        self.build_keys(true).await
    }

    async fn build_keys(&mut self, all: bool) -> Result<(), SinkError> {
        let before = self.applier.due.len();
        self.applier
            .build_keys(&self.client, &self.context, (self.open, all))
            .await?;
        if let Some(relaxed) = self.relaxed.as_mut().filter(|_| self.applier.due.len() < before) {
            relaxed.forget();
        }
        Ok(())
    }

    /// Where no row waits for its commit, everything is durable as it is: there was nothing to write.
    fn settle_empty(&mut self) {
        if !self.open {
            self.durable = self.complete;
        }
    }

    /// `before` is the position without the delivery's transactions.
    async fn apply(&mut self, delivery: &Delivery, range: Range<usize>, before: Option<Lsn>) -> Result<(), SinkError> {
        if range.is_empty() {
            return Ok(());
        }
        self.settle_pending().await?;
        self.note_one(delivery, range.start);
        let divides = self.one_by_one.is_none() && self.divides_copied(delivery, before).await?;
        if self.applier.need_keys(&delivery.batch, &delivery.rows[range.clone()]) {
            self.give_keys(before).await?;
        }
        match divides {
            true => self.apply_relaxed(delivery, range, before).await,
            false => self.apply_alone(delivery, range, before, true).await,
        }
    }

    async fn apply_alone(
        &mut self,
        delivery: &Delivery,
        range: Range<usize>,
        before: Option<Lsn>,
        leaves_tail: bool,
    ) -> Result<(), SinkError> {
        let start = range.start;
        let passed_over = self.applier.passed_over;
        self.applier.leaves_tail = leaves_tail;
        match self.try_apply(delivery, range.clone()).await {
            Err(error) => {
                let refused = match &error {
                    SinkError::Row { row, .. } => Some(*row),
                    _ => self.applier.refused.take(),
                };
                if let Some(row) = refused {
                    self.commit_before(delivery, start..row, before).await?;
                }
                Err(error)
            }
            Ok(()) => {
                self.leave(delivery, range, before, (passed_over, false));
                Ok(())
            }
        }
    }

    /// Commits what came before the transaction whose row is refused, so that nothing but this transaction is passed
    /// over where somebody lets it be.
    async fn commit_before(
        &mut self,
        delivery: &Delivery,
        rows: Range<usize>,
        before: Option<Lsn>,
    ) -> Result<(), SinkError> {
        let Some(refused) = delivery.rows.get(rows.end) else {
            return Ok(());
        };
        let transactions = &delivery.batch.transactions[..=refused.transaction as usize];
        let Some((refused_transaction, whole)) = transactions.split_last() else {
            return Ok(());
        };
        if !matches!(refused_transaction.part, Part::Whole | Part::First) {
            // What came before it was committed when it began.
            return Ok(());
        }
        let own = delivery.rows[rows.clone()].iter().rev();
        let own = own.take_while(|row| row.transaction == refused.transaction).count();
        if self.applier.begun {
            let back = self.client.batch_execute(refusal::BACK).await;
            back.map_err(|error| error::of(&error, &self.context))?;
        }
        self.applier.leaves_tail = false;
        self.try_apply(delivery, rows.start..rows.end - own).await?;
        let moving = whole.iter().filter(|transaction| moves_position(transaction));
        self.position = before.max(moving.map(|transaction| transaction.end_lsn).max());
        self.commit().await?;
        self.context.passed_over.has_all_before.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn try_apply(&mut self, delivery: &Delivery, range: Range<usize>) -> Result<(), SinkError> {
        if range.is_empty() {
            return Ok(());
        }
        if self.trail.is_some() {
            return self.tell(delivery, range).await;
        }
        let was_open = self.open;
        let begin = if was_open { refusal::NEXT } else { refusal::BEGIN };
        self.go_in(delivery, &range);
        let work = work(&self.client, &self.context, delivery);
        let applied = self.applier.apply(work, range, begin).await;
        self.open = was_open || self.applier.begun;
        self.note_copied(delivery);
        applied
    }

    /// Rows go into the target transaction, which is open from here on.
    fn go_in(&mut self, delivery: &Delivery, rows: &Range<usize>) {
        self.open = true;
        self.bytes += delivery.batch.size_bytes();
        let (Some(first), Some(last)) = (delivery.rows.get(rows.start), delivery.rows[..rows.end].last()) else {
            return;
        };
        let transactions = &delivery.batch.transactions[first.transaction as usize..=last.transaction as usize];
        let comes_again = |it: &Transaction| it.origin == Origin::Stream && !it.is_aside();
        self.is_unstreamed |= !transactions.iter().all(comes_again);
    }

    /// Writes the trail of some rows. Where they make none, no target transaction begins: the trail may lie in the
    /// source's own database, and must not keep itself going.
    async fn tell(&mut self, delivery: &Delivery, range: Range<usize>) -> Result<(), SinkError> {
        let Some(trail) = &mut self.trail else {
            return Ok(());
        };
        let encoded = trail.encode(work(&self.client, &self.context, delivery), range.clone());
        if matches!(encoded, Ok(None)) {
            return Ok(());
        }
        let begin = if self.open { refusal::NEXT } else { refusal::BEGIN };
        self.go_in(delivery, &range);
        let begun = self.client.batch_execute(begin).await;
        begun.map_err(|error| error::of(&error, &self.context))?;
        self.applier.begun = true;
        let (Some(arrays), Some(trail)) = (encoded?, &mut self.trail) else {
            return Ok(());
        };
        let work = work(&self.client, &self.context, delivery);
        let told = trail.insert(work, range, arrays).await;
        self.applier.refused = trail.refused.take();
        told
    }
}

fn work<'a>(client: &'a Client, context: &'a SinkContext, delivery: &'a Delivery) -> Work<'a> {
    Work {
        client,
        context,
        batch: &delivery.batch,
        rows: &delivery.rows,
        copying: &delivery.copying,
    }
}

/// Whether the target has all up to its end once it has the transaction.
fn moves_position(transaction: &Transaction) -> bool {
    transaction.is_complete() && transaction.origin == Origin::Stream && !transaction.is_aside()
}
