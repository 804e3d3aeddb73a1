//! Copied rows by two connections, whatever the sink's transactions are.
//!
//! While a table is copied its rows become visible a unit at a time, so nobody can tell whether one transaction or two
//! brought them. They are divided as `transactions: relaxed` divides rows (`relaxed`); what is refused, and tables whose
//! rows don't divide, are the first connection's alone. The stream's rows all are: before the first of them the other
//! connection has committed. After a crash between the two commits the unit comes again, and each of its rows is
//! overwritten by key, as ever.
//!
//! Rows that go in as they came (`straight`) are the first connection's alone: the target has no texts to parse, so one
//! takes all that is read, and two of them would wait for each other's pages of an index (a quarter more CPU).

use super::Session;
use crate::batch::{Delivery, Lsn, Origin};
use crate::config;
use crate::sink::SinkError;
use crate::sink::postgres::connection::Predecessor;
use crate::sink::postgres::relaxed::Relaxed;
use std::time::{Duration, Instant};

/// Connections that write copied rows: one that parses and inserts rows takes longer than it takes to read them.
const CONNECTIONS: usize = 2;
/// Rows of a window from which on a second connection is worth being opened. Tests have fewer.
const ROWS_MIN: usize = if cfg!(test) { 5 } else { 2_000 };
/// How long it stays open without copied rows.
const IDLE: Duration = Duration::from_secs(30);

/// The connection beside the first, while rows are copied.
pub(in crate::sink::postgres) struct Copying {
    config: config::PostgresSink,
    last: Option<Instant>,
    /// It couldn't be opened.
    is_refused: bool,
    /// Connections that were opened, which may outlive the session.
    pub(in crate::sink::postgres) opened: Vec<Predecessor>,
}

impl Copying {
    pub(in crate::sink::postgres) fn new(config: &config::PostgresSink) -> Self {
        Self {
            config: config.clone(),
            last: None,
            is_refused: false,
            opened: Vec::new(),
        }
    }
}

impl Session {
    /// Opens the other connection where it is worth it. `true` where the rows may be divided.
    pub(super) async fn divides_copied(&mut self, delivery: &Delivery, before: Option<Lsn>) -> Result<bool, SinkError> {
        let Some(copying) = &self.copying else {
            return Ok(self.relaxed.is_some());
        };
        if !is_copied(delivery) || delivery.batch.straight {
            if self.relaxed.as_ref().is_some_and(|relaxed| relaxed.open) {
                self.settle(before).await?;
            }
            return Ok(false);
        }
        if self.relaxed.is_none() {
            if copying.is_refused || delivery.rows.len() < ROWS_MIN {
                return Ok(false);
            }
            self.settle(before).await?;
            self.open_beside().await;
        }
        if let Some(copying) = &mut self.copying {
            copying.last = Some(Instant::now());
        }
        Ok(self.relaxed.is_some())
    }

    async fn open_beside(&mut self) {
        let Some(copying) = &mut self.copying else { return };
        let own = &mut copying.opened;
        match Relaxed::open(&self.client, CONNECTIONS, &copying.config, &self.context, own).await {
            Ok(relaxed) => self.relaxed = Some(relaxed),
            Err(error) => {
                let sink = &self.context.sink;
                tracing::warn!(
                    sink,
                    "one connection copies alone, as a second one can't be opened: {error}"
                );
                copying.is_refused = true;
            }
        }
    }

    /// Lets go of the other connection when nothing has been copied for a while.
    pub(super) fn close_beside(&mut self) {
        let is_idle = |copying: &Copying| copying.last.is_some_and(|last| last.elapsed() > IDLE);
        if let Some(copying) = self.copying.as_mut().filter(|copying| is_idle(copying)) {
            copying.last = None;
            self.relaxed = None;
        }
    }
}

pub(super) fn is_copied(delivery: &Delivery) -> bool {
    let mut transactions = delivery.batch.transactions.iter();
    transactions.all(|transaction| matches!(transaction.origin, Origin::Copy(_)))
}
