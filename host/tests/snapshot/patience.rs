//! What waits for rows to be read again: how long the stream stands still for that, and what goes on beside it.

use crate::world::{World, connect, table};
use rowmill_tests::Cluster;
use std::time::{Duration, Instant};

/// Longer than anything here may take.
const STUCK: Duration = Duration::from_secs(20);

fn setup(statements: &[String]) -> Cluster {
    let cluster = Cluster::start().unwrap();
    for statement in statements {
        cluster.sql("postgres", statement).unwrap();
    }
    cluster
}

fn wait_until(world: &World, condition: &str) {
    let begun = Instant::now();
    let sql = format!("SELECT count(*) > 0 FROM {condition}");
    while world.cluster.sql("postgres", &sql).unwrap() != "t" {
        assert!(begun.elapsed() < STUCK, "{condition}");
    }
}

/// One transaction has several tables, of each of which a row is to be read again.
#[test]
fn the_stream_stands_still_for_a_part_of_the_time_however_many_tables_are_locked() {
    const WATCHED: Duration = Duration::from_secs(8);
    let names = ["first", "second", "third", "fourth", "other"];
    let mut statements = Vec::new();
    for name in names {
        statements.push(format!("CREATE TABLE {name} (id int PRIMARY KEY, n int, big text)"));
        statements.push(format!("ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL"));
        statements.push(format!(
            "INSERT INTO {name} SELECT n, 0, repeat(md5(n::text), 100) FROM generate_series(1, 50) n"
        ));
    }
    statements.push(format!("CREATE PUBLICATION p FOR TABLE {}", names.join(", ")));
    statements.push("SELECT pg_create_logical_replication_slot('s', 'pgoutput')".to_owned());
    // Without the large value, which only the old row has: the new key is read again.
    statements.extend(names.map(|name| format!("UPDATE {name} SET id = -1 WHERE id = 1")));
    let cluster = setup(&statements);
    let tables = names.map(|name| table(&cluster, name, &["id"]));
    let holder = tokio::runtime::Runtime::new().unwrap();
    let lock = holder.block_on(connect(cluster.url("postgres"))).unwrap();
    let all = "public.first, public.second, public.third, public.fourth";
    let locked = format!("BEGIN; LOCK TABLE {all} IN ACCESS EXCLUSIVE MODE");
    holder.block_on(lock.batch_execute(&locked)).unwrap();
    // A connection waits for each of them.
    let mut world = World::start(cluster, tables.to_vec(), 5, 10);
    let begun = Instant::now();
    while world.merger.is_copying(tables[4].relation.oid) {
        assert!(begun.elapsed() < STUCK, "the other table waits");
        world.stream(i32::MAX);
        world.boundary();
    }
    let (begun, mut stood_still) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < WATCHED {
        world.stream(i32::MAX);
        let once = Instant::now();
        world.boundary();
        stood_still += once.elapsed();
    }
    // A fifth, and what was waited for at the end without the pause behind it.
    assert!(stood_still < WATCHED * 2 / 5, "{stood_still:?}");
    assert!(world.merger.owes());
    holder.block_on(lock.batch_execute("ROLLBACK")).unwrap();
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    assert!(!world.merger.owes());
    for (name, table) in names.iter().zip(&tables) {
        world.assert_same(&format!("public.{name}"), table);
    }
}

