//! P1, P2: what a plugin that never ends, or takes all memory, costs the host around it.

use rowmill_tests::{Host, Shop, memory};
use std::time::{Duration, Instant};

const TABLE: &str = "CREATE TABLE items (id int PRIMARY KEY, kind text, n bigint)";
/// A limit that is far below what the server waits for a sign of life: 5 s.
const PIPELINE: &str = "plugins:
  picky: { module: picky.wasm, limits: { time: 100ms, memory: 64MiB } }
routes:
  - { tables: [public.items], plugins: [picky], sinks: [warehouse] }";
/// Loops: each is tried alone, and in a batch before. Together they take far longer than the server waits.
const LOOPS: u32 = 15;
const GREEDY: u32 = 8;
/// What the host may take beyond what it has, where the plugin of its only lane may have 64 MiB.
const MORE_BYTES: u64 = 80 << 20;

fn started(shop: &Shop) -> Host {
    shop.plugin("picky").unwrap();
    let pipeline = shop
        .pipeline_of("public.items", PIPELINE)
        .replace("lanes: 2", "lanes: 1");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO items VALUES (0, 'good', 0)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "1").unwrap();
    host
}

/// P1: rows on which the plugin never ends are set aside, one after the other, and the server hears of us all the while.
#[test]
fn p1_the_server_hears_of_us_while_a_plugin_loops() {
    let shop = Shop::with(TABLE).unwrap();
    let mut host = started(&shop);
    let began = Instant::now();
    shop.source(&format!(
        "INSERT INTO items SELECT n, CASE WHEN n <= {LOOPS} THEN 'loop' ELSE 'good' END, n FROM generate_series(1, 500) n"
    ))
    .unwrap();
    let silence =
        "SELECT COALESCE(extract(epoch FROM max(clock_timestamp() - reply_time)), 0) FROM pg_stat_replication";
    let mut longest = 0.0_f64;
    shop.wait_for(&mut host, "the others are there", || {
        longest = longest.max(shop.source(silence)?.parse()?);
        Ok(shop.target("SELECT count(*) FROM items")? == (501 - LOOPS).to_string())
    })
    .unwrap();
    let took = began.elapsed();
    println!("{LOOPS} loops took {took:?}, the server heard nothing for {longest} s at most");
    assert!(
        took > Duration::from_millis(100) * LOOPS,
        "the rows weren't tried: {took:?}"
    );
    assert!(longest < 5.0, "{longest} s without a word");
    let log = host.log();
    assert!(!log.contains("is begun again"), "{log}");
    host.terminate().unwrap();
}

/// P2: a plugin that takes what it can get is stopped at its limit, and gives it back.
#[test]
fn p2_the_host_stays_small_while_a_plugin_takes_all_memory() {
    let shop = Shop::with(TABLE).unwrap();
    let mut host = started(&shop);
    let idle = memory(host.pid(), "VmRSS:").unwrap();
    shop.source(&format!(
        "INSERT INTO items SELECT n, CASE WHEN n <= {GREEDY} THEN 'memory' ELSE 'good' END, n FROM generate_series(1, 500) n"
    ))
    .unwrap();
    let expected = (501 - GREEDY).to_string();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", &expected)
        .unwrap();
    let most = memory(host.pid(), "VmHWM:").unwrap().saturating_sub(idle);
    println!("{} MiB more at most", most >> 20);
    assert!(most < MORE_BYTES, "{most} bytes more");
    host.terminate().unwrap();
}
