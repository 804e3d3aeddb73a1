//! Swaps through the reload entry point under load: no transaction mixes two versions, nothing is lost or doubled, and
//! memory, threads and descriptors stay flat.

use rowmill::config::load_text;
use rowmill::console::Tail;
use rowmill::runtime::{RunOptions, Stop, StopRequest, run};
use rowmill_tests::{Flat, LONG, Load, Shop, tag, tagger, wait_until};
use std::fs;

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
/// How often is looked at what it takes.
const SAMPLES: usize = 40;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";

#[test]
fn p22_a_thousand_swaps_under_load() {
    swap(1_000);
}

#[test]
#[ignore = "takes minutes: cargo xtask nightly"]
fn p22_ten_thousand_swaps_under_load() {
    swap(10_000);
}

fn swap(swaps: usize) {
    let shop = Shop::with(TABLES).unwrap();
    let versions = [tagger(1, TAG, ABI).unwrap(), tagger(2, TAG, ABI).unwrap()];
    fs::write(shop.folder().join("tagger.wasm"), &versions[0]).unwrap();
    let text = shop.pipeline_of(
        "public.events",
        "reload: { settle: 0ms, interval: 0ms, probation: 0s }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }",
    );
    let config = load_text(&shop.folder().join("pipeline.yaml"), &text, &|_| None).unwrap();
    let state = config.state_dir.clone();
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (stop_sender, stop) = StopRequest::channel();
    let running = workers.block_on(async { run(config, RunOptions::default(), stop, Tail::new()) });
    let running = running.unwrap();
    let load = Load::start(&shop.cluster);
    let there = format!("SELECT EXISTS (SELECT FROM events WHERE tag = '{}')", tag(1));
    let seen = |sql: &str| Ok((shop.target(sql)? == "t").then_some(()));
    wait_until("rows flow", LONG, || seen(&there)).unwrap();

    let mut flat = Flat::default();
    let began = std::time::Instant::now();
    for swap in 1..=swaps {
        running.reload("tagger", &versions[swap % 2]).unwrap();
        if swap % (swaps / SAMPLES) == 0 {
            flat.sample(std::process::id(), &state).unwrap();
        }
    }
    let took = began.elapsed();
    load.stop();

    let all = "SELECT count(*), md5(string_agg((id, txn, n)::text, '|' ORDER BY id)) FROM events";
    let expected = shop.source(all).unwrap();
    wait_until("target equals source", LONG, || {
        Ok((shop.target(all)? == expected).then_some(()))
    })
    .unwrap();
    let mixed = "SELECT count(*) FROM (SELECT txn FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "0", "transactions with two versions");
    let counted = "SELECT tag, count(*) FROM events GROUP BY tag ORDER BY tag";
    println!("{swaps} swaps in {took:?}\n{}", shop.target(counted).unwrap());
    stop_sender.send_replace(Stop::Drain);
    workers.block_on(running.ended()).unwrap();
    flat.check().unwrap();
}
