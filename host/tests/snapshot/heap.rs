//! Rows that move within the heap while its blocks are copied.

use crate::world::{Values, World, by_place, table};
use rowmill::snapshot::KeyRange;
use rowmill_tests::Cluster;

/// An update moves a row from a block that is yet to be read into one that has been: no unit has it. Then VACUUM FULL
/// moves all rows, and no change tells.
#[test]
fn rows_that_move_within_the_heap_are_not_lost() {
    let cluster = Cluster::start().unwrap();
    // A row to a block, with a value that updates leave out. The first block is free for what moves.
    let setup = "CREATE TABLE moving (id int PRIMARY KEY, n int, filler char(4500), big text) WITH (fillfactor = 100); \
         ALTER TABLE moving ALTER big SET STORAGE EXTERNAL; ALTER TABLE moving ALTER filler SET STORAGE PLAIN; \
         INSERT INTO moving SELECT n, 0, 'f', repeat(md5(n::text), 100) FROM generate_series(1, 300) n; \
         DELETE FROM moving WHERE id <= 20; VACUUM (TRUNCATE off) moving; CREATE PUBLICATION p FOR TABLE moving; \
         SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    for statement in setup.split(';') {
        cluster.sql("postgres", statement).unwrap();
    }
    let moving = by_place(&cluster, table(&cluster, "moving", &["id"]));
    let mut world = World::start(cluster, vec![moving.clone()], 1, 10);
    let block_of = |world: &World| {
        let sql = "SELECT (ctid::text::point)[0]::int FROM moving WHERE id = 290";
        world.cluster.sql("postgres", sql).unwrap().parse::<u32>().unwrap()
    };
    while world.merger.progress()[0].rows < 30 {
        world.stream(i32::MAX);
        world.boundary();
    }
    assert!(!world.merger.is_done() && block_of(&world) > 250);
    world
        .cluster
        .sql("postgres", "UPDATE moving SET n = 1 WHERE id = 290")
        .unwrap();
    assert!(
        block_of(&world) < 20,
        "it lies where the copy has been: {}",
        block_of(&world)
    );
    while world.merger.progress()[0].rows < 100 {
        world.stream(i32::MAX);
        world.boundary();
    }
    world.cluster.sql("postgres", "VACUUM FULL moving").unwrap();
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    world.assert_same("public.moving", &moving);
    assert_eq!(world.merger.progress()[0].restarts, 1);
}

/// Up to which block the connection of the copy has read, if it has nothing to do now.
fn read_up_to(world: &World) -> Option<i32> {
    let last = "SELECT substring(query FROM '<=\\) ''\\((\\d+),0\\)') FROM pg_stat_activity \
         WHERE application_name = 'rowmill' AND state = 'idle' AND query LIKE 'BEGIN ISOLATION%COPY%'";
    world.cluster.sql("postgres", last).unwrap().parse().ok()
}

/// Rows of a unit move to blocks that count already, so they are read again, in a later version. The host is killed
/// before they arrive: the range that is read once more has them no longer, and the stream's change is in what was lost.
#[test]
fn rows_that_were_read_again_elsewhere_and_lost_are_read_once_more() {
    let cluster = Cluster::start().unwrap();
    // A row to a block. The first half of them is free for what moves.
    let setup = "CREATE TABLE moving (id int PRIMARY KEY, n int, filler char(4500)) WITH (fillfactor = 100); \
         ALTER TABLE moving ALTER filler SET STORAGE PLAIN; \
         INSERT INTO moving SELECT n, 0, 'f' FROM generate_series(1, 300) n; \
         DELETE FROM moving WHERE id <= 150; VACUUM (TRUNCATE off) moving; CREATE PUBLICATION p FOR TABLE moving; \
         SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    for statement in setup.split(';') {
        cluster.sql("postgres", statement).unwrap();
    }
    let mut tables = vec![by_place(&cluster, table(&cluster, "moving", &["id"]))];
    let mut world = World::start(cluster, tables.clone(), 1, 10);
    let end = |range: &KeyRange| {
        let bound = range.up_to.as_ref()?[0].trim_matches(['(', ')']).split_once(',')?;
        bound.0.parse::<i32>().ok()
    };
    while !world.counted().any(|range| end(range) >= Some(160)) {
        world.stream(i32::MAX);
        world.boundary();
    }
    world.count(&mut tables);
    let (oid, ids) = (tables[0].relation.oid, |values: &Values| {
        values[0].as_ref().unwrap().parse::<i32>().unwrap()
    });
    let first = world.held[&oid].rows.keys().map(ids).max().unwrap() + 1;
    while read_up_to(&world).is_none_or(|block| block < first + 9) {}
    for n in [1, 2] {
        if n == 2 {
            world.stream(i32::MAX);
        }
        let sql = format!(
            "WITH moved AS (UPDATE moving SET n = {n} WHERE id BETWEEN {first} AND {first} + 9 RETURNING ctid) \
             SELECT max((ctid::text::point)[0])::int FROM moved"
        );
        let block: i32 = world.cluster.sql("postgres", &sql).unwrap().parse().unwrap();
        assert!(block < 150, "they lie where the copy has been: {block}");
    }
    while tables[0].ahead.is_empty() {
        world.merger.at_boundary(world.position).unwrap();
        tables[0].ahead = world.merger.ahead();
    }
    world.start_again(&tables);
    while !world.merger.is_done() {
        world.stream(i32::MAX);
        world.boundary();
    }
    world.assert_same("public.moving", &tables[0]);
}