/// What counts isn't read again by a start: all of its rows have gone out by then.
#[test]
fn nothing_counts_that_lacks_rows() {
    const ROWS: i32 = 35;
    let cluster = setup(&[
        "CREATE TABLE items (id int PRIMARY KEY, n int, big text)".to_owned(),
        "ALTER TABLE items ALTER big SET STORAGE EXTERNAL".to_owned(),
        format!("INSERT INTO items SELECT n, 0, repeat(md5(n::text), 100) FROM generate_series(1, {ROWS}) n"),
        "CREATE PUBLICATION p FOR TABLE items".to_owned(),
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')".to_owned(),
    ]);
    let items = table(&cluster, "items", &["id"]);
    let holder = tokio::runtime::Runtime::new().unwrap();
    let lock = holder.block_on(connect(cluster.url("postgres"))).unwrap();
    let mut world = World::start(cluster, vec![items.clone()], 1, 10);
    wait_until(&world, &read_from(30));
    // It comes without the large value, so nothing but the copy brings the row.
    let update = "UPDATE items SET n = 1 WHERE id <= 5";
    world.cluster.sql("postgres", update).unwrap();
    let locked = "BEGIN; LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE";
    holder.block_on(lock.batch_execute(locked)).unwrap();
    while !world.stream(i32::MAX) {}
    let is_there = |world: &World, id: i32| {
        let rows = &world.held[&items.relation.oid].rows;
        rows.contains_key(&vec![Some(id.to_string())])
    };
    let counted = |world: &World| {
        let bound = |key: &Option<Vec<String>>, open| key.as_ref().map_or(open, |key| key[0].parse().unwrap());
        let mut rows = 0;
        for range in world.counted() {
            for id in bound(&range.after, 0) + 1..=bound(&range.up_to, ROWS) {
                assert!(is_there(world, id), "{id} hasn't gone out");
                rows += 1;
            }
        }
        rows
    };
    let begun = Instant::now();
    while counted(&world) < 25 {
        assert!(begun.elapsed() < STUCK, "units that lack nothing count");
        world.stream(i32::MAX);
        world.boundary();
    }
    assert!(!is_there(&world, 1) && !is_there(&world, 6), "the first unit waits");
    let changed = "UPDATE public.items SET n = 2 WHERE id = 1; COMMIT";
    holder.block_on(lock.batch_execute(changed)).unwrap();
    while !world.merger.is_done() {
        assert!(begun.elapsed() < 2 * STUCK);
        world.stream(i32::MAX);
        world.boundary();
        counted(&world);
    }
    assert_eq!(counted(&world), ROWS);
    world.assert_same("public.items", &items);
}

/// Nobody sees for long what a synchronous standby holds back. A unit with such a row waits, and the others of its table don't.
#[test]
fn a_unit_whose_row_nobody_sees_yet_holds_up_no_other() {
    let cluster = setup(
        &[
            "CREATE TABLE items (id int PRIMARY KEY, n int)",
            "INSERT INTO items SELECT n, 0 FROM generate_series(1, 25) n",
            "CREATE PUBLICATION p FOR TABLE items",
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        ]
        .map(str::to_owned),
    );
    let items = table(&cluster, "items", &["id"]);
    let url = cluster.url("postgres");
    let mut world = World::start(cluster, vec![items.clone()], 1, 10);
    wait_until(&world, &read_from(20));
    let standby = |world: &World, set: &str, is: &str| {
        for statement in [&*format!("ALTER SYSTEM {set}"), "SELECT pg_reload_conf()"] {
            world.cluster.sql("postgres", statement).unwrap();
        }
        let setting = format!("pg_settings WHERE name = 'synchronous_standby_names' AND setting = '{is}'");
        wait_until(world, &setting);
    };
    standby(&world, "SET synchronous_standby_names = 'nobody'", "nobody");
    let writers = tokio::runtime::Runtime::new().unwrap();
    let [held_back, seen] = [(); 2].map(|()| writers.block_on(connect(url.clone())).unwrap());
    let held_back = writers.spawn(async move {
        held_back
            .batch_execute("UPDATE public.items SET n = 1 WHERE id = 1")
            .await
    });
    wait_until(&world, "pg_stat_activity WHERE wait_event = 'SyncRep'");
    for statement in [
        "SET synchronous_commit = local",
        "UPDATE public.items SET n = 2 WHERE id = 11",
    ] {
        writers.block_on(seen.batch_execute(statement)).unwrap();
    }
    while !world.stream(i32::MAX) {}
    let is_there = |world: &World, id: i32| {
        let rows = &world.held[&items.relation.oid].rows;
        rows.contains_key(&vec![Some(id.to_string())])
    };
    // Beside the two, which the stream has brought.
    let begun = Instant::now();
    while !is_there(&world, 12) {
        assert!(begun.elapsed() < STUCK, "the second unit waits for the first");
        world.stream(i32::MAX);
        world.boundary();
    }
    assert!(!is_there(&world, 2), "the first unit waits");
    standby(&world, "RESET synchronous_standby_names", "");
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    writers.block_on(held_back).unwrap().unwrap();
    world.assert_same("public.items", &items);
}

/// The unit behind this key has been read, the last one.
fn read_from(key: i32) -> String {
    format!("pg_stat_activity WHERE state = 'idle' AND query LIKE 'BEGIN ISOLATION%COPY%items%>) ''{key}''%'")
}
