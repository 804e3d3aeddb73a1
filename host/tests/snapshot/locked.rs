//! Rows that can't be read again for now, as others have a lock on their table.

use crate::world::{World, table};
use rowmill_tests::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than any boundary may take, shorter than anybody waits for a test.
const STUCK: Duration = Duration::from_secs(20);

/// Somebody keeps a lock on one table. Rows of both are to be read again: the other one's are, and the stream goes on.
#[test]
fn a_lock_on_one_table_holds_up_no_other() {
    let cluster = Cluster::start().unwrap();
    let mut setup = Vec::new();
    for name in ["locked", "other"] {
        setup.push(format!("CREATE TABLE {name} (id int PRIMARY KEY, n int, big text)"));
        setup.push(format!("ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL"));
        setup.push(format!(
            "INSERT INTO {name} SELECT n, 0, repeat(md5(n::text), 100) FROM generate_series(1, 50) n"
        ));
    }
    setup.push("CREATE PUBLICATION p FOR TABLE locked, other".to_owned());
    setup.push("SELECT pg_create_logical_replication_slot('s', 'pgoutput')".to_owned());
    // Without the large value, which only the old row has: the new key is read again.
    setup.push("UPDATE locked SET id = -1 WHERE id = 1".to_owned());
    setup.push("UPDATE other SET id = -1 WHERE id = 1".to_owned());
    for statement in &setup {
        cluster.sql("postgres", statement).unwrap();
    }
    let tables = ["locked", "other"].map(|name| table(&cluster, name, &["id"]));
    let held = cluster.hold("postgres", "LOCK TABLE locked").unwrap();
    let mut world = World::start(cluster, tables.to_vec(), 2, 10);
    let (free, stuck) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let release = {
        let (free, stuck) = (Arc::clone(&free), Arc::clone(&stuck));
        std::thread::spawn(move || {
            let begun = std::time::Instant::now();
            while !free.load(Ordering::SeqCst) && begun.elapsed() < STUCK {
                std::thread::sleep(Duration::from_millis(20));
            }
            stuck.store(!free.load(Ordering::SeqCst), Ordering::SeqCst);
            held.release().unwrap();
        })
    };
    let [locked, other] = tables.each_ref().map(|table| table.relation.oid);
    while world.merger.is_copying(other) && !stuck.load(Ordering::SeqCst) {
        world.stream(i32::MAX);
        world.boundary();
    }
    assert!(!stuck.load(Ordering::SeqCst), "the stream of all tables stood still");
    world.assert_same("public.other", &tables[1]);
    assert!(world.merger.is_copying(locked) && world.merger.owes());
    free.store(true, Ordering::SeqCst);
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    release.join().unwrap();
    assert!(!world.merger.owes());
    world.assert_same("public.locked", &tables[0]);
}

/// As before, where a row of a unit has changed since that was read: the unit waits for it, and what is streamed meanwhile is
/// not older than what goes out in the end.
#[test]
fn a_unit_waits_for_its_rows() {
    let cluster = Cluster::start().unwrap();
    let setup = "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT n, 0 FROM generate_series(1, 30) n; \
         CREATE PUBLICATION p FOR TABLE items; SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    for statement in setup.split(';') {
        cluster.sql("postgres", statement).unwrap();
    }
    let items = table(&cluster, "items", &["id"]);
    let mut world = World::start(cluster, vec![items.clone()], 1, 10);
    let read =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'idle' AND query LIKE 'BEGIN ISOLATION%COPY%items%'";
    world.cluster.wait_sql("postgres", read, "t").unwrap();
    world.cluster.sql("postgres", "UPDATE items SET n = 1").unwrap();
    let mut held = world.cluster.hold("postgres", "LOCK TABLE items").unwrap();
    world.stream(i32::MAX);
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        let once = std::time::Instant::now();
        world.boundary();
        assert!(once.elapsed() < STUCK);
    }
    // Units that were read behind the update lack nothing, and are out.
    assert!(
        world.merger.is_copying(items.relation.oid),
        "the first one lacks its rows"
    );
    held.run("UPDATE items SET n = 2 WHERE id % 2 = 0").unwrap();
    held.commit().unwrap();
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    world.assert_same("public.items", &items);
}
