//! Host and target are killed at random while the source keeps changing: no change is lost, none applied twice. That
//! is seen by a trigger at the target that writes down each change (ENABLE ALWAYS), beside one at the source that does
//! the same.

use anyhow::Result;
use rowmill_tests::{Cluster, Host, LONG, Load, Random, SHOP, Shop, WATCH, Writers, wait_until};
use std::time::Duration;

/// What the writers did meanwhile has to be applied, a statement for each row.
const CAUGHT_UP: Duration = Duration::from_secs(300);

const DIGEST: &str = "
    SELECT op, count(*), md5(string_agg(what, '|' ORDER BY what)) FROM told GROUP BY 1
    UNION ALL SELECT 'events', count(*), md5(string_agg(e::text, '|' ORDER BY id)) FROM events e
    UNION ALL SELECT 'orders', count(*), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o
    UNION ALL SELECT 'customers', count(*), md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c ORDER BY 1";

/// In sets that several connections take apart.
const EVENTS: &str = "CREATE TABLE events (id bigint PRIMARY KEY, n int, what text);";

#[test]
fn killed_twenty_times() {
    killed(20, "");
}

#[test]
#[ignore = "takes minutes"]
fn killed_two_hundred_times() {
    killed(200, "");
}

/// Three connections commit one after the other: some have what others lack.
const RELAXED: &str = ", transactions: relaxed, connections: 3";

#[test]
fn killed_ten_times_with_several_connections() {
    killed(10, RELAXED);
}

#[test]
#[ignore = "takes minutes"]
fn killed_two_hundred_times_with_several_connections() {
    killed(200, RELAXED);
}

/// Rows come, change and go, some hundred at a time.
fn events(writer: u64) -> impl FnMut() -> String + Send {
    let mut set = writer * 1_000_000;
    move || {
        set += 1;
        let (first, last) = (set * 1000, set * 1000 + 300);
        let before = first - 1000;
        format!(
            "BEGIN; INSERT INTO events SELECT n, 1, 'new' FROM generate_series({first}, {last}) n;
             UPDATE events SET n = n + 1 WHERE id BETWEEN {before} AND {first};
             DELETE FROM events WHERE id BETWEEN {before} AND {before} + 100; COMMIT; SELECT pg_sleep(0.2)"
        )
    }
}

fn killed(times: u32, keys: &str) {
    let shop = Shop::with(&format!("{SHOP}{EVENTS}")).unwrap();
    shop.cluster.script("source", WATCH).unwrap();
    let target = Cluster::start().unwrap();
    target.script("postgres", &format!("{SHOP}{EVENTS}")).unwrap();
    target.script("postgres", WATCH).unwrap();
    let (url, own) = (shop.cluster.url("target"), target.url("postgres"));
    let tables = "public.orders, public.customers, public.events";
    let routes = format!("routes:\n  - {{ tables: [{tables}], sinks: [warehouse] }}");
    let pipeline = shop
        .pipeline_of(tables, &routes)
        .replace(&url, &format!("\"{own}\"{keys}"));
    // The copies, of nothing: what is copied again would be told again.
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let writers = Writers::start(&shop.cluster, "source", 2, 10).unwrap();
    let load = Load::of(&shop.cluster, events);
    let seed = std::process::id().into();
    let mut random = Random::new(seed);
    let (mut of_host, mut of_target) = (0, 0);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for _ in 0..times {
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(700)));
        host.must_run().unwrap();
        if random.below(2) == 0 {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
            of_host += 1;
        } else {
            kill(&target).unwrap();
            of_target += 1;
        }
    }
    writers.stop().unwrap();
    load.stop();
    let source = shop.source(DIGEST).unwrap();
    wait_until("target equals source", CAUGHT_UP, || {
        host.must_run()?;
        let found = target.sql("postgres", DIGEST)?;
        anyhow::ensure!(found == source, "seed {seed}\nsource\n{source}\ntarget\n{found}");
        Ok(Some(()))
    })
    .map_err(|error| error.context(host.log()))
    .unwrap();
    host.terminate().unwrap();
    if !keys.is_empty() {
        let shares = "SELECT count(*) >= 2, max(shares) FROM rowmill.shares";
        assert_eq!(target.sql("postgres", shares).unwrap(), "t|3", "rows were divided");
    }
    println!("killed {of_host} times the host, {of_target} times the target\n{source}");
}

/// kill -9 of the whole server, which comes back at once.
fn kill(target: &Cluster) -> Result<()> {
    target.kill()?;
    wait_until("the target is back", LONG, || target.start_server().map(Some))
}
