//! Rows that break a plugin cost themselves alone: the others go on in order, and what was set aside arrives once the
//! plugin is mended.

use rowmill_tests::{Fault, Host, LONG, Proxy, Random, Shop, free_port};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE items (id int PRIMARY KEY, kind text, n bigint)";
const PIPELINE: &str = "plugins:
  picky: { module: picky.wasm, limits: { time: 50ms, memory: 8MiB } }
routes:
  - { tables: [public.items], plugins: [picky], sinks: [warehouse] }";

/// What the target should hold: everything, with one added to `n`.
const RIGHT: &str =
    "SELECT count(*) || ' ' || coalesce(sum(hashtext(id || ' ' || kind || ' ' || n)::bigint), 0) FROM items";
const EXPECTED: &str =
    "SELECT count(*) || ' ' || coalesce(sum(hashtext(id || ' ' || kind || ' ' || (n + 1))::bigint), 0) FROM items";
const FAULTS: [&str; 6] = ["panic", "loop", "memory", "overflow", "bounds", "reject"];

fn shop() -> Shop {
    let shop = Shop::with(TABLE).unwrap();
    shop.plugin("picky").unwrap();
    shop
}

fn pipeline(shop: &Shop) -> String {
    Shop::with_console(&shop.pipeline_of("public.items", PIPELINE), free_port().unwrap())
}

/// Puts the mended plugin in the place of the one that breaks.
fn mend(shop: &Shop, host: &mut Host) {
    std::fs::rename(shop.plugin("picky_mended").unwrap(), shop.folder().join("picky.wasm")).unwrap();
    shop.wait_said(host, "was reloaded", 1).unwrap();
}

#[test]
fn p4_every_kind_of_fault_costs_its_row_alone_until_the_plugin_is_mended() {
    let shop = shop();
    let pipeline = pipeline(&shop);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let insert = |id: usize, kind: &str| shop.source(&format!("INSERT INTO items VALUES ({id}, '{kind}', {id})"));
    // Once this has arrived, the rest is streamed.
    insert(5_000, "good").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "1").unwrap();
    // One transaction with poison in the middle of good rows, and some of its rows' later changes.
    let mut rows: Vec<String> = Vec::new();
    for id in 0..600 {
        let kind = if id % 100 == 50 { FAULTS[id / 100] } else { "good" };
        rows.push(format!("({id}, '{kind}', {id})"));
    }
    let many = format!("INSERT INTO items VALUES {}", rows.join(", "));
    shop.source(&format!("{many}; UPDATE items SET n = n + 1000 WHERE id % 50 = 0"))
        .unwrap();
    insert(1_000, "good").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "596")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items WHERE id % 100 = 50", "0")
        .unwrap();
    shop.wait_target(&mut host, "SELECT n FROM items WHERE id = 100", "1101")
        .unwrap();
    let listed = shop.letters().unwrap();
    assert_eq!(listed.len(), 12, "{listed:?}");
    let log = host.log();
    assert!(log.contains("no price list has an entry for this row"), "{log}");
    assert!(log.contains("picky/src/lib.rs"), "{log}");

    // The later change of a row that is set aside waits behind it; a delete does too.
    shop.source("UPDATE items SET kind = 'good' WHERE id = 50; DELETE FROM items WHERE id = 150; UPDATE items SET id = 2000 WHERE id = 250")
        .unwrap();
    insert(1_001, "good").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items WHERE id >= 1000", "3")
        .unwrap();

    // A mended plugin, and the letters are sent again.
    mend(&shop, &mut host);
    shop.replay_all().unwrap();
    let expected = shop.source(EXPECTED).unwrap();
    shop.wait_target(&mut host, RIGHT, &expected).unwrap();
    shop.wait_no_letters(&mut host).unwrap();
    host.terminate().unwrap();
}

