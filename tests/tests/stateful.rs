//! Running totals: what a plugin keeps from row to row is right after kill -9 at any moment, and after a new version
//! took over.

use anyhow::{Result, ensure};
use rowmill_tests::{Cluster, Columns, Host, Keeps, LONG, Lines, Random, Shop, totals, wait_until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KILLS: u64 = 30;
const COLUMNS: Columns = Columns {
    customer: 1,
    amount: 2,
    total: 3,
};
/// `orders` has one writer, so that its ids are in commit order; in `visits` each customer has.
const TABLES: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, amount bigint, total bigint);
    CREATE TABLE visits (id bigint PRIMARY KEY, customer bigint, amount bigint, total bigint);
";
const REST: &str = "reload: { settle: 20ms, interval: 50ms }
plugins:
  total: { module: total.wasm }
  by_customer: { module: by_customer.wasm, features: [kv] }
routes:
  - { tables: [public.orders], plugins: [total], sinks: [warehouse, feed] }
  - { tables: [public.visits], plugins: [by_customer], sinks: [warehouse, feed] }";

const EXPECTED: [(&str, &str); 2] = [
    ("orders", "sum(amount) OVER (ORDER BY id)"),
    ("visits", "sum(amount) OVER (PARTITION BY customer ORDER BY id)"),
];

fn install(shop: &Shop, name: &str, module: &[u8]) -> Result<()> {
    let new = shop.folder().join(format!("{name}.new"));
    std::fs::write(&new, module)?;
    std::fs::rename(&new, shop.folder().join(format!("{name}.wasm")))?;
    Ok(())
}

/// Writers of small transactions, until told to stop; some roll back.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
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

    fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .try_for_each(|thread| thread.join().expect("a writer panicked"))
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
    let mut random = Random::new(writer);
    let mut id = writer * 1_000_000_000 + random.below(1000) * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let mut sql = String::from("BEGIN;");
        for _ in 0..=random.below(6) {
            id += 1;
            let (customer, amount) = (writer * 10 + random.below(4), random.below(600));
            sql.push_str(&format!("INSERT INTO visits VALUES ({id}, {customer}, {amount}, 0);"));
            if writer == 1 {
                let amount = random.below(600);
                sql.push_str(&format!("INSERT INTO orders VALUES ({id}, {customer}, {amount}, 0);"));
            }
        }
        sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
        client.batch_execute(&sql).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn pipeline(shop: &Shop) -> String {
    shop.pipeline_of("public.orders, public.visits", REST)
}

/// Runs it once on the empty tables, so that nothing is left to be copied.
fn begin(shop: &Shop) -> Result<()> {
    install(shop, "total", &totals(Keeps::State, COLUMNS, 1)?)?;
    install(shop, "by_customer", &totals(Keeps::Entries, COLUMNS, 1)?)?;
    Host::verb(shop.folder(), &pipeline(shop), &["run", "--once"], 0)?;
    Ok(())
}

/// What must be at the sinks.
fn expected(shop: &Shop, table: &str, total: &str) -> Result<String> {
    let query = format!(
        "SELECT count(*), md5(string_agg((id, customer, amount, total)::text, '|' ORDER BY id))
         FROM (SELECT id, customer, amount, {total} AS total FROM {table}) t"
    );
    shop.source(&query)
}

fn wait_right(shop: &Shop, host: &mut Host) -> Result<()> {
    for (table, total) in EXPECTED {
        let all = format!(
            "SELECT count(*), md5(string_agg((id, customer, amount, total)::text, '|' ORDER BY id)) FROM {table}"
        );
        shop.wait_target(host, &all, &expected(shop, table, total)?)?;
        let rows = format!("SELECT id, {total} FROM {table}");
        let expected: BTreeMap<i64, i64> = shop
            .source(&rows)?
            .lines()
            .filter_map(|line| line.split_once('|'))
            .map(|(id, total)| Ok((id.parse()?, total.parse()?)))
            .collect::<Result<_>>()?;
        ensure!(!expected.is_empty(), "{table} is empty");
        let feed = shop.folder().join("out/feed.jsonl");
        wait_until("the file has the totals", LONG, || {
            let lines = Lines::read(&feed)?;
            let of_table = lines.rows.iter().filter(|row| row["table"] == table);
            let found: BTreeMap<i64, i64> = of_table
                .filter_map(|row| Some((row["new"]["id"].as_i64()?, row["new"]["total"].as_i64()?)))
                .collect();
            let wrong = expected.iter().find(|(id, total)| found.get(id) != Some(total));
            ensure!(
                wrong.is_none(),
                "{table}: expected {wrong:?}, found {:?}",
                wrong.map(|(id, _)| found.get(id))
            );
            lines.streamed_once()?;
            Ok(Some(()))
        })?;
    }
    Ok(())
}

#[test]
fn totals_are_right_after_thirty_kills() {
    let shop = Shop::with(TABLES).unwrap();
    begin(&shop).unwrap();
    let load = Load::start(&shop.cluster);
    let mut random = Random::new(7);
    for _ in 0..KILLS {
        let host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
        // Long enough to come to the stream at times, short enough not to at others.
        std::thread::sleep(Duration::from_millis(200 + random.below(1200)));
        host.kill().unwrap();
    }
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    load.stop().unwrap();
    wait_right(&shop, &mut host).unwrap();
    host.terminate().unwrap();
}

#[test]
fn a_new_version_takes_over_with_the_state() {
    let shop = Shop::with(TABLES).unwrap();
    begin(&shop).unwrap();
    let load = Load::start(&shop.cluster);
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    let log = shop.folder().join("log");
    let says = |text: &'static str| {
        let log = log.clone();
        move || Ok(std::fs::read_to_string(&log)?.contains(text))
    };
    shop.wait_target(&mut host, "SELECT count(*) > 20 FROM orders", "t")
        .unwrap();
    install(&shop, "total", &totals(Keeps::State, COLUMNS, 2).unwrap()).unwrap();
    shop.wait_for(&mut host, "version 2 runs", says("the plugin was reloaded"))
        .unwrap();
    let rows = shop.target("SELECT count(*) + 20 FROM orders").unwrap();
    let more = format!("SELECT count(*) > {rows} FROM orders");
    shop.wait_target(&mut host, &more, "t").unwrap();
    // Its state is of version 2 now: version 1 is refused, and version 2 goes on.
    install(&shop, "total", &totals(Keeps::State, COLUMNS, 1).unwrap()).unwrap();
    shop.wait_for(&mut host, "version 1 is refused", says("the changed plugin is refused"))
        .unwrap();
    install(&shop, "total", &totals(Keeps::State, COLUMNS, 2).unwrap()).unwrap();
    host.kill().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    load.stop().unwrap();
    wait_right(&shop, &mut host).unwrap();
    host.terminate().unwrap();
}
