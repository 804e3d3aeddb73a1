//! Ten thousand swaps through the reload entry point under load: no transaction mixes two versions, nothing is lost or
//! doubled, and memory, threads and descriptors stay flat.

use rowmill::config::load_text;
use rowmill::console::Tail;
use rowmill::runtime::{RunOptions, Stop, StopRequest, run};
use rowmill_tests::{LONG, Load, Shop, tag, tagger, wait_until};
use std::fs;

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
const SWAPS: usize = 10_000;
/// Until then caches and pools fill.
const WARM_UP: usize = 5_000;
/// What is looked at ever again, so that the allocator's ups and downs don't count.
const SAMPLE: usize = 500;
/// From here on the lowest counts.
const LATE: usize = 8_000;
/// How much may have grown after that, in parts of a hundred.
const GROWTH_PERCENT: u64 = 5;
/// By how much memory may still grow because of what fills with time and not with swaps, such as the batches that are
/// kept for rehearsals. 40,000 swaps went from 26.5 to 30.6 MiB in the first half and to 31.7 MiB in the second.
const FILLING_KIB: u64 = 2 << 10;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";

#[derive(Debug)]
struct Usage {
    resident_kib: u64,
    threads: u64,
    descriptors: u64,
    state_bytes: u64,
}

impl Usage {
    fn now(state: &std::path::Path) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let of = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            resident_kib: of("VmRSS:"),
            threads: of("Threads:"),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            state_bytes: size(state),
        }
    }
}

fn size(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

#[test]
fn p22_ten_thousand_swaps_under_load() {
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

    let mut samples = Vec::new();
    let began = std::time::Instant::now();
    for swap in 1..=SWAPS {
        running.reload("tagger", &versions[swap % 2]).unwrap();
        if swap % SAMPLE == 0 {
            samples.push((swap, Usage::now(&state)));
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
    println!(
        "{SWAPS} swaps in {took:?}\n{samples:#?}\n{}",
        shop.target(counted).unwrap()
    );
    stop_sender.send_replace(Stop::Drain);
    workers.block_on(running.ended()).unwrap();

    let flat = |name, of: fn(&Usage) -> u64, filling: u64| {
        let warm = samples
            .iter()
            .filter(|(swap, _)| *swap <= WARM_UP)
            .map(|(_, usage)| of(usage));
        let late = samples
            .iter()
            .filter(|(swap, _)| *swap >= LATE)
            .map(|(_, usage)| of(usage));
        let (before, after) = (warm.max().unwrap(), late.min().unwrap());
        assert!(
            after * 100 <= before * (100 + GROWTH_PERCENT) + filling * 100,
            "{name} grew from {before} to {after}"
        );
    };
    flat("memory", |usage| usage.resident_kib, FILLING_KIB);
    flat("threads", |usage| usage.threads, 0);
    flat("descriptors", |usage| usage.descriptors, 0);
    flat("state", |usage| usage.state_bytes, 0);
}
