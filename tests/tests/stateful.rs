//! Running totals: what a plugin keeps from row to row is right after kill -9 at any moment, and after a new version
//! took over.

use anyhow::{Result, ensure};
use rowmill_tests::{Columns, Host, Keeps, LONG, Lines, Load, Random, Shop, totals, wait_until};
use std::collections::BTreeMap;
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
const REST: &str = "reload: { settle: 20ms, interval: 50ms, probation_batches: 20 }
plugins:
  total: { module: total.wasm }
  by_customer: { module: by_customer.wasm, features: [kv] }
routes:
  - { tables: [public.orders], plugins: [total], sinks: [warehouse, feed] }
  - { tables: [public.visits], plugins: [by_customer], sinks: [warehouse, feed] }";

/// What must be in each table at the target, as a query of the source.
const EXPECTED: [(&str, &str); 2] = [
    (
        "orders",
        "SELECT id, customer, amount, sum(amount) OVER (ORDER BY id) AS total FROM orders",
    ),
    (
        "visits",
        "SELECT id, customer, amount, sum(amount) OVER (PARTITION BY customer ORDER BY id) AS total FROM visits",
    ),
];

/// Writers of both tables; some of their transactions roll back.
fn load(shop: &Shop) -> Load {
    Load::of(&shop.cluster, |writer| {
        let mut random = Random::new(writer);
        let mut id = writer * 1_000_000_000 + random.below(1000) * 1_000_000;
        move || purchases(writer, &mut random, &mut id)
    })
}

fn purchases(writer: u64, random: &mut Random, id: &mut u64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..=random.below(6) {
        *id += 1;
        let (customer, amount) = (writer * 10 + random.below(4), random.below(600));
        sql.push_str(&format!("INSERT INTO visits VALUES ({id}, {customer}, {amount}, 0);"));
        if writer == 1 {
            let amount = random.below(600);
            sql.push_str(&format!("INSERT INTO orders VALUES ({id}, {customer}, {amount}, 0);"));
        }
    }
    sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
    sql
}

fn pipeline(shop: &Shop) -> String {
    shop.pipeline_of("public.orders, public.visits", REST)
}

/// Runs it once on the empty tables, so that nothing is left to be copied.
fn begin(shop: &Shop) -> Result<()> {
    shop.install("total", &totals(Keeps::State, COLUMNS, 1)?)?;
    shop.install("by_customer", &totals(Keeps::Entries, COLUMNS, 1)?)?;
    Host::verb(shop.folder(), &pipeline(shop), &["run", "--once"], 0)?;
    Ok(())
}

/// Waits until both sinks have what is expected, in full.
fn wait_right(shop: &Shop, host: &mut Host, expected: &[(&str, &str)]) -> Result<()> {
    for (table, rows) in expected {
        let digest = |rows: &str| {
            format!(
                "SELECT count(*), md5(string_agg((id, customer, amount, total)::text, '|' ORDER BY id)) FROM ({rows}) t"
            )
        };
        let all = digest(&format!("SELECT * FROM {table}"));
        shop.wait_target(host, &all, &shop.source(&digest(rows))?)?;
        let expected: BTreeMap<i64, i64> = shop
            .source(&format!("SELECT id, total FROM ({rows}) t"))?
            .lines()
            .filter_map(|line| line.split_once('|'))
            .map(|(id, total)| Ok((id.parse()?, total.parse()?)))
            .collect::<Result<_>>()?;
        ensure!(!expected.is_empty(), "{table} is empty");
        let feed = shop.folder().join("out/feed.jsonl");
        wait_until("the file has the totals", LONG, || {
            let lines = Lines::read(&feed)?;
            let of_table = lines.rows.iter().filter(|row| row["table"] == *table);
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

fn kill(shop: &Shop, pipeline: &str, random: &mut Random, times: u64) -> Result<()> {
    for _ in 0..times {
        let host = Host::run(shop.folder(), pipeline)?;
        // Long enough to come to the stream at times, short enough not to at others.
        std::thread::sleep(Duration::from_millis(200 + random.below(1200)));
        host.kill()?;
    }
    Ok(())
}

#[test]
fn totals_are_right_after_thirty_kills() {
    let shop = Shop::with(TABLES).unwrap();
    begin(&shop).unwrap();
    let load = load(&shop);
    let mut random = Random::new(7);
    kill(&shop, &pipeline(&shop), &mut random, KILLS).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    load.stop();
    wait_right(&shop, &mut host, &EXPECTED).unwrap();
    host.terminate().unwrap();
}

#[test]
fn a_new_version_takes_over_with_the_state() {
    let shop = Shop::with(TABLES).unwrap();
    begin(&shop).unwrap();
    let load = load(&shop);
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) > 20 FROM orders", "t")
        .unwrap();
    shop.install("total", &totals(Keeps::State, COLUMNS, 2).unwrap())
        .unwrap();
    shop.wait_said(&mut host, "the plugin was reloaded", 1).unwrap();
    let passed = "the new version of the route's plugins has passed its probation";
    shop.wait_said(&mut host, passed, 1).unwrap();
    let rows = shop.target("SELECT count(*) + 20 FROM orders").unwrap();
    let more = format!("SELECT count(*) > {rows} FROM orders");
    shop.wait_target(&mut host, &more, "t").unwrap();
    // Its state is of version 2 now, and what version 1 had is gone: version 1 is refused, and version 2 goes on.
    shop.install("total", &totals(Keeps::State, COLUMNS, 1).unwrap())
        .unwrap();
    shop.wait_said(&mut host, "the changed plugin is refused", 1).unwrap();
    shop.install("total", &totals(Keeps::State, COLUMNS, 2).unwrap())
        .unwrap();
    host.kill().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    load.stop();
    wait_right(&shop, &mut host, &EXPECTED).unwrap();
    host.terminate().unwrap();
}

/// The plugins of the repository, in Rust: one with state, one with entries by key, and both in a chain.
const RUST: &str = "plugins:
  total: { module: running_total.wasm, config: { amount: amount, total: total } }
  by_customer: { module: running_total.wasm, config: { amount: amount, total: total, group: customer } }
  once:
    module: dedupe_window.wasm
    features: [kv]
    config: { columns: [customer, amount], window_seconds: 86400 }
routes:
  - { tables: [public.orders], plugins: [once, total], sinks: [warehouse, feed] }
  - { tables: [public.visits], plugins: [by_customer], sinks: [warehouse, feed] }";

/// Of the orders, the first of each customer with an amount.
const EXPECTED_OF_RUST: [(&str, &str); 2] = [
    (
        "orders",
        "SELECT id, customer, amount, sum(amount) OVER (ORDER BY id) AS total
         FROM (SELECT DISTINCT ON (customer, amount) * FROM orders ORDER BY customer, amount, id) once",
    ),
    EXPECTED[1],
];

#[test]
fn the_plugins_in_rust_are_right_after_eight_kills() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("running_total").unwrap();
    shop.plugin("dedupe_window").unwrap();
    let pipeline = shop.pipeline_of("public.orders, public.visits", RUST);
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let load = load(&shop);
    kill(&shop, &pipeline, &mut Random::new(11), 8).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    load.stop();
    wait_right(&shop, &mut host, &EXPECTED_OF_RUST).unwrap();
    // Something was dropped, or nothing was shown.
    let dropped = "SELECT count(*) > count(DISTINCT (customer, amount)) FROM orders";
    assert_eq!(shop.source(dropped).unwrap(), "t");
    host.terminate().unwrap();
}
