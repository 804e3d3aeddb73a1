//! Samples, all the time, of how far the slot was acknowledged and how far the sinks were.

use super::arrivals::Feed;
use super::ledger::{Lsn, lsn};
use crate::Cluster;
use anyhow::Result;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const INTERVAL: Duration = Duration::from_millis(50);
/// A server that doesn't answer for so long is asked again by another connection.
const ANSWER: Duration = Duration::from_secs(2);

/// The acknowledged position at one moment, and where each sink was right after it; `None` where that couldn't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub acknowledged: Lsn,
    pub sinks: Vec<Option<u64>>,
}

/// Takes samples in a thread of its own until it is dropped.
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Of the only slot of `source`, the table `told` of `target`, the file at `feed`, and the output at `echo`.
    pub fn start(source: &Cluster, target: &Cluster, feed: &Path, echo: &Path) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, until) = (Arc::clone(&samples), Arc::clone(&stop));
        let (source, target) = (source.url("source"), target.url("target"));
        let (feed, echo) = (feed.to_path_buf(), echo.to_path_buf());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime")
                .block_on(sample([&source, &target], [&feed, &echo], &into, &until));
        });
        Self {
            samples,
            stop,
            thread: Some(thread),
        }
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Vec<Sample> {
        std::mem::take(&mut self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn sample([source, target]: [&str; 2], [feed, echo]: [&Path; 2], into: &Mutex<Vec<Sample>>, stop: &AtomicBool) {
    const ACKNOWLEDGED: &str = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    let (mut of_source, mut of_target) = (None, None);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(INTERVAL).await;
        // In this order: what was acknowledged was delivered before.
        let acknowledged = ask(&mut of_source, source, ACKNOWLEDGED).await;
        let Some(acknowledged) = acknowledged.and_then(|text| lsn(&text)) else {
            continue;
        };
        let told = ask(&mut of_target, target, "SELECT COALESCE(max(n), 0) FROM told").await;
        let told = told.and_then(|text| text.parse().ok());
        let covered = Feed::covered(feed).ok();
        let written = std::fs::metadata(echo).map_or(0, |found| found.len());
        let sample = Sample {
            acknowledged,
            sinks: vec![told, covered, Some(written)],
        };
        into.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

/// The first cell of the answer. A connection that fails is given up; the next call makes another one.
async fn ask(client: &mut Option<Client>, url: &str, sql: &str) -> Option<String> {
    let answer = tokio::time::timeout(ANSWER, async {
        if client.is_none() {
            *client = Some(connect(url).await?);
        }
        let Some(client) = client else {
            return Ok(None);
        };
        let messages = client.simple_query(sql).await?;
        let cells = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        anyhow::Ok(cells.last())
    });
    match answer.await {
        Ok(Ok(cell)) => cell,
        _ => {
            *client = None;
            None
        }
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
