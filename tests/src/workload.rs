//! Writers that keep changing a shop: rows come, change, change their key and go, in transactions of every size, some
//! of which are rolled back.

use crate::Cluster;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The tables of the shop; `orders` is REPLICA IDENTITY DEFAULT, `customers` FULL.
pub const SHOP: &str = "
    CREATE TABLE customers (id bigint PRIMARY KEY, email text, phone text, note text);
    ALTER TABLE customers REPLICA IDENTITY FULL;
    CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, status text, email text, total numeric(12,2), big text);
    ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
";

/// A small, fast generator of numbers that only depend on the seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to `end`, without `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }
}

/// Writers at work until they are stopped or dropped.
pub struct Writers {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Writers {
    /// `count` writers on `database`, each with a range of keys of its own, pausing `pause_ms` between transactions.
    /// They reconnect when the server goes away.
    pub fn start(cluster: &Cluster, database: &str, count: u64, pause_ms: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for writer in 0..count {
            let (stop, transactions) = (Arc::clone(&stop), Arc::clone(&transactions));
            let url = cluster.url(database);
            threads.push(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(&url, writer, pause_ms, &stop, &transactions))
            }));
        }
        Ok(Self {
            stop,
            transactions,
            threads,
        })
    }

    /// Transactions that were begun so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(self.transactions())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn write(url: &str, writer: u64, pause_ms: u64, stop: &AtomicBool, transactions: &AtomicU64) -> Result<()> {
    let mut random = Random::new(writer + 1);
    while !stop.load(Ordering::Relaxed) {
        let Ok((client, connection)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while !stop.load(Ordering::Relaxed) {
            transactions.fetch_add(1, Ordering::Relaxed);
            if client.batch_execute(&transaction(&mut random, writer)).await.is_err() && client.is_closed() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        }
        connection.abort();
    }
    Ok(())
}

/// One transaction of one to twelve statements.
fn transaction(random: &mut Random, writer: u64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..=random.below(12) {
        sql.push_str(&statement(random, writer));
    }
    sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
    sql
}

fn statement(random: &mut Random, writer: u64) -> String {
    let id = writer * 1_000_000 + random.below(400);
    let other = writer * 1_000_000 + random.below(400);
    let value = random.number() % 1_000_000;
    let status = ["open", "paid", "shipped"][random.below(3) as usize];
    match random.below(10) {
        0..=3 => format!(
            "INSERT INTO orders VALUES ({id}, {other}, '{status}', 'c{value}@example.com', {value}/100.0, repeat('x', {}))
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, total = excluded.total;",
            if random.below(20) == 0 { 5_000 } else { 10 }
        ),
        4 | 5 => format!("UPDATE orders SET status = '{status}', total = {value}/100.0 WHERE id = {id};"),
        6 => format!("DELETE FROM orders WHERE id = {id};"),
        7 => format!(
            "UPDATE orders SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM orders WHERE id = {other});"
        ),
        8 => format!(
            "INSERT INTO customers VALUES ({id}, 'c{value}@example.com', '+49 {value}', 'n')
             ON CONFLICT (id) DO UPDATE SET email = excluded.email;"
        ),
        _ => format!("DELETE FROM customers WHERE id = {id};"),
    }
}
