//! Where rows are delivered.
//!
//! A sink accepts deliveries in order and says up to which one everything is durable. *Durable* means that a crash
//! of this process and of the target's loses none of it. It is cumulative: durable up to delivery 7 means 1 to 7.

mod changes;
mod codes;
mod discard;
pub mod driver;
mod escape;
mod file;
pub mod json;
mod postgres;
mod standing;
mod stdout;
mod user_types;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(feature = "engine")]
pub(crate) use postgres::measuring;

pub use changes::{ColumnChanges, Renamed, TableChanges};
pub use codes::CODES;
pub use postgres::skip;
pub use standing::{Held, Known, Standing};
pub use user_types::{UserType, UserTypeKind, UserTypes};

use crate::batch::{Delivery, Lsn, Relation};
use crate::config;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

pub type SinkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

/// What a sink knows of the pipeline that it works for.
#[derive(Clone, Debug)]
pub struct SinkContext {
    pub pipeline: String,
    pub slot: String,
    pub sink: String,
    pub system_identifier: u64,
    /// The name of the source's database.
    pub source_database: String,
    pub state_dir: PathBuf,
    pub passed_over: Arc<PassedOver>,
    /// What the target has committed.
    pub known: Arc<Known>,
    pub types: Arc<UserTypes>,
    pub changes: Arc<ColumnChanges>,
}

/// Changes that a sink passed over, as its target wasn't what the source had been.
#[derive(Debug, Default)]
pub struct PassedOver {
    /// Updates and deletes of rows that the target didn't have.
    pub missing: AtomicU64,
    /// Changes that met another row of the same key.
    pub conflicts: AtomicU64,
    /// The dead letter, sent again, whose row the sink has stopped at; 0 where it is none's.
    pub letter: AtomicU64,
    /// Whether the sink has committed all that came before the transaction that it has stopped at.
    pub has_all_before: AtomicBool,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Taken, to be made durable later.
    Accepted,
    /// Everything up to the delivery with this sequence is durable.
    Durable(u64),
}

/// What to do about a failure, rather than where it came from.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Worth another try: the driver opens the sink again, with backoff, and sends what is not durable once more.
    #[error("{0:#}")]
    Transient(anyhow::Error),
    /// One row can't be delivered; its neighbours can. The index is into the delivery's rows.
    #[error("row {row} of the delivery: {error:#}")]
    Row { row: usize, error: anyhow::Error },
    /// No retry can cure it: the sink stops and says why.
    #[error("{0}")]
    Definite(Box<crate::problem::Problem>),
    /// Whoever read what the sink writes has gone (a closed pipe): the pipeline has nothing left to do, and that is
    /// no failure. What was not durable before stays unacknowledged.
    #[error("the reader has gone")]
    ReaderGone,
}

impl From<crate::problem::Problem> for SinkError {
    fn from(problem: crate::problem::Problem) -> Self {
        Self::Definite(Box::new(problem))
    }
}

/// The sink that the configuration describes, not open yet.
pub fn build(config: &config::Sink) -> Box<dyn Sink> {
    match &config.kind {
        config::SinkKind::Postgres(postgres) => Box::new(postgres::PostgresSink::new(postgres)),
        config::SinkKind::File(file) => Box::new(file::FileSink::new(file)),
        config::SinkKind::Stdout => Box::new(stdout::StdoutSink::new()),
        config::SinkKind::Discard => Box::new(discard::DiscardSink::default()),
    }
}

/// What a sink has found of its target.
#[derive(Debug, Default)]
pub struct Checked {
    /// What it would refuse.
    pub refusals: Vec<SinkError>,
    /// How tables that are there differ from what arrives: their names, and each difference.
    pub differences: Vec<(String, String)>,
    /// What is taken all the same, and worth knowing.
    pub advice: Vec<Advice>,
}

/// Something that stops nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub code: &'static str,
    pub headline: String,
    pub detail: String,
    pub help: String,
}

/// What stands in the way of delivering rows of these relations. Nothing is changed at the target.
pub async fn check(config: &config::Sink, context: &SinkContext, relations: &[Arc<Relation>]) -> Checked {
    match &config.kind {
        config::SinkKind::Postgres(postgres) => postgres::check(postgres, context, relations).await,
        config::SinkKind::File(file) => Checked {
            refusals: file::check(file, context).await.err().into_iter().collect(),
            ..Checked::default()
        },
        config::SinkKind::Stdout | config::SinkKind::Discard => Checked::default(),
    }
}

/// What lets a target forget how far the pipeline has come there, as it can be typed: a statement, or a command. `None`
/// where it keeps no position.
///
/// # Errors
/// A target that can't be asked.
pub async fn forgetting(config: &config::Sink, pipeline: &str) -> Result<Option<String>, SinkError> {
    match &config.kind {
        config::SinkKind::Postgres(target) => postgres::forgetting(&target.url, pipeline, &config.name).await,
        config::SinkKind::File(file) => file::forgetting(file, pipeline, &config.name).await,
        config::SinkKind::Stdout | config::SinkKind::Discard => Ok(None),
    }
}

/// Does what [`forgetting`] returned.
///
/// # Errors
/// A target that refuses it.
pub async fn forget(config: &config::Sink, pipeline: &str, statement: &str) -> Result<(), SinkError> {
    match &config.kind {
        config::SinkKind::Postgres(target) => postgres::forget(&target.url, pipeline, &config.name, statement).await,
        config::SinkKind::File(file) => file::forget(file, pipeline, &config.name).await,
        config::SinkKind::Stdout | config::SinkKind::Discard => Ok(()),
    }
}

/// The longest that accepted rows wait while more are coming; a sink that has caught up is flushed at once.
pub fn flush_interval(config: &config::Sink) -> std::time::Duration {
    match &config.kind {
        config::SinkKind::Postgres(postgres) => postgres.flush_interval.0,
        config::SinkKind::File(file) => file.flush_interval.0,
        config::SinkKind::Stdout | config::SinkKind::Discard => std::time::Duration::ZERO,
    }
}

/// Delivers batches. Order is kept per sink.
pub trait Sink: Send {
    /// Opens the target and throws away whatever an earlier run left there undurable. Returns the commit end up to
    /// which everything is there, where the target can tell: transactions that committed before it are not sent.
    fn open<'a>(&'a mut self, context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>>;

    /// The last delivery that is durable by what [`Self::open`] has found, as the reply that would have said so may have been
    /// lost; or that was durable before a call failed for good.
    fn durable(&self) -> u64 {
        0
    }

    /// Takes a delivery. A transaction may come in several, told by its `part`; only whole ones may become visible
    /// where the target can hide the rest.
    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress>;

    /// How long rows that come in numbers wait for those behind them though the queue is empty: as long as is worth it
    /// to a target that takes many at once at less cost.
    fn linger(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    /// Makes everything durable that can be, and returns the sequence of the last durable delivery. What belongs to
    /// a transaction that hasn't ended may stay undurable.
    fn flush(&mut self) -> SinkFuture<'_, u64>;

    /// How long nothing comes before [`Self::idle`] is to be called; `None`: there is nothing to do then.
    fn idle_after(&self) -> Option<std::time::Duration> {
        None
    }

    /// Does what can wait until nothing comes.
    fn idle(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Flushes and lets go of the target.
    fn close(&mut self) -> SinkFuture<'_, ()>;
}
