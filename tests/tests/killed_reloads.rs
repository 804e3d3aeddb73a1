//! The host is killed again and again while its plugin is exchanged: each transaction shows one version, and the same
//! one as before the kill where it had been delivered.

use rowmill_tests::{Host, Load, Shop, tag, tagger};
use std::time::Duration;

const KILLS: u64 = 100;
const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
/// The longest that a host may live after its plugin was exchanged.
const MAX_LIFE_MS: u64 = 600;
const TABLES: &str = "
    CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);
    CREATE TABLE seen (id bigint PRIMARY KEY, tag text);
";
const REST: &str = "reload: { settle: 0ms, interval: 0ms, probation: 200ms }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";

#[test]
fn a_hundred_kills_during_reloads() {
    let shop = Shop::with(TABLES).unwrap();
    let pipeline = shop.pipeline_of("public.events", REST);
    let install = |number| {
        let new = shop.folder().join("tagger.wasm.new");
        std::fs::write(&new, tagger(number, TAG, ABI).unwrap()).unwrap();
        std::fs::rename(&new, shop.folder().join("tagger.wasm")).unwrap();
    };
    install(0);
    let load = Load::start(&shop.cluster);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let started = format!("SELECT EXISTS (SELECT FROM events WHERE tag = '{}')", tag(0));
    shop.wait_target(&mut host, &started, "t").unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for number in 1..=KILLS {
        // Some versions come while the host isn't there, some while it starts, some under way.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (before, after) = ((random >> 40) % 300, (random >> 20) % MAX_LIFE_MS);
        std::thread::sleep(Duration::from_millis(before));
        install(number);
        std::thread::sleep(Duration::from_millis(after));
        host.kill().unwrap();
        shop.target("INSERT INTO seen SELECT id, tag FROM events ON CONFLICT DO NOTHING")
            .unwrap();
        host = Host::run(shop.folder(), &pipeline).unwrap();
    }
    load.stop();
    let all = "SELECT count(*), md5(string_agg((id, txn, n)::text, '|' ORDER BY id)) FROM events";
    let expected = shop.source(all).unwrap();
    shop.wait_target(&mut host, all, &expected).unwrap();
    host.terminate().unwrap();
    let changed = "SELECT count(*) FROM seen JOIN events USING (id) WHERE seen.tag <> events.tag";
    assert_eq!(
        shop.target(changed).unwrap(),
        "0",
        "delivered rows that changed their version"
    );
    let mixed = "SELECT count(*) FROM (SELECT txn FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "0", "transactions with two versions");
    let figures = "SELECT count(*), count(DISTINCT tag), (SELECT count(*) FROM seen) FROM events";
    println!(
        "rows | versions | seen before a kill: {}",
        shop.target(figures).unwrap()
    );
}
