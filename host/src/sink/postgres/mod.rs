//! Rows in tables of another Postgres, exactly once.
//!
//! ```text
//!   source   T1 T2 T3 | T4 ..................... T4 | T5
//!   target   BEGIN rows position COMMIT   BEGIN rows of T4, as they come, position COMMIT   BEGIN ...
//! ```
//!
//! Source transactions stay whole, one or several per target transaction; a large one stays in one open target
//! transaction from its first part to its last. The position is a row of `rowmill.positions` that changes in the same
//! target transaction as the rows: after any crash they are both there or both not, and what is there already isn't
//! sent again.
//!
//! Deliveries that wait in the queue are applied together (`window`).
//!
//! Rows are applied in their order, in runs: neighbours that do the same to the same columns of the same table are one
//! statement, with an array per column that the server unnests. A key occurs once per run. Long runs of inserts go by
//! COPY, and a row too long for parameters by way of a temporary table (`long`). `compact` leaves out what nobody could see.
//!
//! Where foreign keys and ordinary triggers don't act (`session_replication_role`), the order between tables can't be
//! seen inside a target transaction: rows are then brought together by table, so that small transactions over several
//! tables make long runs too. Where a table has triggers of its own that act, each change is a statement, in its place.
//!
//! | change | mirror | upsert; copied rows, tables being copied, changes sent again |
//! | --- | --- | --- |
//! | insert | INSERT | INSERT ... ON CONFLICT (key) DO UPDATE |
//! | update with every column | UPDATE by key; a row that isn't there is passed over | as an insert |
//! | update without unchanged TOAST values | UPDATE of the others by key | the same |
//! | update of the key | UPDATE by the old key | of the row with the new key where the target is ahead |
//! | delete | DELETE by key | the same |
//! | any of them without a key | one row that is equal in all columns | the same |
//! | truncate | TRUNCATE of what the source names, RESTART IDENTITY as there | the same |
//! | message | nothing | nothing |
//!
//! With `transactions: relaxed` several connections write, each a share of the rows (`relaxed`).
//!
//! With `audit` each of them is a row of one table (`audit`, which takes the applier's place).
//! With `append` each of them is a row of its own (`about` has what is told beside its columns).
//!
//! What the target refuses is found by halves, since the rows of a delivery are tried together first (`refusal`). What
//! came before the refused row's transaction is committed, so that this transaction alone can be skipped. What it refuses at its
//! COMMIT alone is found transaction by transaction (`session/commit.rs`).

mod about;
mod always;
mod apply;
mod audit;
mod check;
mod compact;
mod connection;
mod copy;
mod create;
mod encode;
mod error;
mod facts;
mod follow;
mod group;
mod keys;
mod lacking;
mod long;
mod look_up;
mod pipeline;
mod position;
mod refusal;
mod relaxed;
mod relay;
mod run;
mod session;
mod shape;
mod statement;
mod straight;
mod target;
mod truncate;
mod widens;
#[cfg(feature = "engine")]
pub(crate) mod measuring;
mod window;

pub(super) use check::check;
pub use position::{forget, forgetting, skip};

use super::{Progress, Sink, SinkContext, SinkError, SinkFuture};
use crate::batch::{Delivery, Lsn};
use crate::config;
use crate::problem::Problem;
use apply::Applier;
use connection::Predecessor;
use relaxed::{Ahead, Relaxed};
use session::{InDoubt, OneByOne, Session};
use std::time::Duration;

/// How often in a row a target that has let us in before may refuse to, before that is final. With the driver's backoff
/// about two minutes: files of secrets follow later what changes the role.
const REFUSED_TRIES: u32 = 45;

/// What rows that come in numbers wait for others: long enough that keys that are changed again and again are changed
/// once, and that a commit takes hundreds of rows; less than anybody sees who has just changed so many.
const LINGER: Duration = Duration::from_millis(10);

pub(super) struct PostgresSink {
    config: config::PostgresSink,
    session: Option<Session>,
    /// The backends of the last session: after a broken connection they may still hold the sink's locks.
    predecessors: Vec<Predecessor>,
    /// `None` until the target has let us in, then how often it has refused to since.
    refused: Option<u32>,
    /// The commit with which the last session ended.
    in_doubt: Option<InDoubt>,
    /// Whether the next session is to find out which transaction the target has refused at its commit.
    one_by_one: Option<OneByOne>,
    durable: u64,
}

