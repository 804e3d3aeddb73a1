//! Writers of small transactions that keep a table or two busy.

use crate::Cluster;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two writers, until told to stop; each has a pause of 2 ms between its transactions.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Load {
    /// Writers of transactions of one to eight rows of a table `events` (id, txn, n, tag).
    pub fn start(cluster: &Cluster) -> Self {
        Self::of(cluster, |writer| {
            let mut transaction = writer * 1_000_000;
            move || {
                transaction += 1;
                events(transaction)
            }
        })
    }

    /// Writers of transactions in SQL: `writer`, given its number, 1 or 2, gives what makes one after the other.
    pub fn of<T: FnMut() -> String + Send + 'static>(cluster: &Cluster, writer: impl Fn(u64) -> T) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number: u64| {
            let (stop, url) = (Arc::clone(&stop), cluster.url("source"));
            let transactions = writer(number);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(&url, transactions, &stop))
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

/// A transaction of `events`; every tenth is rolled back.
fn events(transaction: u64) -> String {
    let mut sql = String::from("BEGIN;");
    for n in 0..transaction % 8 + 1 {
        let id = transaction * 10 + n;
        sql.push_str(&format!("INSERT INTO events VALUES ({id}, {transaction}, {n}, 'raw');"));
    }
    sql.push_str(if transaction.is_multiple_of(10) {
        "ROLLBACK"
    } else {
        "COMMIT"
    });
    sql
}

async fn write(url: &str, mut transactions: impl FnMut() -> String, stop: &AtomicBool) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute(&transactions()).await?;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    Ok(())
}
