//! K18: targets that hold less than they did. What they lost was acknowledged, so nothing would bring it again.

use anyhow::{Result, ensure};
use rowmill_tests::{Cluster, ClusterOptions, DIGEST, Host, LONG, SHOP, Shop, wait_until};

const POSITION: &str = "SELECT lsn FROM rowmill.positions";

/// The pipeline into this target, whose sink has this name.
fn into(shop: &Shop, url: &str, sink: &str) -> String {
    let pipeline = shop.pipeline().replace(&shop.cluster.url("target"), url);
    pipeline.replace("warehouse", sink)
}

/// Every start is refused, and says what the target holds and what it held.
fn refused(shop: &Shop, pipeline: &str, found: &str, known: &str) {
    let cause = format!("it holds {found}, and held {known} before");
    refused_with(shop, pipeline, "E0425", &cause);
}

fn refused_with(shop: &Shop, pipeline: &str, code: &str, cause: &str) {
    for _ in 0..2 {
        let said = shop.once(pipeline, 6).unwrap();
        assert!(said.contains(code) && said.contains(cause), "{said}");
    }
}

/// As the error says it is done: with a sink of another name.
fn heal(shop: &Shop, pipeline: &str, digest: impl Fn() -> Result<String>) {
    let mut host = Host::run(shop.folder(), pipeline).unwrap();
    let source = shop.source(DIGEST).unwrap();
    shop.wait_for(&mut host, "target equals source", || {
        let target = digest()?;
        ensure!(target == source, "source {source}\ntarget {target}");
        Ok(true)
    })
    .unwrap();
    host.terminate().unwrap();
}

/// A backup is put in the target's place, or a standby that lagged.
#[test]
fn k18_a_target_that_has_gone_back_is_refused() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    let target = Cluster::start().unwrap();
    target.script("postgres", SHOP).unwrap();
    let pipeline = into(&shop, &target.url("postgres"), "warehouse");
    shop.once(&pipeline, 0).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.once(&pipeline, 0).unwrap();
    target.stop_server("fast").unwrap();
    let restored = target.copied(&[], &[]).unwrap();
    target.start_server().unwrap();
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    shop.source("DELETE FROM orders WHERE id = 10000000").unwrap();
    shop.once(&pipeline, 0).unwrap();
    // Commits that the target has nothing of move the stream's position alone: it is as good as it was.
    shop.source("CREATE TABLE elsewhere AS SELECT 1").unwrap();
    shop.once(&pipeline, 0).unwrap();
    shop.once(&pipeline, 0).unwrap();
    let (known, source) = (target.sql("postgres", POSITION).unwrap(), shop.source(DIGEST).unwrap());
    assert_eq!(target.sql("postgres", DIGEST).unwrap(), source);

    restored.start_server().unwrap();
    let found = restored.sql("postgres", POSITION).unwrap();
    let restored_url = restored.url("postgres");
    shop.source("INSERT INTO customers VALUES (3, 'a', 'b', 'c')").unwrap();
    let pipeline = into(&shop, &restored_url, "warehouse");
    refused(
        &shop,
        &pipeline,
        &format!("position {found}"),
        &format!("position {known}"),
    );
    let there = "SELECT string_agg(id::text, ',' ORDER BY id) FROM customers WHERE id < 10";
    assert_eq!(
        restored.sql("postgres", there).unwrap(),
        "1",
        "nothing is written there"
    );

    restored.sql("postgres", "TRUNCATE orders, customers").unwrap();
    heal(&shop, &into(&shop, &restored_url, "again"), || {
        restored.sql("postgres", DIGEST)
    });
}

/// Another database under the sink's name, with empty tables. Nothing but copied rows had come.
#[test]
fn k18_a_target_that_was_emptied_is_refused() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    shop.once(&shop.pipeline(), 0).unwrap();
    assert_eq!(shop.target(POSITION).unwrap(), "", "no row of the stream");
    let empty = || {
        shop.cluster.sql("postgres", "DROP DATABASE target").unwrap();
        shop.cluster.sql("postgres", "CREATE DATABASE target").unwrap();
        shop.cluster.script("target", SHOP).unwrap();
    };
    empty();
    refused(
        &shop,
        &shop.pipeline(),
        "no row in rowmill.positions",
        "a row without a position",
    );

    let again = into(&shop, &shop.cluster.url("target"), "again");
    heal(&shop, &again, || shop.target(DIGEST));
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.once(&again, 0).unwrap();
    let known = format!("position {}", shop.target(POSITION).unwrap());
    empty();
    refused(&shop, &again, "no row in rowmill.positions", &known);
}

