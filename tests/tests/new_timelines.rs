//! S42: what is beyond the point where the server's timeline parts from the one before, though our position isn't.

use rowmill_tests::{Cluster, Fault, Host, Proxy, Shop};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE unpublished (note text)";
const ROWS: &str = "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders";
/// Some megabytes of WAL.
const MUCH: &str = "INSERT INTO unpublished SELECT repeat('x', 100) FROM generate_series(1, 20000) n";
const HISTORY: &str = "pg_wal/00000002.history";

fn pipeline(shop: &Shop, sink: &str) -> String {
    let routes = format!("routes:\n  - {{ tables: [public.orders], sinks: [{sink}, held] }}");
    let held = shop.cluster.url("held");
    let sinks = shop.pipeline_of("public.orders", &routes);
    format!("{sinks}  held: {{ postgres: {{ url: {held} }} }}\n")
}

fn shop() -> Shop {
    let shop = Shop::with(TABLES).unwrap();
    shop.cluster.sql("postgres", "CREATE DATABASE held").unwrap();
    shop.cluster.script("held", TABLES).unwrap();
    shop
}

/// A second sink, in a database of its own, holds our position back: a host is killed once the first has what is wanted.
fn killed_behind_the_sink(shop: &Shop, pipeline: &str, has: impl Fn() -> bool) {
    let held = shop.cluster.hold("held", "LOCK TABLE orders").unwrap();
    let mut host = Host::run(shop.folder(), pipeline).unwrap();
    shop.wait_for(&mut host, "the first sink has it", || Ok(has())).unwrap();
    host.kill().unwrap();
    // Whoever waits for the lock first: it isn't to have it.
    for ended in ["wait_event_type = 'Lock'", "true"] {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE datname = 'held' AND {ended}"
        );
        shop.target(&end).unwrap();
    }
    drop(held);
}

fn feed(shop: &Shop) -> String {
    std::fs::read_to_string(shop.folder().join("out/feed.jsonl")).unwrap()
}

