//! S44: the wall clock jumps while the pipeline runs.

use rowmill_tests::{Clock, Host, Lines, Shop, tag, tagger};
use std::time::{Duration, Instant};

const TABLES: &str = "
    CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);
    CREATE INDEX ON events (tag);
";
const REST: &str = "reload: { settle: 100ms, interval: 200ms }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse, feed] }";
const TAG: u8 = 3;
const ABI: i32 = 0x1_0000;
/// Waits that a jump leaves alone end far earlier, those that wait for an hour to pass far later.
const SOON: Duration = Duration::from_secs(45);

fn install(shop: &Shop, version: u64) {
    shop.install("tagger", &tagger(version, TAG, ABI).unwrap()).unwrap();
}

#[test]
fn s44_the_wall_clock_jumps() {
    let shop = Shop::with(TABLES).unwrap();
    let clock = Clock::new(shop.folder()).unwrap();
    install(&shop, 0);
    let variables = clock.variables();
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut host = Host::run_in(shop.folder(), &shop.pipeline_of("public.events", REST), &variables).unwrap();
    let began = shop.source("SELECT floor(extract(epoch FROM now()))::bigint").unwrap();
    let mut id = 0;
    let mut row_with = |host: &mut Host, version: u64| {
        id += 1;
        shop.source(&format!("INSERT INTO events VALUES ({id}, {id}, 0, 'raw')"))
            .unwrap();
        let there = format!("SELECT tag FROM events WHERE id = {id}");
        shop.wait_target(host, &there, &tag(version)).unwrap();
    };
    row_with(&mut host, 0);
    for (jump, version) in [(86_400, 1), (-3_600, 2), (0, 3)] {
        clock.set(jump).unwrap();
        let jumped = Instant::now();
        row_with(&mut host, version - 1);
        // Backoff, deadlines of the new connection.
        let walsender = "SELECT pid FROM pg_stat_replication";
        let pid = shop.source(walsender).unwrap();
        shop.source("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            .unwrap();
        shop.wait_for(&mut host, "it is connected once more", || {
            let now = shop.source(walsender)?;
            Ok(!now.is_empty() && now != pid)
        })
        .unwrap();
        row_with(&mut host, version - 1);
        // How long a plugin's file has to lie still, and how far apart reloads are.
        install(&shop, version);
        shop.wait_said(
            &mut host,
            "a new version of the route's plugins counts",
            version as usize,
        )
        .unwrap();
        row_with(&mut host, version);
        assert!(
            jumped.elapsed() < SOON,
            "{:?} after a jump of {jump} s",
            jumped.elapsed()
        );
    }
    // What the log says is by the clock that it sees: the jump was seen.
    let days: Vec<String> = host.log().lines().map(|line| line.chars().take(26).collect()).collect();
    assert!(days.iter().max() > days.last(), "{days:?}");
    let ended = shop.source("SELECT ceil(extract(epoch FROM now()))::bigint").unwrap();
    host.terminate().unwrap();

    // When a row was committed is what the server says.
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    let times: Vec<&str> = lines
        .rows
        .iter()
        .filter_map(|row| row["commit_time"].as_str())
        .collect();
    assert!(times.len() >= 9, "{times:?}");
    for time in times {
        let between = format!("SELECT extract(epoch FROM '{time}'::timestamptz) BETWEEN {began} AND {ended}");
        assert_eq!(shop.source(&between).unwrap(), "t", "{time}");
    }
}
