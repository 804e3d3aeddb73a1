//! A sink that comes while the pipeline runs gets what is there, and the others get nothing twice.

use anyhow::{Result, ensure};
use rowmill_tests::{Host, Lines, Load, Shop, Writers, free_port, is_copied};
use std::collections::{HashMap, HashSet};

const ROUTES: &str = "routes:\n  - { tables: [public.orders, public.customers], sinks: [warehouse, feed";

/// Sinks beside the first two.
fn pipeline(shop: &Shop, port: u16, late: bool) -> String {
    let more = if late { ", archive, mirror" } else { "" };
    let text = shop.pipeline_of("public.orders, public.customers", &format!("{ROUTES}{more}] }}"));
    let text = Shop::with_console(&text, port).replace("unit_rows: 2000", "unit_rows: 1000");
    let late_sinks = format!(
        "  archive: {{ file: {{ path: out/archive.jsonl }} }}\n  mirror: {{ postgres: {{ url: {} }} }}\n",
        shop.cluster.url("mirror")
    );
    if late { text + &late_sinks } else { text }
}

/// The tables and keys of plain copied rows.
fn copied(shop: &Shop, file: &str) -> Result<Vec<String>> {
    let lines = Lines::read(&shop.folder().join(file))?;
    let reads = lines.rows.iter().filter(|line| line["op"] == "read");
    Ok(reads
        .map(|line| format!("{} {}", line["table"], line["new"]["id"]))
        .collect())
}

#[test]
fn a_sink_that_comes_is_copied_to_alone_though_the_host_is_killed() {
    let shop = Shop::new().unwrap();
    shop.fill(4000).unwrap();
    shop.cluster.sql("postgres", "CREATE DATABASE mirror").unwrap();
    shop.cluster.script("mirror", rowmill_tests::SHOP).unwrap();
    let port = free_port().unwrap();
    let writers = Writers::start(&shop.cluster, "source", 4, 2).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port, false)).unwrap();
    let first = |host: &mut Host| {
        shop.wait_for(host, "the first copy", || {
            Ok(copied(&shop, "out/feed.jsonl")?.len() > 4000 && is_copied(port)?)
        })
    };
    first(&mut host).unwrap();

    shop.reload(&pipeline(&shop, port, true)).unwrap();
    shop.wait_for(&mut host, "the copy has begun", || {
        Ok(!copied(&shop, "out/archive.jsonl")?.is_empty())
    })
    .unwrap();
    host.kill().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port, true)).unwrap();
    shop.wait_for(&mut host, "what was there has come", || {
        let rows = "SELECT count(*) FROM orders WHERE id >= 10000000";
        Ok(shop.cluster.sql("mirror", rows)? == "4001" && is_copied(port)?)
    })
    .unwrap();
    writers.stop().unwrap();

    shop.wait_equal(&mut host).unwrap();
    let source = shop.digest("source").unwrap();
    shop.wait_for(&mut host, "the mirror is the source", || {
        let mirror = shop.digest("mirror")?;
        ensure!(mirror == source, "source {source}\nmirror {mirror}");
        Ok(true)
    })
    .unwrap();
    let log = host.log();
    host.terminate().unwrap();
    // The others have it all, and nothing of it came again.
    let reads = copied(&shop, "out/feed.jsonl").unwrap();
    let different: HashSet<&String> = reads.iter().collect();
    assert_eq!(different.len(), reads.len(), "{log}");
    let replay = |file: &str| {
        let lines = Lines::read(&shop.folder().join(file)).unwrap();
        lines.streamed_once().unwrap();
        lines.replay().unwrap()
    };
    let (feed, archive) = (replay("out/feed.jsonl"), replay("out/archive.jsonl"));
    assert!(feed == archive, "{log}");
    assert_eq!(
        feed["orders"].len().to_string(),
        shop.source("SELECT count(*) FROM orders").unwrap()
    );
}

#[test]
fn a_sink_goes_and_comes_back_without_what_the_source_lost() {
    let shop = Shop::new().unwrap();
    shop.fill(500).unwrap();
    shop.cluster.sql("postgres", "CREATE DATABASE mirror").unwrap();
    shop.cluster.script("mirror", rowmill_tests::SHOP).unwrap();
    let port = free_port().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port, true)).unwrap();
    let mirror = |host: &mut Host| {
        let source = shop.digest("source").unwrap();
        shop.wait_for(
            host,
            "the mirror is the source",
            || Ok(shop.digest("mirror")? == source),
        )
        .unwrap();
    };
    mirror(&mut host);
    shop.reload(&pipeline(&shop, port, false)).unwrap();
    shop.source("DELETE FROM orders WHERE id % 2 = 0").unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(
        shop.cluster.sql("mirror", "SELECT count(*) FROM orders").unwrap(),
        "501"
    );
    shop.reload(&pipeline(&shop, port, true)).unwrap();
    mirror(&mut host);
    host.terminate().unwrap();
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    assert!(
        lines.rows.iter().all(|line| line["op"] != "truncate"),
        "the others aren't emptied"
    );
}

