//! Starts the tasks of a copy, and ends them.

use super::fault::{self, Fault};
use super::merger::Merger;
use super::plan::Plan;
use super::shared::{Connect, Shared};
use super::visibility::Snapshot;
use super::worker::Event;
use super::{barrier, read, reread, worker};
use crate::postgres::Reader;
use crate::problem::{Exit, Problem};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// How often the first connection is tried, and how long the pause before the next is, doubled each time.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The tasks of a copy. They end when all is merged, and when this is dropped.
#[derive(Debug)]
pub struct Copier {
    tasks: JoinHandle<()>,
}

impl Copier {
    /// Whether nothing is read any more.
    pub fn is_over(&self) -> bool {
        self.tasks.is_finished()
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// Starts to copy. To be called on a tokio runtime, when the slot is there (the position at which the stream begins is
/// fixed) and before the first batch of the stream is passed on. `connect` makes ordinary connections to the primary
/// with the settings that all have, an empty search_path among them.
pub fn start<C, F>(plan: Plan, connect: C) -> (Copier, Merger)
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Reader>> + Send + 'static,
{
    let (copier, merger) = prepare(plan, connect);
    merger.begin();
    (copier, merger)
}

/// As [`start`], for a copy that begins while the stream runs: nothing is asked of the server before it has been joined
/// to the others, see [`super::Mergers::join`].
pub fn prepare<C, F>(plan: Plan, connect: C) -> (Copier, Merger)
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Reader>> + Send + 'static,
{
    let connect: Connect = Arc::new(move || Box::pin(connect()));
    let workers = if plan.tables.is_empty() {
        0
    } else {
        plan.connections.max(1)
    };
    let shared = Arc::new(Shared::new(plan, connect, Snapshot::nothing()));
    let (events, received) = mpsc::unbounded_channel();
    let (rereader, requests) = mpsc::unbounded_channel();
    let merger = Merger::new(Arc::clone(&shared), received, rereader);
    let tasks = tokio::spawn(supervise(shared, workers, events, requests));
    (Copier { tasks }, merger)
}

async fn supervise(
    shared: Arc<Shared>,
    workers: usize,
    events: mpsc::UnboundedSender<Event>,
    requests: mpsc::UnboundedReceiver<reread::Request>,
) {
    if workers == 0 {
        return;
    }
    // It can't fail: the sender is what is shared.
    let _ = shared.is_begun.subscribe().wait_for(|is_begun| *is_begun).await;
    if let Err(problem) = wait_for_start(&shared).await {
        let _ = events.send(Event::Failed(problem));
        return;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(worker::run(Arc::clone(&shared), events.clone()));
    }
    tasks.spawn(reread::run(shared, requests, events.clone()));
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            let bug = Problem::new(
                "E0608",
                Exit::Bug,
                "a task of the copy panicked",
                "report the log as a bug",
            );
            let _ = events.send(Event::Failed(Box::new(bug)));
            return;
        }
    }
}

/// Waits until snapshots see all that the stream won't bring.
async fn wait_for_start(shared: &Shared) -> Result<(), Box<Problem>> {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let waited = async {
            let mut reader = read::connect(&shared.connect).await?;
            barrier::wait(&mut reader, shared.patient, |snapshot| shared.floors().saw(snapshot)).await?;
            read::wal_end(&mut reader).await
        };
        match waited.await {
            Ok(wal_end) => {
                shared.begun.get_or_init(|| wal_end);
                return Ok(());
            }
            Err(Fault::Definite(problem)) => return Err(problem),
            Err(Fault::Transient(error)) if attempt == ATTEMPTS => {
                return Err(fault::unreachable(&shared.tables[0].copy, &error));
            }
            Err(Fault::Transient(error)) => tracing::warn!(attempt, "the copy can't begin yet: {error:#}"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}
