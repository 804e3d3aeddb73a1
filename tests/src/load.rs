//! Writers that keep a table `events` (id, txn, n, tag) busy.

use crate::Cluster;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writers of transactions of one to eight rows, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Load {
    pub fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |writer: u64| {
            let (stop, url) = (Arc::clone(&stop), cluster.url("source"));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(insert(&url, writer, &stop))
            })
        };
        let threads = (1..=2).map(start).collect();
        Self { stop, threads }
    }

    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn insert(url: &str, writer: u64, stop: &AtomicBool) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let mut transaction = writer * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        transaction += 1;
        let rows = transaction % 8 + 1;
        let mut sql = String::from("BEGIN;");
        for n in 0..rows {
            let id = transaction * 10 + n;
            sql.push_str(&format!("INSERT INTO events VALUES ({id}, {transaction}, {n}, 'raw');"));
        }
        sql.push_str(if transaction.is_multiple_of(10) {
            "ROLLBACK"
        } else {
            "COMMIT"
        });
        client.batch_execute(&sql).await?;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    Ok(())
}
