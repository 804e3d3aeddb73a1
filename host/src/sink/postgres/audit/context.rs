//! What an application said of a transaction, brought to the transaction's rows.

use crate::batch::{Batch, Delivery, Lsn, Row};
use crate::config::ContextRule;
use crate::sink::json::push_context;
use std::borrow::Cow;

/// What Bemi's client packages write; `_bemi_heartbeat` and all others are somebody else's.
const PREFIX: &str = "_bemi";
const NOTHING: &str = "{}";

/// Finds the context of rows. A transaction may come in several deliveries: what was said is carried to the next.
pub(super) struct Stitcher {
    rule: ContextRule,
    carried: Option<Carried>,
}

/// Of the transaction that the last delivery ended in.
struct Carried {
    commit_lsn: Lsn,
    /// By the rule: the first that was said, or the latest.
    said: Option<String>,
    /// Whether rows of it may have been written.
    has_rows: bool,
}

impl Stitcher {
    pub(super) fn new(rule: ContextRule) -> Self {
        Self { rule, carried: None }
    }

    /// The context of a row, as a JSON object.
    pub(super) fn of(&self, batch: &Batch, row: &Row) -> Cow<'_, str> {
        let transaction = batch.transaction(row);
        let carried = self
            .carried
            .as_ref()
            .filter(|carried| carried.commit_lsn == transaction.commit_lsn)
            .and_then(|carried| carried.said.as_deref());
        let here = || said(batch, row.transaction);
        match self.rule {
            ContextRule::None => Cow::Borrowed(NOTHING),
            ContextRule::First => match (carried, here().next()) {
                (Some(carried), _) => Cow::Borrowed(carried),
                (None, Some(first)) => Cow::Owned(object(batch, first)),
                (None, None) => Cow::Borrowed(NOTHING),
            },
            ContextRule::Latest => match here().take_while(|said| said.ordinal < row.ordinal).last() {
                Some(latest) => Cow::Owned(object(batch, latest)),
                None => Cow::Borrowed(carried.unwrap_or(NOTHING)),
            },
        }
    }

    /// Where the transaction commits that goes on with a delivery, and its context, where rows of it were written before that
    /// was said.
    pub(super) fn late(&self, delivery: &Delivery) -> Option<(Lsn, String)> {
        let batch = &delivery.batch;
        // What goes on is the first of the delivery's transactions.
        let (carried, first) = (self.carried.as_ref()?, batch.transactions.first()?);
        let is_late = self.rule == ContextRule::First
            && carried.commit_lsn == first.commit_lsn
            && carried.said.is_none()
            && carried.has_rows;
        let first_said = said(batch, 0).next().filter(|_| is_late)?;
        Some((first.commit_lsn, object(batch, first_said)))
    }

    /// Called behind each delivery.
    pub(super) fn carry(&mut self, delivery: &Delivery) {
        let batch = &delivery.batch;
        // What will go on is the last of the delivery's transactions.
        let Some(last) = batch.transactions.last() else {
            return;
        };
        if last.is_complete() {
            self.carried = None;
            return;
        }
        let at = batch.transactions.len() as u32 - 1;
        let before = self
            .carried
            .take()
            .filter(|carried| carried.commit_lsn == last.commit_lsn);
        let had_rows = before.as_ref().is_some_and(|carried| carried.has_rows);
        let before = before.and_then(|carried| carried.said);
        let mut here = said(batch, at);
        let said = match self.rule {
            ContextRule::None => None,
            ContextRule::First => before.or_else(|| here.next().map(|said| object(batch, said))),
            ContextRule::Latest => here.last().map(|said| object(batch, said)).or(before),
        };
        self.carried = Some(Carried {
            commit_lsn: last.commit_lsn,
            said,
            has_rows: had_rows || delivery.rows.iter().any(|row| row.transaction == at),
        });
    }
}

/// The messages of a transaction that hold context, in order.
fn said(batch: &Batch, transaction: u32) -> impl Iterator<Item = &Row> {
    let begin = batch.message_rows.partition_point(|row| row.transaction < transaction);
    batch.message_rows[begin..]
        .iter()
        .take_while(move |row| row.transaction == transaction)
        .filter(|row| {
            let message = batch.messages.get(row.extra as usize);
            message.is_some_and(|message| message.transactional && message.prefix == PREFIX)
        })
}

fn object(batch: &Batch, said: &Row) -> String {
    let mut out = Vec::new();
    if let Some(message) = batch.messages.get(said.extra as usize) {
        push_context(&message.content, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}
