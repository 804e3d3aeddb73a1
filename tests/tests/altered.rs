//! Tables that are altered while they are copied.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{Host, LONG, Lines, Load, Shop, free_port, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;

/// `items` is altered step by step, `keys` gets another name for its key, `plain` has none and is only interrupted.
const TABLES: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, label text, gone text DEFAULT 'gone');
    CREATE TABLE keys (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0);
    CREATE TABLE plain (id bigint, n int);
    ALTER TABLE plain REPLICA IDENTITY FULL;
";

const ROWS: &str = "
    INSERT INTO items SELECT n, 0, 'label ' || n FROM generate_series(1, 6000) n;
    INSERT INTO keys SELECT n, 0 FROM generate_series(1, 3000) n;
    INSERT INTO plain SELECT n % 100, 0 FROM generate_series(1, 1000) n;
";

/// What is done to the tables in the midst of their copies; each is done once the copy of its table has begun anew.
const STEPS: [(&str, &str); 6] = [
    ("items", "ALTER TABLE items ADD COLUMN extra text DEFAULT 'extra'"),
    ("keys", "ALTER TABLE keys RENAME COLUMN id TO key_id"),
    ("items", "ALTER TABLE items DROP COLUMN gone"),
    ("items", "ALTER TABLE items ALTER COLUMN n TYPE bigint"),
    ("items", "ALTER TABLE items RENAME COLUMN label TO title"),
    (
        "items",
        "BEGIN; LOCK TABLE items; DELETE FROM items WHERE id % 7 = 0; ALTER TABLE items ADD COLUMN late int; UPDATE items SET late = 1, n = n + 1 WHERE id % 5 = 0; COMMIT",
    ),
];

fn pipeline(shop: &Shop, port: u16) -> String {
    let routes = "routes:
  - { tables: [public.items, public.plain], on_new_column: pass, sinks: [warehouse, feed] }
  - { tables: [public.keys], on_new_column: pass, sinks: [feed] }";
    let url = shop.cluster.url("target");
    let pipeline = shop.pipeline_of("public.items, public.keys, public.plain", routes);
    Shop::with_console(&pipeline, port)
        .replace("unit_rows: 2000", "unit_rows: 250, rows_per_second: 6000")
        .replace(&format!("url: {url} "), &format!("url: {url}, create_tables: true "))
}

/// Writers that go by places, so that names may change under them. `n` only grows.
fn load(shop: &Shop) -> Load {
    Load::of(&shop.cluster, |writer| {
        let mut turn = writer * 1_000_000;
        move || {
            turn += 1;
            let row = turn * 7919 % 6000 + 1;
            format!(
                "BEGIN; UPDATE items SET n = n + 1 WHERE id = {row}; INSERT INTO items (id) VALUES ({turn});
                 INSERT INTO keys VALUES ({turn}, 0); INSERT INTO plain VALUES ({turn}, 1);
                 UPDATE keys SET n = n + 1 WHERE ctid = (SELECT ctid FROM keys OFFSET {} LIMIT 1);
                 UPDATE plain SET n = n + 1 WHERE id = {}; COMMIT",
                row / 6,
                turn % 100
            )
        }
    })
}

/// The tables under copy in the session that streams now.
fn copies(port: u16) -> Result<Vec<Value>> {
    let status: Value = serde_json::from_str(&rowmill_tests::get(port, "/api/status")?.1)?;
    let status = &status["pipelines"][0];
    ensure!(status["state"] == "streaming", "{status}");
    Ok(status["copies"].as_array().cloned().unwrap_or_default())
}

fn are_through(port: u16) -> Result<bool> {
    Ok(copies(port)?.iter().all(|copy| copy["done"] == true))
}

/// Whether some of the table's rows are copied, and enough is left that units will still be read.
fn is_half_way(port: u16, table: &str) -> Result<bool> {
    let name = format!("public.{table}");
    let found = copies(port)?.into_iter().find(|copy| copy["table"] == name.as_str());
    let rows = found.and_then(|copy| copy["rows"].as_u64()).unwrap_or(0);
    Ok(rows > 0 && rows < 1500)
}

