//! A plugin's file changes again and again under load: every transaction meets one version, no row is lost or doubled.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{Flat, Host, LONG, Lines, Load, Shop, tag, tagger, wait_until};
use std::collections::{BTreeMap, BTreeSet};

/// Swaps in one process, and some more around which it is killed.
const IN_ONE: u64 = 200;
const VERSIONS: u64 = 206;
/// How many of them must have been seen at work.
const SEEN: usize = 150;
/// What the process takes is looked at behind each so many swaps.
const SAMPLE: u64 = 5;
/// After these versions a module comes that can't run.
const GARBAGE_AT: u64 = 60;
const FOREIGN_AT: u64 = 90;
/// Right after these versions were written, the host is killed.
const KILLED_AT: [u64; 2] = [202, 204];
const ABI: i32 = 0x1_0000;
/// The place of `tag` among the columns.
const TAG: u8 = 3;
const TABLES: &str = "
    CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);
    CREATE INDEX ON events (tag);
";
const REST: &str = "reload: { settle: 20ms, interval: 50ms }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse, feed] }";

fn wait_for_tag(shop: &Shop, host: &mut Host, number: u64) {
    let there = format!("SELECT EXISTS (SELECT FROM events WHERE tag = '{}')", tag(number));
    shop.wait_target(host, &there, "t").unwrap();
}

fn wait_refused(shop: &Shop, host: &mut Host, times: usize) {
    shop.wait_said(host, "the changed plugin is refused", times).unwrap();
}

#[test]
fn p22_two_hundred_reloads_under_load() {
    let shop = Shop::with(TABLES).unwrap();
    let pipeline = shop.pipeline_of("public.events", REST);
    shop.install("tagger", &tagger(0, TAG, ABI).unwrap()).unwrap();
    let load = Load::start(&shop.cluster);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    wait_for_tag(&shop, &mut host, 0);
    let mut flat = Flat::default();
    for number in 1..=VERSIONS {
        shop.install("tagger", &tagger(number, TAG, ABI).unwrap()).unwrap();
        if KILLED_AT.contains(&number) {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        }
        wait_for_tag(&shop, &mut host, number);
        if number <= IN_ONE && number % SAMPLE == 0 {
            flat.sample(host.pid(), &shop.folder().join(".rowmill")).unwrap();
        }
        if number == GARBAGE_AT {
            shop.install("tagger", b"\0asm garbage").unwrap();
            wait_refused(&shop, &mut host, 1);
        }
        if number == FOREIGN_AT {
            shop.install("tagger", &tagger(99_999, TAG, 0x2_0000).unwrap()).unwrap();
            wait_refused(&shop, &mut host, 2);
        }
    }
    load.stop();
    let all = "SELECT count(*), md5(string_agg((id, txn, n)::text, '|' ORDER BY id)) FROM events";
    let expected = shop.source(all).unwrap();
    shop.wait_target(&mut host, all, &expected).unwrap();
    let rows: usize = shop.source("SELECT count(*) FROM events").unwrap().parse().unwrap();
    let feed = shop.folder().join("out/feed.jsonl");
    wait_until("the file has them all", LONG, || {
        let ids: BTreeSet<i64> = Lines::read(&feed)?
            .rows
            .iter()
            .filter_map(|row| row["new"]["id"].as_i64())
            .collect();
        Ok((ids.len() == rows).then_some(()))
    })
    .unwrap();
    host.terminate().unwrap();
    flat.check().unwrap();
    check_target(&shop);
    check_file(&shop, &Lines::read(&feed).unwrap()).unwrap();
}

fn check_target(shop: &Shop) {
    let mixed = "SELECT string_agg(txn || ' ' || tags, ', ') FROM
        (SELECT txn, string_agg(DISTINCT tag, '+') AS tags FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "", "transactions with two versions");
    let strange = "SELECT count(*) FROM events WHERE tag !~ '^v00[0-9]{3}$' OR tag IS NULL";
    assert_eq!(shop.target(strange).unwrap(), "0");
    let seen: usize = shop
        .target("SELECT count(DISTINCT tag) FROM events")
        .unwrap()
        .parse()
        .unwrap();
    assert!(seen >= SEEN, "{seen} versions were seen");
}

/// In the order of commits versions never go back, and both sinks got the same.
fn check_file(shop: &Shop, lines: &Lines) -> Result<()> {
    lines.streamed_once()?;
    let target = shop.target("SELECT id, tag FROM events")?;
    let target: BTreeMap<i64, &str> = target
        .lines()
        .map(|line| {
            let (id, tag) = line.split_once('|').context("two columns")?;
            Ok((id.parse()?, tag))
        })
        .collect::<Result<_>>()?;
    let mut newest = "";
    for row in lines.rows.iter().filter(|row| row["op"] == "insert") {
        let found = row["new"]["tag"].as_str().context("tag")?;
        ensure!(found >= newest, "{found} after {newest}: {row}");
        newest = found;
    }
    for row in &lines.rows {
        // The table was copied once: a finished copy isn't repeated by later starts.
        ensure!(
            row["op"] == "insert" || row["id"].as_str().is_some_and(|id| id.contains(":copy1-")),
            "{row}"
        );
        let id = row["new"]["id"].as_i64().context("id")?;
        let in_target = target.get(&id).copied();
        ensure!(
            in_target == row["new"]["tag"].as_str(),
            "the target has {in_target:?}: {row}"
        );
    }
    Ok(())
}
