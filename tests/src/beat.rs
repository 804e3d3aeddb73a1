//! A row every few milliseconds in a table of its own, and when each of them is seen at the target.

use crate::Shop;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The table, to be made at source and target.
pub const BEAT: &str = "CREATE TABLE beat (id bigint PRIMARY KEY);";
const EVERY: Duration = Duration::from_millis(10);
/// How often the target is asked.
const LOOK: Duration = Duration::from_millis(2);

/// Writes and looks until it is dropped.
pub struct Beat {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Beat {
    pub fn start(shop: &Shop) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (source, target) = (shop.cluster.url("source"), shop.cluster.url("target"));
        let over = Arc::clone(&stop);
        let writing = move || on_a_connection(&source, async |client| write(client, &over).await);
        let (over, told) = (Arc::clone(&stop), Arc::clone(&seen));
        let looking = move || on_a_connection(&target, async |client| look(client, &over, &told).await);
        let threads = vec![std::thread::spawn(writing), std::thread::spawn(looking)];
        Self { stop, seen, threads }
    }

    /// How often rows were seen to have come.
    pub fn count(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    /// The longest time without one from `since` until now.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let seen = self.seen.lock().expect("no panic");
        let within = seen.iter().copied().filter(|at| *at >= since);
        let (mut before, mut longest) = (since, Duration::ZERO);
        for at in within.chain([Instant::now()]) {
            longest = longest.max(at - before);
            before = at;
        }
        longest
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn on_a_connection(url: &str, work: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        work(&client).await
    })
}

async fn write(client: &tokio_postgres::Client, stop: &AtomicBool) -> Result<()> {
    let mut id: i64 = 0;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        client.execute("INSERT INTO beat VALUES ($1)", &[&id]).await?;
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

async fn look(client: &tokio_postgres::Client, stop: &AtomicBool, seen: &Mutex<Vec<Instant>>) -> Result<()> {
    let newest = client.prepare("SELECT COALESCE(max(id), 0) FROM beat").await?;
    let mut last: i64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let id: i64 = client.query_one(&newest, &[]).await?.get(0);
        if id > last {
            last = id;
            seen.lock().expect("no panic").push(Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
