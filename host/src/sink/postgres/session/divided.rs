//! Target transactions of several connections: which rows are divided, and which one connection applies alone.

use super::{Session, moves_position, work};
use crate::batch::{Delivery, Lsn, Origin, Transaction};
use crate::sink::SinkError;
use crate::sink::postgres::relaxed::{Bound, Cut};
use std::ops::Range;

impl Session {
    /// Applies rows, divided as far as that can be. `before` is the position without the delivery's transactions.
    pub(super) async fn apply_relaxed(
        &mut self,
        delivery: &Delivery,
        range: Range<usize>,
        before: Option<Lsn>,
    ) -> Result<(), SinkError> {
        let cut = self.cut(delivery, range, before).await?;
        for (piece, divided) in &cut.pieces {
            self.settle_pending().await?;
            let before = before.max(ended_before(delivery, piece.start));
            if !divided || !self.apply_shares(delivery, &cut, piece.clone(), before).await? {
                if self.relaxed.as_ref().is_some_and(|relaxed| relaxed.open) {
                    self.settle(before).await?;
                }
                self.apply_alone(delivery, piece.clone(), before, true).await?;
            }
            self.note_applied(delivery, piece.clone());
        }
        Ok(())
    }

    async fn cut(&mut self, delivery: &Delivery, range: Range<usize>, before: Option<Lsn>) -> Result<Cut, SinkError> {
        let alone = Cut::alone(range.clone());
        let Some(relaxed) = self.relaxed.as_mut().filter(|_| self.ahead.is_none()) else {
            return Ok(alone);
        };
        if range.is_empty() || !relaxed.wants(range.len()) {
            return Ok(alone);
        }
        if !self.knows(delivery, range.clone()) {
            // What is made for them has to be seen by all connections.
            self.settle(before).await?;
            let work = work(&self.client, &self.context, delivery);
            self.applier.look_up(work, range.clone()).await?;
        }
        if !self.tells_all(delivery, range.clone()) {
            return Ok(alone);
        }
        let Some(relaxed) = &mut self.relaxed else {
            return Ok(alone);
        };
        let work = work(&self.client, &self.context, delivery);
        Ok(relaxed.cut(work, range, &self.applier))
    }

    /// Whether all rows are known when they come again: by the position, or by their key. Others are committed with the end of
    /// their window alone, from where on they don't come again: between pieces of it something may be committed before.
    fn tells_all(&self, delivery: &Delivery, range: Range<usize>) -> bool {
        let is_in_place = |transaction: &Transaction| transaction.origin == Origin::Stream && !transaction.is_aside();
        if delivery.batch.transactions.iter().all(is_in_place) {
            return true;
        }
        let mut rows = delivery.rows[range].iter().filter(|row| row.op.is_of_a_table());
        rows.all(|row| {
            let target = self.applier.targets.get(&delivery.batch.relation(row).index);
            is_in_place(delivery.batch.transaction(row)) || target.is_some_and(|target| target.keyed)
        })
    }

    /// Applies a piece by all connections. `false` where that can't be: then nothing of it is applied, and what came
    /// before it is committed.
    async fn apply_shares(
        &mut self,
        delivery: &Delivery,
        cut: &Cut,
        piece: Range<usize>,
        before: Option<Lsn>,
    ) -> Result<bool, SinkError> {
        if self.open && self.relaxed.as_ref().is_some_and(|relaxed| !relaxed.open) {
            self.settle(before).await?;
        }
        if self.relaxed.is_none() {
            return Ok(false);
        }
        self.go_in(delivery, &piece);
        let Some(relaxed) = &mut self.relaxed else {
            return Ok(false);
        };
        let work = work(&self.client, &self.context, delivery);
        let passed_over = self.applier.passed_over;
        self.applier.leaves_tail = true;
        let applied = relaxed.apply(&mut self.applier, work, cut, piece.clone()).await?;
        match applied {
            true => self.leave(delivery, piece, before, (passed_over, true)),
            false => self.settle(before).await?,
        }
        Ok(applied)
    }

    /// Whether the tables of rows have been looked up.
    fn knows(&self, delivery: &Delivery, range: Range<usize>) -> bool {
        let mut rows = delivery.rows[range].iter().filter(|row| row.op.is_of_a_table());
        rows.all(|row| {
            let relation = delivery.batch.relation(row);
            self.applier.targets.contains_key(&relation.index)
        })
    }

    fn note_applied(&mut self, delivery: &Delivery, piece: Range<usize>) {
        if let Some(last) = delivery.rows[piece].last() {
            let transaction = delivery.batch.transaction(last);
            if transaction.origin == Origin::Stream && !transaction.is_aside() {
                self.applied = (transaction.commit_lsn, last.ordinal + 1);
            }
        }
    }

    /// Up to where a transaction was applied that hasn't ended.
    pub(super) fn part_beyond(&self, position: Option<Lsn>) -> Option<Bound> {
        let position = self.reached.max(position.unwrap_or_default());
        Some(self.applied).filter(|applied| *applied > (position, 0))
    }

    /// Commits what was applied, though more may come of the same transaction.
    pub(super) async fn settle(&mut self, before: Option<Lsn>) -> Result<(), SinkError> {
        if self.open {
            self.note_doubt().await?;
            let position = std::mem::replace(&mut self.position, before);
            self.commit_open().await?;
            self.position = position;
        }
        Ok(())
    }

    /// Commits what other connections have. They do it first: a position says that all is there.
    pub(super) async fn commit_others(&mut self, position: Option<Lsn>) -> Result<(), SinkError> {
        let bound = self.part_beyond(position).or(position.map(|position| (position, 0)));
        let Some(relaxed) = &mut self.relaxed else {
            return Ok(());
        };
        let passed_over = relaxed.commit(bound, &self.identity, &self.context).await?;
        self.applier.passed_over.missing += passed_over.missing;
        self.applier.passed_over.conflicts += passed_over.conflicts;
        Ok(())
    }

    /// What follows from a commit of all, with the position where it moved.
    pub(super) fn settle_others(&mut self, position: Option<Lsn>) {
        self.reached = self.reached.max(position.unwrap_or_default());
        if let Some(relaxed) = &mut self.relaxed {
            relaxed.settled();
        }
        if self.ahead.as_ref().is_some_and(|ahead| ahead.is_passed(self.reached)) {
            self.ahead = None;
        }
    }
}

/// The end of the transactions before a row's.
fn ended_before(delivery: &Delivery, row: usize) -> Option<Lsn> {
    let row = delivery.rows.get(row)?;
    let transactions = delivery.batch.transactions[..row.transaction as usize].iter();
    let moving = transactions.filter(|transaction| moves_position(transaction));
    moving.map(|transaction| transaction.end_lsn).max()
}