/// Rows that change all the while are read again for the sink that comes, and so show changes that are still to come. Those that
/// were there get each of them all the same, and nothing else.
#[test]
fn a_sink_that_comes_takes_no_step_from_the_others() {
    const ROWS: u64 = 20_000;
    let tables = "CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, filler text)";
    let shop = Shop::with(tables).unwrap();
    let fill = format!("INSERT INTO counters SELECT n, 0, repeat('f', 100) FROM generate_series(1, {ROWS}) n");
    shop.source(&fill).unwrap();
    shop.cluster.sql("postgres", "CREATE DATABASE mirror").unwrap();
    shop.cluster.script("mirror", tables).unwrap();
    let port = free_port().unwrap();
    let pipeline = |late: bool| {
        let sinks = if late {
            "warehouse, feed, archive, mirror"
        } else {
            "warehouse, feed"
        };
        let routes = format!("routes:\n  - {{ tables: [public.counters], sinks: [{sinks}] }}");
        let text = shop.pipeline_of("public.counters", &routes);
        let text = Shop::with_console(&text, port).replace("unit_rows: 2000", "unit_rows: 1000, rows_per_second: 5000");
        let url = shop.cluster.url("mirror");
        let more = format!(
            "  archive: {{ file: {{ path: out/archive.jsonl }} }}\n  mirror: {{ postgres: {{ url: {url} }} }}\n"
        );
        if late { text + &more } else { text }
    };
    let mut host = Host::run(shop.folder(), &pipeline(false)).unwrap();
    shop.wait_for(&mut host, "the first copy", || is_copied(port)).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM counters", &ROWS.to_string())
        .unwrap();
    // A row in each unit or so, each step of it a transaction of its own.
    let load = Load::of(&shop.cluster, |writer| {
        move || {
            format!(
                "DO $$ BEGIN FOR i IN 1..40 LOOP UPDATE counters SET n = n + 1 WHERE id = (i % 20) * 1000 + {writer};
                 COMMIT; END LOOP; END $$"
            )
        }
    });
    shop.reload(&pipeline(true)).unwrap();
    shop.wait_for(&mut host, "what was there has come", || {
        let rows = shop.cluster.sql("mirror", "SELECT count(*) FROM counters")?;
        Ok(rows == ROWS.to_string() && is_copied(port)?)
    })
    .unwrap();
    load.stop();
    let digest = "SELECT md5(string_agg(id || ' ' || n, ',' ORDER BY id)) FROM counters";
    let source = shop.source(digest).unwrap();
    for database in ["target", "mirror"] {
        shop.wait_for(
            &mut host,
            database,
            || Ok(shop.cluster.sql(database, digest)? == source),
        )
        .unwrap();
    }
    let total = shop.source("SELECT sum(n) FROM counters").unwrap();
    let log = host.log();
    host.terminate().unwrap();
    let read = |file: &str| Lines::read(&shop.folder().join(file)).unwrap();
    let (feed, archive) = (read("out/feed.jsonl"), read("out/archive.jsonl"));
    feed.streamed_once().unwrap();
    assert!(feed.replay().unwrap() == archive.replay().unwrap(), "{log}");
    // What the archive was to meet, it met: rows that were read again for it showed changes before those came, so that these
    // were left out for it alone.
    let left_out = left_out(&feed, &archive);
    println!("{left_out} of {} changes were left out", feed.rows.len());
    assert!(left_out > 0, "{log}");
    let mut steps: HashMap<i64, i64> = HashMap::new();
    for row in feed.rows.iter().filter(|row| row["op"] != "read") {
        let value = |column: &str| row["new"][column].as_i64().unwrap();
        let step = steps.entry(value("id")).or_default();
        *step += 1;
        assert_eq!(
            value("n"),
            *step,
            "a step is missing, or another row in its place: {row}\n{log}"
        );
    }
    assert_eq!(steps.values().sum::<i64>().to_string(), total);
    assert!(steps.len() >= 39, "{steps:?}");
}

/// Changes of the stream that one file has and the other hasn't, from the first one on that the other has.
fn left_out(whole: &Lines, other: &Lines) -> usize {
    let streamed = |lines: &Lines| -> Vec<String> {
        let streamed = lines.rows.iter().filter(|row| row["commit_time"].is_string());
        streamed.map(|row| row["id"].to_string()).collect()
    };
    let (whole, other) = (streamed(whole), streamed(other));
    let there: HashSet<&String> = other.iter().collect();
    let since = whole.iter().skip_while(|id| Some(*id) != other.first());
    since.filter(|id| !there.contains(id)).count()
}