impl PostgresSink {
    pub(super) fn new(config: &config::PostgresSink) -> Self {
        Self {
            config: config.clone(),
            session: None,
            predecessors: Vec::new(),
            refused: None,
            in_doubt: None,
            one_by_one: None,
            durable: 0,
        }
    }

    async fn open_session(&mut self, context: &SinkContext) -> Result<Option<Lsn>, SinkError> {
        if let Some(last) = self.session.take() {
            self.in_doubt = last.in_doubt;
            self.one_by_one = last.one_by_one;
            self.durable = self.durable.max(last.durable);
            let copying = last.copying.into_iter();
            self.predecessors.extend(copying.flat_map(|copying| copying.opened));
        }
        let (client, independent) = match connection::connect(&self.config, context, &mut self.predecessors).await {
            Err(SinkError::Definite(problem)) if connection::is_of_the_login(&problem) => {
                return Err(self.refused(problem));
            }
            connected => connected?,
        };
        self.refused = Some(0);
        let own = connection::predecessor(&client).await;
        self.predecessors.push(own.map_err(|error| error::of(&error, context))?);
        // Behind the lock: the last session has ended.
        let (position, unstreamed, identity) = position::open(&client, context).await?;
        if let Some(in_doubt) = self.in_doubt {
            let complete = in_doubt.settle(&client, context).await?;
            self.durable = self.durable.max(complete.unwrap_or_default());
            self.in_doubt = None;
        }
        if let Some(relay) = &self.config.relay {
            relay::open(&client, relay, context).await?;
        }
        let trail = match &self.config.audit {
            Some(audit) => Some(audit::Trail::open(&client, audit, &identity, context).await?),
            None => None,
        };
        let ahead = Ahead::read(&client, context, position).await?;
        if let Some(ahead) = &ahead {
            context.known.on_the_timeline(&context.sink, ahead.position())?;
        }
        keys::open(&client, context).await?;
        let relaxed = match self.config.relaxed {
            Some(connections) if independent && trail.is_none() => {
                let own = &mut self.predecessors;
                Some(Relaxed::open(&client, connections, &self.config, context, own).await?)
            }
            _ => None,
        };
        let applier = Applier::new(&self.config, independent);
        let mut session = Session::open(client, context.clone(), identity, applier, self.durable).await?;
        session.trail = trail;
        let copies_beside = independent && session.trail.is_none() && self.config.mode != config::WriteMode::Append;
        if self.config.relaxed.is_none() && copies_beside {
            session.copying = Some(session::Copying::new(&self.config));
        }
        session.relaxed = relaxed;
        session.ahead = ahead;
        session.one_by_one = self.one_by_one.take();
        session.reached = position.unwrap_or_default();
        session.unstreamed = unstreamed;
        self.session = Some(session);
        Ok(position)
    }

    /// The target doesn't let us in. A secret that was rotated may be on its way to us: it is read again at each try.
    fn refused(&mut self, problem: Box<Problem>) -> SinkError {
        match &mut self.refused {
            Some(tries) if *tries < REFUSED_TRIES => {
                *tries += 1;
                let cause = problem.cause.as_deref().unwrap_or_default();
                SinkError::Transient(anyhow::anyhow!("{}: {cause}", problem.headline))
            }
            _ => SinkError::Definite(problem),
        }
    }

    /// Runs `work` on the session, which doesn't outlive a failure.
    fn session(&mut self) -> Result<&mut Session, SinkError> {
        self.session
            .as_mut()
            .ok_or_else(|| SinkError::Transient(anyhow::anyhow!("the target isn't connected")))
    }
}

impl Sink for PostgresSink {
    fn open<'a>(&'a mut self, context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        Box::pin(self.open_session(context))
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        Box::pin(async {
            let before = self.durable;
            self.durable = self.session()?.write(delivery).await?;
            Ok(match self.durable {
                durable if durable > before => Progress::Durable(durable),
                _ => Progress::Accepted,
            })
        })
    }

    fn durable(&self) -> u64 {
        // Something may have been committed in a call that has failed since.
        let session = self.session.as_ref().map_or(0, |session| session.durable);
        self.durable.max(session)
    }

    fn linger(&self) -> Duration {
        LINGER.min(self.config.flush_interval.0)
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(async {
            self.durable = self.session()?.flush().await?;
            Ok(self.durable)
        })
    }

    fn idle_after(&self) -> Option<Duration> {
        let due = self.session.as_ref().is_some_and(Session::has_due);
        due.then_some(keys::IDLE)
    }

    fn idle(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async { self.session()?.idle().await })
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async {
            self.durable = self.session()?.flush().await?;
            self.session = None;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
