//! Snapshot, then stream, into another Postgres: the target must end equal to the source, whatever happens on the way.

use rowmill_tests::{Cluster, ClusterOptions, Host, LONG, Random, SHOP, Shop, Writers, wait_until};
use std::time::Duration;

#[test]
fn snapshot_then_stream_under_concurrent_writes() {
    let shop = Shop::new().unwrap();
    shop.fill(20_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 3, 1).unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    // The writers go on well beyond the copy.
    wait_until("rows of the copy arrive", LONG, || {
        host.must_run()?;
        Ok((shop.cluster.sql("target", "SELECT count(*) >= 20000 FROM orders")? == "t").then_some(()))
    })
    .unwrap();
    let before = writers.transactions();
    wait_until("more writes", LONG, || {
        Ok((writers.transactions() > before + 300).then_some(()))
    })
    .unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// How often the host is killed: `ROWMILL_KILLS`, else few enough for every day.
fn kills() -> u64 {
    let all = std::env::var("ROWMILL_KILLS").ok().and_then(|text| text.parse().ok());
    all.unwrap_or(50)
}

/// Kills the host at random moments, from its start-up through the copy into the stream.
#[test]
fn h2_killed_fifty_times_under_load() {
    let shop = Shop::new().unwrap();
    shop.fill(20_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut random = Random::new(std::process::id().into());
    for _ in 0..kills() {
        let host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(900)));
        host.kill().unwrap();
    }
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

#[test]
fn s1_s14_the_server_restarts_and_walsenders_are_terminated() {
    let shop = Shop::new().unwrap();
    shop.fill(2_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    for round in 0..6 {
        let before = writers.transactions();
        wait_until("the stream is at work", LONG, || {
            host.must_run()?;
            let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            let streams = shop.cluster.sql("source", streaming)? == "1";
            Ok((streams && writers.transactions() > before + 50).then_some(()))
        })
        .map_err(|error| error.context(host.log()))
        .unwrap();
        if round % 2 == 0 {
            shop.cluster
                .sql("source", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
                .unwrap();
        } else {
            shop.cluster
                .stop_server(if round == 1 { "fast" } else { "immediate" })
                .unwrap();
            shop.cluster.start_server().unwrap();
        }
    }
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// A run that is bounded ends by itself, and the next one goes on where it stopped.
#[test]
fn once_ends_at_the_position_of_its_start() {
    let shop = Shop::new().unwrap();
    shop.fill(1_000).unwrap();
    for round in 0..3 {
        shop.cluster
            .sql(
                "source",
                &format!("INSERT INTO orders (id, status) VALUES ({round}, 'new')"),
            )
            .unwrap();
        Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
        assert_eq!(shop.digest("source").unwrap(), shop.digest("target").unwrap());
    }
}

/// Our tables are silent while another database writes: the slot must not hold its WAL.
#[test]
fn s40_an_idle_publication_on_a_busy_server_pins_nothing() {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    let confirmed = |at_least: &str| {
        let query = format!(
            "SELECT confirmed_flush_lsn >= '{at_least}' FROM pg_replication_slots WHERE slot_name = 'rowmill_shop'"
        );
        shop.cluster.sql("source", &query)
    };
    wait_until("the slot is there", LONG, || {
        host.must_run()?;
        Ok((confirmed("0/0")? == "t").then_some(()))
    })
    .unwrap();
    shop.cluster
        .sql(
            "postgres",
            "CREATE TABLE other AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)",
        )
        .unwrap();
    let end = shop
        .cluster
        .sql("postgres", "SELECT pg_current_wal_flush_lsn()")
        .unwrap();
    wait_until("the slot follows", LONG, || {
        host.must_run()?;
        Ok((confirmed(&end)? == "t").then_some(()))
    })
    .unwrap();
    host.terminate().unwrap();
}

/// A server that is told to shut down fast doesn't wait for us, even while the target takes nothing.
#[test]
fn a_fast_shutdown_is_not_held_up() {
    // Without a timeout for senders, one that isn't let go of holds the shutdown up for as long as it lives.
    let options = ClusterOptions {
        settings: vec!["wal_sender_timeout=0".into()],
        ..ClusterOptions::default()
    };
    let source = Cluster::start_with(&options).unwrap();
    let shop = Shop::new().unwrap();
    source.sql("postgres", "CREATE DATABASE source").unwrap();
    source.script("source", SHOP).unwrap();
    let pipeline = shop.at(&source, &shop.pipeline());
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    source.sql("source", "INSERT INTO orders (id) VALUES (1)").unwrap();
    wait_until("the first row arrives", LONG, || {
        host.must_run()?;
        Ok((shop.cluster.sql("target", "SELECT count(*) FROM orders")? == "1").then_some(()))
    })
    .unwrap();
    // From now on every write to the target waits.
    let held = shop.cluster.hold("target", "LOCK TABLE orders").unwrap();
    source.sql("source", "INSERT INTO orders (id) VALUES (2)").unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    shop.wait_target(&mut host, waiting, "1").unwrap();
    source.stop_server("fast").unwrap();
    held.release().unwrap();
    host.must_run().unwrap();
    source.start_server().unwrap();
    wait_until("the second row arrives", LONG, || {
        host.must_run()?;
        Ok((shop.cluster.sql("target", "SELECT count(*) FROM orders")? == "2").then_some(()))
    })
    .map_err(|error| error.context(host.log()))
    .unwrap();
    host.terminate().unwrap();
}
