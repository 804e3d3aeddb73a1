//! The copy on a real server: units of every kind of table, and their merging into a stream under load.

mod heap;
mod keyless;
mod locked;
mod patience;
mod world;

use rowmill::batch::{Lsn, Op, Origin, Part};
use rowmill::snapshot::{CountedUnit, KeyRange, TableCopy};
use rowmill_tests::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Values, World, by_place, connect, table};

const TYPES: &str = r#"
    CREATE TABLE ints (id int PRIMARY KEY, v text);
    INSERT INTO ints SELECT n * 7 % 10007, repeat('v', n % 50) FROM generate_series(1, 5000) n;
    CREATE TABLE texts (id text COLLATE "und-x-icu" PRIMARY KEY, v text);
    INSERT INTO texts SELECT chr(65 + n % 58) || '''\' || md5(n::text) || chr(200 + n % 99), E'a\tb\\c\nd' FROM generate_series(1, 1000) n;
    CREATE TABLE uuids (v int, id uuid PRIMARY KEY);
    INSERT INTO uuids SELECT n, gen_random_uuid() FROM generate_series(1, 1000) n;
    CREATE TABLE pairs (b text, a int, v text, PRIMARY KEY (a, b));
    INSERT INTO pairs SELECT md5(n::text), n % 13, NULL FROM generate_series(1, 1000) n;
    CREATE EXTENSION citext;
    CREATE TABLE mixed (a citext, b numeric, c timestamptz, PRIMARY KEY (a, b, c));
    INSERT INTO mixed SELECT chr(65 + n % 58), n % 7 / 3.0, now() + n * interval '1 h' FROM generate_series(1, 1000) n;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE moods (a mood, b bytea, v float8, PRIMARY KEY (a, b));
    INSERT INTO moods SELECT (ARRAY['sad','ok','happy'])[1 + n % 3]::mood, decode(md5(n::text), 'hex'), 'NaN' FROM generate_series(1, 500) n;
    CREATE TABLE empty (id int PRIMARY KEY);
    CREATE TABLE keyless (a int, b text);
    INSERT INTO keyless SELECT n % 10, repeat('k', 5000) FROM generate_series(1, 1000) n;
    CREATE TABLE keyless_empty (a int);
    CREATE SCHEMA "Odd '""Schema";
    CREATE TABLE "Odd '""Schema"."Quoted_"" . Schema" ("Select" int PRIMARY KEY, "a""b'" text, g int GENERATED ALWAYS AS (1) STORED);
    INSERT INTO "Odd '""Schema"."Quoted_"" . Schema" SELECT n, 'x' FROM generate_series(1, 100) n;
    CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (500);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (1000);
    INSERT INTO parted SELECT n, 'p' FROM generate_series(1, 999) n;
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent SELECT generate_series(1, 10);
    INSERT INTO child SELECT generate_series(1, 10);
"#;

#[test]
fn units_hold_every_row_once_whatever_the_key() {
    units_hold_every_row_once(Order::Key);
}

#[test]
fn units_hold_every_row_once_by_place() {
    units_hold_every_row_once(Order::Place);
}

fn units_hold_every_row_once(order: Order) {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", TYPES).unwrap();
    let odd = r#""Odd '""Schema"."Quoted_"" . Schema""#;
    let all: [(&str, &[&str], usize); 12] = [
        ("ints", &["id"], 5000),
        ("texts", &["id"], 1000),
        ("uuids", &["id"], 1000),
        ("pairs", &["a", "b"], 1000),
        ("mixed", &["a", "b", "c"], 1000),
        ("moods", &["a", "b"], 500),
        ("empty", &["id"], 0),
        ("keyless", &[], 1000),
        ("keyless_empty", &[], 0),
        (odd, &["Select"], 100),
        ("parted", &["id"], 999),
        ("parent", &["id"], 10),
    ];
    let tables = all.iter().map(|(name, key, _)| {
        let table = table(&cluster, name, key);
        match order {
            Order::Place if !table.partitioned => by_place(&cluster, table),
            _ => table,
        }
    });
    let tables: Vec<_> = tables.collect();
    let mut world = World::start(cluster, tables.clone(), 3, 97);
    let mut found: Vec<(u32, BTreeSet<Values>, usize)> = tables
        .iter()
        .map(|table| (table.relation.oid, BTreeSet::new(), 0))
        .collect();
    let mut units = BTreeSet::new();
    while !world.merger.is_done() {
        drop(world.merger.counted());
        for merged in world.merger.at_boundary(Lsn(u64::MAX)).unwrap() {
            let record = merged.record.unwrap();
            assert_eq!(record.unit, merged.unit);
            assert!(units.insert(merged.unit), "{:?} came twice", merged.unit);
            let last = merged.batches.len().saturating_sub(1);
            for (at, batch) in merged.batches.iter().enumerate() {
                let [transaction] = batch.transactions.as_slice() else {
                    panic!("one transaction")
                };
                assert_eq!(transaction.origin, Origin::Copy(merged.unit));
                assert_eq!(transaction.is_complete(), at == last);
                assert_eq!(transaction.part == Part::Whole, last == 0);
                let (_, rows, count) = found
                    .iter_mut()
                    .find(|(oid, ..)| *oid == merged.unit.table_oid)
                    .unwrap();
                for row in &batch.rows {
                    assert_eq!(row.op, Op::Read);
                    let values = batch.values(row.new.unwrap(), batch.relation(row));
                    rows.insert(
                        values
                            .map(|v| v.text().map(|t| String::from_utf8(t.to_vec()).unwrap()))
                            .collect(),
                    );
                    *count += 1;
                }
            }
        }
    }
    for ((name, key, expected), (_, rows, count)) in all.iter().zip(&found) {
        assert_eq!(count, expected, "{name}");
        if !key.is_empty() && *name != odd {
            let only = if *name == "parent" { "ONLY " } else { "" };
            let source: BTreeSet<_> = world.source(&format!("{only}public.{name}")).into_iter().collect();
            assert!(*rows == source, "{name}: other rows");
        }
    }
    let of = |name: &str| all.iter().position(|(other, ..)| *other == name).unwrap();
    let progress = world.merger.progress();
    match order {
        Order::Key => assert_eq!(progress[of("ints")].units, 5000_u64.div_ceil(97)),
        Order::Place => assert!(progress[of("ints")].units > 5, "{:?}", progress[of("ints")]),
    }
    assert!(progress[of("keyless")].units > 5, "in pieces");
    assert!(progress.iter().all(|table| table.done));
}

const SHOP: &str = r#"
    CREATE TABLE items (id int PRIMARY KEY, n int, big text);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
    INSERT INTO items SELECT n, 0, CASE WHEN n % 4 = 0 THEN repeat(md5(n::text), 100) END FROM generate_series(1, 4000) n;
    CREATE TABLE words (w text, k uuid, n int, PRIMARY KEY (w, k));
    ALTER TABLE words REPLICA IDENTITY FULL;
    INSERT INTO words SELECT md5(n::text), gen_random_uuid(), 0 FROM generate_series(1, 3000) n;
    CREATE TABLE log (a int, b text);
    ALTER TABLE log REPLICA IDENTITY FULL;
    INSERT INTO log SELECT n, repeat('l', 900) FROM generate_series(1, 4000) n;
    CREATE TABLE emptied (id int PRIMARY KEY, n int);
    INSERT INTO emptied SELECT n, 0 FROM generate_series(1, 4000) n;
    CREATE PUBLICATION p FOR TABLE items, words, log, emptied;
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');
"#;

/// Numbers that look random, the same in every run.
fn next(state: &mut u64) -> i64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as i64
}

fn transaction(state: &mut u64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..1 + next(state) % 4 {
        let (id, to, n) = (1 + next(state) % 5000, 1 + next(state) % 5000, next(state));
        sql += &match next(state) % 40 {
            0..=9 => format!("UPDATE public.items SET n = {n} WHERE id = {id};"),
            10..=13 => {
                format!("INSERT INTO public.items VALUES ({id}, {n}, 'new') ON CONFLICT (id) DO UPDATE SET big = 'x';")
            }
            14..=16 => format!("DELETE FROM public.items WHERE id = {id};"),
            17..=20 => format!(
                "UPDATE public.items SET id = {to}, n = {n} WHERE id = {id} \
                 AND NOT EXISTS (SELECT FROM public.items WHERE id = {to});"
            ),
            21..=25 => format!("UPDATE public.words SET n = {n} WHERE w = md5('{id}');"),
            26..=27 => format!("UPDATE public.words SET w = md5('{to}') WHERE w = md5('{id}');"),
            28 => format!("DELETE FROM public.words WHERE w = md5('{id}');"),
            29..=30 => format!("INSERT INTO public.words VALUES (md5('{id}'), gen_random_uuid(), {n});"),
            31..=33 => format!("INSERT INTO public.log VALUES ({id}, 'later');"),
            34..=35 => format!("UPDATE public.log SET b = '{n}' WHERE a = {id};"),
            36 => format!("DELETE FROM public.log WHERE a = {id};"),
            _ => format!("UPDATE public.emptied SET n = {n} WHERE id = {id};"),
        };
    }
    let end = if next(state) % 8 == 0 { "ROLLBACK" } else { "COMMIT" };
    sql + end
}

/// Four writers, each with so many transactions; conflicts and deadlocks only cost the one transaction.
fn start_writers(world: &World, transactions: usize) -> Arc<AtomicUsize> {
    const WRITERS: usize = 4;
    let running = Arc::new(AtomicUsize::new(WRITERS));
    for writer in 0..WRITERS {
        let (url, running) = (world.cluster.url("postgres"), Arc::clone(&running));
        world.runtime.spawn(async move {
            let client = connect(url).await.unwrap();
            let mut state = writer as u64;
            for at in 0..transactions {
                if client.batch_execute(&transaction(&mut state)).await.is_err() {
                    client.batch_execute("ROLLBACK").await.unwrap();
                }
                if writer == 0 && at == transactions / 6 {
                    client.batch_execute("TRUNCATE public.emptied").await.unwrap();
                    let refill = "INSERT INTO public.emptied SELECT n, 1 FROM pg_catalog.generate_series(1, 3000) n";
                    client.batch_execute(refill).await.unwrap();
                }
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
    }
    running
}

/// In the order of their keys, or of their heaps.
fn shop_tables(cluster: &Cluster, order: Order) -> Vec<TableCopy> {
    let ordered = |name, key| match order {
        Order::Key => table(cluster, name, key),
        Order::Place => by_place(cluster, table(cluster, name, key)),
    };
    vec![
        ordered("items", &["id"]),
        ordered("words", &["w", "k"]),
        ordered("log", &[]),
        ordered("emptied", &["id"]),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Key,
    Place,
}

fn copies_under_load(stream_limit: i32, order: Order) {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", SHOP).unwrap();
    let tables = shop_tables(&cluster, order);
    let mut world = World::start(cluster, tables.clone(), 2, 100);
    let running = start_writers(&world, 600);
    loop {
        let was_running = running.load(Ordering::SeqCst) > 0;
        let streamed = world.stream(stream_limit);
        world.boundary();
        if !was_running && !streamed && world.merger.is_done() {
            break;
        }
    }
    for (name, table) in ["public.items", "public.words", "public.log", "public.emptied"]
        .iter()
        .zip(&tables)
    {
        world.assert_same(name, table);
    }
    println!(
        "rows that went out as updates: {}, {:?}",
        world.updates_from_copy,
        world.merger.progress()
    );
}

/// Units of a first run, some of which count, in the order of their keys: the second run reads the others' ranges.
#[test]
fn a_copy_goes_on_beside_the_units_that_count_whatever_the_key() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", TYPES).unwrap();
    let odd = r#""Odd '""Schema"."Quoted_"" . Schema""#;
    let all: [(&str, &[&str]); 8] = [
        ("ints", &["id"]),
        ("texts", &["id"]),
        ("uuids", &["id"]),
        ("pairs", &["a", "b"]),
        ("mixed", &["a", "b", "c"]),
        ("moods", &["a", "b"]),
        (odd, &["Select"]),
        ("parted", &["id"]),
    ];
    let tables: Vec<_> = all.iter().map(|(name, key)| table(&cluster, name, key)).collect();
    let mut counts: Vec<BTreeMap<(u32, u32), (KeyRange, u64)>> = vec![BTreeMap::new(); tables.len()];
    let mut world = World::start(cluster, tables.clone(), 3, 97);
    while !world.merger.is_done() {
        world.merger.at_boundary(Lsn(u64::MAX)).unwrap();
        for CountedUnit { record, .. } in world.merger.counted() {
            let at = tables
                .iter()
                .position(|t| t.relation.oid == record.unit.table_oid)
                .unwrap();
            counts[at].insert(record.place, (record.range, record.rows));
        }
    }
    let mut state = 7;
    let mut left = 0;
    let goes_on = tables.iter().zip(&counts).map(|(table, units)| {
        let mut copied: Vec<KeyRange> = Vec::new();
        for (range, rows) in units.values() {
            match copied.last_mut() {
                _ if next(&mut state) % 3 == 0 => left += rows,
                Some(last) if last.up_to == range.after => last.up_to.clone_from(&range.up_to),
                _ => copied.push(range.clone()),
            }
        }
        TableCopy {
            copied,
            ..table.clone()
        }
    });
    let goes_on: Vec<TableCopy> = goes_on.collect();
    assert!(left > 1000, "{left}");
    let mut second = World::start(world.cluster, goes_on, 3, 50);
    let mut ranges: Vec<(u32, (u32, u32))> = Vec::new();
    let mut read = 0;
    while !second.merger.is_done() {
        second.merger.at_boundary(Lsn(u64::MAX)).unwrap();
        for CountedUnit { record, .. } in second.merger.counted() {
            ranges.push((record.unit.table_oid, record.place));
            read += record.rows;
        }
    }
    assert_eq!(read, left, "what counts isn't read again, and nothing is left out");
    assert!(ranges.iter().all(|(_, (gap, _))| gap % 2 == 0), "in the gaps");
    assert_eq!(
        ranges.len(),
        ranges.iter().collect::<BTreeSet<_>>().len(),
        "each place once"
    );
}

/// A host that is killed again and again in the middle of copies, under load: what counts isn't read again.
fn copies_cut_off_under_load(order: Order) {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", SHOP).unwrap();
    let mut tables = shop_tables(&cluster, order);
    let mut world = World::start(cluster, tables.clone(), 2, 100);
    let running = start_writers(&world, 600);
    let mut resumed = 0;
    for boundaries in [2, 4, 8, 16, 32] {
        for _ in 0..boundaries {
            world.stream(200);
            world.boundary();
        }
        world.count(&mut tables);
        resumed += tables.iter().filter(|table| !table.copied.is_empty()).count();
        world.start_again(&tables);
    }
    assert!(resumed > 0);
    loop {
        let was_running = running.load(Ordering::SeqCst) > 0;
        let streamed = world.stream(i32::MAX);
        world.boundary();
        if !was_running && !streamed && world.merger.is_done() {
            break;
        }
    }
    for (name, table) in ["public.items", "public.words", "public.log", "public.emptied"]
        .iter()
        .zip(&tables)
    {
        world.assert_same(name, table);
    }
}

#[test]
fn a_copy_that_is_cut_off_goes_on_under_load() {
    copies_cut_off_under_load(Order::Key);
}

#[test]
fn a_copy_by_place_that_is_cut_off_goes_on_under_load() {
    copies_cut_off_under_load(Order::Place);
}

#[test]
fn a_copy_under_load_ends_as_the_source() {
    copies_under_load(i32::MAX, Order::Key);
}

#[test]
fn a_copy_by_place_under_load_ends_as_the_source() {
    copies_under_load(i32::MAX, Order::Place);
}

#[test]
fn a_copy_beside_a_stream_that_lags_ends_as_the_source() {
    copies_under_load(40, Order::Key);
}

#[test]
fn a_copy_by_place_beside_a_stream_that_lags_ends_as_the_source() {
    copies_under_load(40, Order::Place);
}

/// A commit that a synchronous standby holds back is streamed long before anybody sees it.
#[test]
fn a_commit_that_is_streamed_before_it_is_visible_is_waited_for() {
    let cluster = Cluster::start().unwrap();
    let setup = "CREATE TABLE first (id int PRIMARY KEY); CREATE TABLE second (id int PRIMARY KEY, v text); \
         INSERT INTO second VALUES (1, 'old'), (2, 'gone'); CREATE PUBLICATION p FOR TABLE first, second; \
         SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    for statement in setup.split(';') {
        cluster.sql("postgres", statement).unwrap();
    }
    let second = table(&cluster, "second", &["id"]);
    let tables = vec![table(&cluster, "first", &["id"]), second.clone()];
    let url = cluster.url("postgres");
    let blocker = tokio::runtime::Runtime::new().unwrap();
    let held = cluster.hold("postgres", "LOCK TABLE first").unwrap();
    let mut world = World::start(cluster, tables, 1, 10);
    let until = |world: &World, condition: &str| {
        let holds = format!("SELECT count(*) > 0 FROM {condition}");
        world.cluster.wait_sql("postgres", &holds, "t").unwrap();
    };
    until(&world, "pg_locks WHERE NOT granted AND relation = 'first'::regclass");
    for statement in [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        world.cluster.sql("postgres", statement).unwrap();
    }
    until(
        &world,
        "pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'",
    );
    let writer = blocker.block_on(connect(url.clone())).unwrap();
    let change =
        "BEGIN; UPDATE public.second SET v = 'new' WHERE id = 1; DELETE FROM public.second WHERE id = 2; COMMIT";
    let change = blocker.spawn(async move { writer.batch_execute(change).await });
    until(&world, "pg_stat_activity WHERE wait_event = 'SyncRep'");
    while !world.stream(i32::MAX) {}
    held.release().unwrap();
    let release = blocker.spawn(async move {
        let client = connect(url).await.unwrap();
        // The unit has been read by then, and nobody saw the change.
        let is_read = "SELECT pg_catalog.count(*) > 0 FROM pg_catalog.pg_stat_activity \
             WHERE state = 'idle' AND query LIKE 'BEGIN ISOLATION%second%'";
        while !client.query_one(is_read, &[]).await.unwrap().get::<_, bool>(0) {}
        client
            .batch_execute("ALTER SYSTEM RESET synchronous_standby_names")
            .await
            .unwrap();
        client
            .batch_execute("SELECT pg_catalog.pg_reload_conf()")
            .await
            .unwrap();
    });
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    blocker.block_on(release).unwrap();
    blocker.block_on(change).unwrap().unwrap();
    assert_eq!(
        world.target(second.relation.oid),
        [[Some("1".to_owned()), Some("new".to_owned())]]
    );
    assert_eq!(world.updates_from_copy, 1, "one key was read again, the other is gone");
}