/// Neither a position nor a key tells a letter's row from the same one once more: the target is asked what became of the
/// transaction whose reply is lost.
#[test]
fn letters_into_a_table_without_a_key_arrive_once_whatever_becomes_of_a_reply() {
    let shop = shop();
    let keyless = "ALTER TABLE items DROP CONSTRAINT items_pkey, REPLICA IDENTITY FULL";
    shop.source(keyless).unwrap();
    shop.target(keyless).unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let pipeline = shop.target_behind(&proxy, &pipeline(&shop));
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO items VALUES (5000, 'good', 1)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "1").unwrap();
    shop.source("INSERT INTO items SELECT n, 'reject', n FROM generate_series(1, 20) n; INSERT INTO items VALUES (5001, 'good', 1)")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "2").unwrap();
    assert_eq!(shop.letters().unwrap().len(), 20);
    mend(&shop, &mut host);
    proxy.set(Fault::LoseReply);
    shop.replay_all().unwrap();
    shop.wait_for(&mut host, "a commit's reply is lost", || Ok(proxy.cuts() > 0))
        .unwrap();
    shop.source("INSERT INTO items VALUES (5002, 'good', 1)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items WHERE id = 5002", "1")
        .unwrap();
    let expected = shop.source(EXPECTED).unwrap();
    shop.wait_target(&mut host, RIGHT, &expected).unwrap();
    shop.wait_no_letters(&mut host).unwrap();
    host.terminate().unwrap();
    assert_eq!(shop.target(RIGHT).unwrap(), expected);
}

/// Poison at random under load, kills at random moments: in the end everything but the letters is there, and with them
/// sent again, everything.
#[test]
fn poison_and_kills_lose_and_double_nothing() {
    let shop = shop();
    let pipeline = pipeline(&shop);
    let mut random = Random::new(7);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for turn in 0..15u64 {
        for _ in 0..20 {
            let id = random.below(300);
            let kind = match random.below(12) {
                0 => FAULTS[random.below(6) as usize],
                _ => "good",
            };
            let change = match random.below(4) {
                0 => format!("DELETE FROM items WHERE id = {id}"),
                1 => format!(
                    "UPDATE items SET id = id + 1000 WHERE id = {id} AND NOT EXISTS (SELECT FROM items WHERE id = {id} + 1000)"
                ),
                _ => format!(
                    "INSERT INTO items VALUES ({id}, '{kind}', {turn}) ON CONFLICT (id) DO UPDATE SET n = items.n + 1, kind = '{kind}'"
                ),
            };
            shop.source(&change).unwrap();
        }
        // The moment of the kill is what is tested.
        std::thread::sleep(Duration::from_millis(random.below(300)));
        host.kill().unwrap();
        host = Host::run(shop.folder(), &pipeline).unwrap();
    }
    shop.source("INSERT INTO items VALUES (9999, 'good', 1)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items WHERE id = 9999", "1")
        .unwrap();
    assert!(!shop.letters().unwrap().is_empty());
    mend(&shop, &mut host);
    shop.replay_all().unwrap();
    let expected = shop.source(EXPECTED).unwrap();
    shop.wait_target(&mut host, RIGHT, &expected).unwrap();
    host.terminate().unwrap();
}

/// Four lanes, and a fault in each of them.
#[test]
fn a_plugin_that_breaks_too_often_stops_whichever_lanes_it_does_so_in() {
    let shop = shop();
    let pipeline = pipeline(&shop)
        .replace("lanes: 2", "lanes: 4")
        .replace("module: picky.wasm,", "module: picky.wasm, max_faults: 3,");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO items VALUES (1, 'good', 1)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "1").unwrap();
    let bad = |id: usize| {
        shop.source(&format!("INSERT INTO items VALUES ({id}, 'panic', 1)"))
            .unwrap();
    };
    for id in 10..13 {
        bad(id);
        shop.wait_for(&mut host, "its letter", || Ok(shop.letters()?.len() == id - 9))
            .unwrap();
    }
    bad(13);
    assert_eq!(host.wait(LONG).unwrap().code(), Some(5), "{}", host.log());
    assert!(host.log().contains("E0313"), "{}", host.log());
}