/// The row is in the file, and the manifest covers it.
fn feed_has_row_3(shop: &Shop) -> bool {
    let text = feed(shop);
    let manifest = std::fs::read(shop.folder().join("out/feed.jsonl.manifest")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    text.contains(r#""id":3"#) && manifest["files"][0]["length"] == text.len()
}

fn replayed(server: &Cluster, id: i32) {
    let there = format!("SELECT count(*) FROM orders WHERE id = {id}");
    server.wait_sql("source", &there, "1").unwrap();
}

/// A standby that has what `sink` gets up to row 2, and not row 3, which the sink has beyond our position. The standby is the
/// primary then, has row 4 in the place of what it lacks, and has written past where the sink stands.
fn lagged(shop: &Shop, sink: &str, has_row_3: fn(&Shop) -> bool) -> (Cluster, Cluster) {
    let pipeline = &pipeline(shop, sink);
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.once(pipeline, 0).unwrap();
    let primary = &shop.cluster;
    primary.stop_server("fast").unwrap();
    let twin = primary.copied(&[], &["standby.signal"]).unwrap();
    // With our slot, as a synchronised one is on standbys.
    let lagging = primary.standby().unwrap();
    primary.start_server().unwrap();
    lagging.start_server().unwrap();
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    replayed(&lagging, 2);
    shop.once(pipeline, 0).unwrap();
    lagging.stop_server("fast").unwrap();
    shop.source(MUCH).unwrap();
    shop.source("INSERT INTO orders VALUES (3)").unwrap();
    killed_behind_the_sink(shop, pipeline, || has_row_3(shop));
    lagging.start_promoted().unwrap();
    lagging.sql("source", "INSERT INTO orders VALUES (4)").unwrap();
    for _ in 0..2 {
        lagging.sql("source", MUCH).unwrap();
    }
    (lagging, twin)
}

fn refused(shop: &Shop, pipeline: &str, texts: &[&str]) {
    // However often: what the first start has stored changes nothing.
    for _ in 0..2 {
        let said = shop.once(pipeline, 4).unwrap();
        for text in texts {
            assert!(said.contains(text), "{text} isn't in: {said}");
        }
    }
}

#[test]
fn s42_a_postgres_sink_beyond_where_the_timelines_part_is_refused() {
    let shop = shop();
    let (lagging, twin) = lagged(&shop, "warehouse", |shop| shop.target(ROWS).unwrap() == "1,2,3");
    let now = shop.at(&lagging, &pipeline(&shop, "warehouse"));

    // Where it can't be told how the timelines stand to each other, nothing begins.
    let (history, away) = (lagging.data().join(HISTORY), shop.folder().join("history"));
    std::fs::rename(&history, &away).unwrap();
    let said = shop.once(&now, 3).unwrap();
    assert!(said.contains("E0259") && said.contains("00000002.history"), "{said}");
    std::fs::copy(&away, &history).unwrap();
    std::process::Command::new("chown")
        .args(["--reference", "PG_VERSION", HISTORY])
        .current_dir(lagging.data())
        .status()
        .unwrap();

    refused(
        &shop,
        &now,
        &["E0517", "the position of sink warehouse", "the timelines part at"],
    );
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3");
    shop.target("TRUNCATE orders").unwrap();
    let again = now.replace("warehouse", "again");
    shop.once(&again, 0).unwrap();
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,4");

    // What the sink has by now is of the new timeline, stored or not.
    lagging.sql("source", "INSERT INTO orders VALUES (5)").unwrap();
    killed_behind_the_sink(&shop, &again, || shop.target(ROWS).unwrap() == "1,2,4,5");
    std::fs::remove_file(&history).unwrap();
    let said = shop.once(&again, 0).unwrap();
    assert!(
        said.contains("the history of the server's timeline can't be read"),
        "{said}"
    );
    lagging.sql("source", "INSERT INTO orders VALUES (6)").unwrap();
    shop.once(&again, 0).unwrap();
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,4,5,6");
    assert_eq!(shop.cluster.sql("held", ROWS).unwrap(), "1,2,4,5,6");

    // Another standby became the primary for itself: its timeline has the same number.
    twin.start_server().unwrap();
    twin.promote().unwrap();
    refused(
        &shop,
        &again.replace(&lagging.url("source"), &twin.url("source")),
        &["E0517", "timeline 2 is another of that number"],
    );
}

#[test]
fn s42_a_file_beyond_where_the_timelines_part_is_refused() {
    let shop = shop();
    let (lagging, _) = lagged(&shop, "feed", feed_has_row_3);
    let before = feed(&shop);
    let now = shop.at(&lagging, &pipeline(&shop, "feed"));
    refused(&shop, &now, &["E0517", "the position of sink feed"]);
    assert_eq!(feed(&shop), before);
}

/// The sink stands where both timelines are the same. What it gets at the first start on the new one is beyond that, and no reason to
/// refuse it at the next.
#[test]
fn s42_a_sink_that_was_followed_to_the_new_timeline_is_never_refused_for_what_it_got_there() {
    let shop = shop();
    let pipeline = pipeline(&shop, "warehouse");
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.once(&pipeline, 0).unwrap();
    let primary = &shop.cluster;
    primary.stop_server("fast").unwrap();
    let standby = primary.standby().unwrap();
    primary.start_server().unwrap();
    standby.start_server().unwrap();
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    replayed(&standby, 2);
    // Both have it: it is beyond our position, and not beyond where the timelines part.
    killed_behind_the_sink(&shop, &pipeline, || shop.target(ROWS).unwrap() == "1,2");
    standby.stop_server("fast").unwrap();
    standby.start_promoted().unwrap();
    standby.sql("source", "INSERT INTO orders VALUES (3)").unwrap();
    let now = shop.at(&standby, &pipeline);
    killed_behind_the_sink(&shop, &now, || shop.target(ROWS).unwrap() == "1,2,3");
    standby.sql("source", "INSERT INTO orders VALUES (4)").unwrap();
    shop.once(&now, 0).unwrap();
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3,4");
}

/// Rows that a first copy has brought are ahead of the stream, and of where the timelines part. The new one has never had them.
#[test]
fn s42_a_copy_that_isnt_through_begins_anew_on_the_new_timeline() {
    let shop = shop();
    shop.source("INSERT INTO orders SELECT n, 'of both' FROM generate_series(1, 4000) n")
        .unwrap();
    // A stream that is silent is taken for dead later.
    shop.source("ALTER SYSTEM SET wal_sender_timeout = 0").unwrap();
    shop.source("SELECT pg_reload_conf()").unwrap();
    let slow = "{ mode: initial, connections: 1, unit_rows: 2000, rows_per_second: 500 }";
    let fast = "{ mode: initial, connections: 2, unit_rows: 2000 }";
    let pipeline = pipeline(&shop, "warehouse");
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let slowly = shop.behind(&proxy, &pipeline.replace(fast, slow));
    assert_ne!(slowly, pipeline);
    let count = || {
        shop.target("SELECT count(*) FROM orders")
            .map(|count| count.parse::<u32>().unwrap_or(0))
    };

    let mut host = Host::run(shop.folder(), &slowly).unwrap();
    shop.wait_for(&mut host, "a unit is copied", || Ok(count()? > 0))
        .unwrap();
    host.kill().unwrap();
    let primary = &shop.cluster;
    primary.stop_server("fast").unwrap();
    let lagging = primary.standby().unwrap();
    primary.start_server().unwrap();
    lagging.start_server().unwrap();

    let before = count().unwrap();
    let mut host = Host::run(shop.folder(), &slowly).unwrap();
    shop.wait_for(&mut host, "the copy goes on", || Ok(count()? > before))
        .unwrap();
    // The copy's own connections go on.
    proxy.set(Fault::Swallow);
    shop.source("INSERT INTO orders VALUES (9000, 'of both')").unwrap();
    replayed(&lagging, 9000);
    lagging.stop_server("fast").unwrap();
    shop.source("INSERT INTO orders VALUES (9001, 'lost')").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders WHERE id = 9001", "1")
        .unwrap();
    host.kill().unwrap();

    lagging.start_promoted().unwrap();
    lagging
        .sql(
            "source",
            "UPDATE orders SET note = 'of the new one' WHERE id IN (1, 3999, 4000)",
        )
        .unwrap();
    lagging
        .sql("source", "DELETE FROM orders WHERE id IN (2, 3998)")
        .unwrap();
    let mut host = Host::run(shop.folder(), &shop.at(&lagging, &pipeline)).unwrap();
    let digest = "SELECT count(*), max(id), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o";
    let source = lagging.sql("source", digest).unwrap();
    shop.wait_target(&mut host, digest, &source).unwrap();
    assert!(host.log().contains("begins anew, with its targets emptied"));
    host.terminate().unwrap();
}