/// State and slot are gone, and the target's position has stayed: a copy wouldn't bring what was deleted since.
#[test]
fn k18_a_target_that_was_left_before_the_slot_was_made_is_refused() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    shop.once(&shop.pipeline(), 0).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.once(&shop.pipeline(), 0).unwrap();
    std::fs::remove_dir_all(shop.folder().join(".rowmill")).unwrap();
    shop.source("SELECT pg_drop_replication_slot('rowmill_shop')").unwrap();
    shop.source("DELETE FROM orders WHERE id = 10000000").unwrap();
    let position = shop.target(POSITION).unwrap();
    let cause = format!("it holds position {position}, and the slot was made at ");
    refused_with(&shop, &shop.pipeline(), "E0426", &cause);

    shop.target("TRUNCATE orders, customers").unwrap();
    let again = into(&shop, &shop.cluster.url("target"), "again");
    heal(&shop, &again, || shop.target(DIGEST));
}

/// Where the target's commits don't wait for its disk, ours do all the same: what was acknowledged survives its crash.
#[test]
fn k18_a_target_that_doesnt_wait_for_its_disk_is_made_to() {
    let shop = Shop::new().unwrap();
    let settings = ["synchronous_commit=off", "wal_writer_delay=10s"].map(str::to_owned);
    let target = Cluster::start_with(&ClusterOptions {
        settings: settings.to_vec(),
        ..ClusterOptions::default()
    })
    .unwrap();
    target.script("postgres", SHOP).unwrap();
    // A row that a copy brings may be acknowledged before it is there: it is read again.
    let copies = "{ mode: initial, connections: 2, unit_rows: 2000 }";
    let pipeline = into(&shop, &target.url("postgres"), "warehouse").replace(copies, "never");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_streaming(&mut host, 1).unwrap();
    for id in 1..=3 {
        shop.source(&format!("INSERT INTO customers VALUES ({id}, 'a', 'b', 'c')"))
            .unwrap();
        let behind_it = shop.source("SELECT pg_current_wal_lsn()").unwrap();
        let confirmed = format!("SELECT confirmed_flush_lsn >= '{behind_it}' FROM pg_replication_slots");
        shop.wait_for(&mut host, "it is acknowledged", || Ok(shop.source(&confirmed)? == "t"))
            .unwrap();
        target.kill().unwrap();
        wait_until("the target is back", LONG, || target.start_server().map(Some)).unwrap();
        let there = format!("SELECT count(*) FROM customers WHERE id <= {id}");
        assert_eq!(target.sql("postgres", &there).unwrap(), id.to_string());
    }
    host.terminate().unwrap();
}

/// What is lost is a copy alone: no position of the stream tells, as none has moved.
#[test]
fn k18_a_target_that_has_lost_copied_rows_is_refused() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    let target = Cluster::start().unwrap();
    target.script("postgres", SHOP).unwrap();
    let both = into(&shop, &target.url("postgres"), "warehouse");
    let first = both.replace("[public.orders, public.customers]", "[public.customers]");
    shop.once(&first, 0).unwrap();
    target.stop_server("fast").unwrap();
    let restored = target.copied(&[], &[]).unwrap();
    target.start_server().unwrap();
    shop.once(&both, 0).unwrap();
    assert_eq!(target.sql("postgres", POSITION).unwrap(), "", "no row of the stream");
    assert_eq!(target.sql("postgres", DIGEST).unwrap(), shop.source(DIGEST).unwrap());

    restored.start_server().unwrap();
    assert_eq!(restored.sql("postgres", POSITION).unwrap(), "");
    let counted = |cluster: &Cluster| {
        cluster
            .sql("postgres", "SELECT unstreamed FROM rowmill.positions")
            .unwrap()
    };
    let cause = format!(
        "it holds {} commits of copied rows and replayed letters, and held {} before",
        counted(&restored),
        counted(&target)
    );
    let restored_url = restored.url("postgres");
    refused_with(&shop, &into(&shop, &restored_url, "warehouse"), "E0425", &cause);
    restored.sql("postgres", "TRUNCATE orders, customers").unwrap();
    heal(&shop, &into(&shop, &restored_url, "again"), || {
        restored.sql("postgres", DIGEST)
    });
}