/// Does `sql` in the midst of the copy of `table`, which stands still meanwhile. A copy that is through by then is begun
/// once more.
fn alter(shop: &Shop, host: &mut Host, port: u16, (table, sql): (&str, &str)) -> Result<()> {
    let verb = |arguments: &[&str]| Host::verb_of(shop.folder(), arguments, 0);
    shop.wait_for(host, "in the midst of a copy", || {
        if are_through(port)? {
            verb(&["resync", &format!("public.{table}")])?;
            wait_until("the copy has begun", LONG, || Ok((!are_through(port)?).then_some(())))?;
        }
        if !is_half_way(port, table)? {
            return Ok(false);
        }
        verb(&["copy", "pause"])?;
        if is_half_way(port, table)? {
            return Ok(true);
        }
        verb(&["copy", "resume"])?;
        Ok(false)
    })?;
    shop.source(sql)?;
    verb(&["copy", "resume"])?;
    Ok(())
}

/// Its writers take all that the machine has, and units are tiny: beside other tests the copies come to their end too late.
#[test]
#[ignore = "takes a machine of its own, and up to a minute"]
fn copies_go_on_though_their_tables_are_altered_under_load() {
    let shop = Shop::with(TABLES).unwrap();
    shop.cluster.script("source", ROWS).unwrap();
    let port = free_port().unwrap();
    let load = load(&shop);
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port)).unwrap();
    let altered = |host: &Host| host.log().matches("altered while it was copied: its copy").count();
    for (done, step) in STEPS.into_iter().enumerate() {
        alter(&shop, &mut host, port, step).unwrap();
        shop.wait_said(&mut host, "altered while it was copied: its copy", done + 1)
            .unwrap();
    }
    // Not only columns.
    alter(&shop, &mut host, port, ("items", "TRUNCATE items; INSERT INTO items (id, n, title) SELECT n, 1000000, 'again' FROM generate_series(1, 3000) n"))
        .unwrap();
    // A unit counts once the stream has passed its end: beside writers without a bound, units this small take for ever.
    load.stop();
    shop.wait_for(&mut host, "the copies end", || are_through(port))
        .unwrap();

    let items =
        "SELECT count(*), md5(string_agg(concat_ws(',', id, n, title, extra, late), '|' ORDER BY id)) FROM items";
    let plain = "SELECT count(*), md5(string_agg(p::text, '|' ORDER BY id, n)) FROM plain p";
    for query in [items, plain] {
        let source = shop.source(query).unwrap();
        shop.wait_target(&mut host, query, &source).unwrap();
    }
    let keys = keys_of(
        &shop
            .source("SELECT string_agg(key_id || '=' || n, ' ') FROM keys")
            .unwrap(),
    )
    .unwrap();
    let feed = shop.folder().join("out/feed.jsonl");
    shop.wait_for(&mut host, "the feed has the keys", || {
        Ok(last_of(&Lines::read(&feed)?, "keys")? == keys)
    })
    .unwrap();
    assert_eq!(altered(&host), STEPS.len(), "{}", host.log());
    host.terminate().unwrap();

    let lines = Lines::read(&feed).unwrap();
    lines.streamed_once().unwrap();
    for table in ["items", "keys"] {
        last_of(&lines, table).unwrap();
    }
    let of_items = lines
        .rows
        .into_iter()
        .filter(|line| line["table"] != "keys" && line["table"] != "plain");
    let replayed = Lines {
        rows: of_items.collect(),
    }
    .replay()
    .unwrap();
    let count = shop.source("SELECT count(*) FROM items").unwrap();
    assert_eq!(replayed["items"].len().to_string(), count);
}

fn keys_of(text: &str) -> Result<BTreeMap<i64, i64>> {
    let pair = |pair: &str| {
        let (key, n) = pair.split_once('=').context("key=n")?;
        Ok((key.parse()?, n.parse()?))
    };
    text.split(' ').map(pair).collect()
}

/// The last `n` of each row of a table that only grows; fails where an older one comes behind a newer one.
fn last_of(lines: &Lines, table: &str) -> Result<BTreeMap<i64, i64>> {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for line in lines
        .rows
        .iter()
        .filter(|line| line["table"] == table && line["op"] != "delete")
    {
        let new = &line["new"];
        let key = new["key_id"].as_i64().or_else(|| new["id"].as_i64()).context("a key")?;
        let n = new["n"].as_i64().context("n")?;
        let before = last.insert(key, n);
        ensure!(before.is_none_or(|before| before <= n), "{before:?} before {line}");
    }
    Ok(last)
}
