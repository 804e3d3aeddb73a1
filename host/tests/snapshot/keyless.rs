//! A table without a key, whose parts are read by several connections.

use crate::world::{World, by_place, connect, table};
use rowmill::snapshot::TableCopy;
use rowmill_tests::{Cluster, LONG, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LOG: &str = "
    CREATE TABLE log (a int, b text);
    ALTER TABLE log REPLICA IDENTITY FULL;
    INSERT INTO log SELECT n % 700, repeat('l', 900) FROM generate_series(1, 4000) n;
    CREATE PUBLICATION p FOR TABLE log;
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');
";
/// A connection that reads a part under the snapshot of another one.
const OTHER: &str = "application_name = 'rowmill' AND query LIKE 'COPY%COMMIT'";
/// The one whose snapshot that is.
const KEEPER: &str = "application_name = 'rowmill' AND query LIKE 'COPY%STDOUT'";

fn source() -> (Cluster, TableCopy) {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", LOG).unwrap();
    let log = by_place(&cluster, table(&cluster, "log", &[]));
    (cluster, log)
}

fn wait_for(world: &World, what: &str, count: usize, of: &str) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {of}");
    wait_until(what, LONG, || {
        let found: usize = world.cluster.sql("postgres", &sql)?.parse()?;
        Ok((found >= count).then_some(()))
    })
    .unwrap();
}

/// Nobody cuts the table before two connections are there, so that each gets a part.
fn start(cluster: Cluster, log: &TableCopy) -> World {
    let held = cluster.hold("postgres", "LOCK TABLE log").unwrap();
    let world = World::start(cluster, vec![log.clone()], 2, 100);
    let are_there =
        "application_name = 'rowmill' AND (wait_event_type = 'Lock' OR query LIKE 'SET statement_timeout%')";
    wait_for(&world, "two connections are there", 2, are_there);
    held.release().unwrap();
    world
}

/// Changes that move rows from part to part, until told to stop.
fn write(world: &World) -> Arc<AtomicBool> {
    let (url, stop) = (world.cluster.url("postgres"), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&stop);
    world.runtime.spawn(async move {
        let client = connect(url).await.unwrap();
        for n in 0_u32.. {
            if told.load(Ordering::Relaxed) {
                break;
            }
            let a = n * 37 % 700;
            let sql = format!(
                "UPDATE public.log SET b = '{n}' WHERE a = {a}; DELETE FROM public.log WHERE a = {a} + 300; \
                 INSERT INTO public.log VALUES ({a} + 300, 'new')"
            );
            client.batch_execute(&sql).await.unwrap();
        }
    });
    stop
}

#[test]
fn parts_are_read_by_several_and_show_one_snapshot() {
    let (cluster, log) = source();
    let mut world = start(cluster, &log);
    let stop = write(&world);
    wait_for(&world, "a part is read beside the first connection", 1, OTHER);
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    stop.store(true, Ordering::Relaxed);
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%UPDATE public.log%' AND state <> 'idle' \
         AND pid <> pg_backend_pid()";
    loop {
        let is_quiet = world.cluster.sql("postgres", idle).unwrap() == "0";
        if !world.stream(i32::MAX) && is_quiet {
            break;
        }
    }
    world.assert_same("public.log", &log);
}

/// Without its snapshot nothing of what is left could be read.
#[test]
fn a_copy_whose_snapshot_is_lost_breaks_off() {
    let (cluster, log) = source();
    // Each row takes its time.
    let condition = Some("pg_catalog.pg_sleep(0.002)::text IS NOT NULL".to_owned());
    let mut world = start(cluster, &TableCopy { condition, ..log });
    wait_for(&world, "a part is read beside the first connection", 1, OTHER);
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {KEEPER}");
    wait_until("the first connection is ended", LONG, || {
        Ok((world.cluster.sql("postgres", &end)? == "t").then_some(()))
    })
    .unwrap();
    let problem = loop {
        world.stream(i32::MAX);
        match world.merger.at_boundary(world.position) {
            Ok(_) => assert!(!world.merger.is_done(), "its snapshot is gone"),
            Err(problem) => break problem,
        }
    };
    assert_eq!(problem.code, "E0602");
}
