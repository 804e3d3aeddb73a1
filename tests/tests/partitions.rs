//! What is done to partitions as such, of which the server sends nothing.

use rowmill_tests::{Host, Shop};

const TABLES: &str = "
    CREATE TABLE events (id int PRIMARY KEY, note text DEFAULT 'none') PARTITION BY RANGE (id);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200);
";

/// Each is told once with the way to put it right, though nothing ran when it was done; partitions that are made as such, and a
/// TRUNCATE of the whole table, are nothing to be told.
#[test]
fn partitions_that_come_go_and_are_emptied_alone_are_told() {
    let shop = Shop::with(TABLES).unwrap();
    let routes = "routes:\n  - { tables: [public.events], sinks: [warehouse] }";
    let pipeline = shop.pipeline_of("public.events", routes);
    let checked = Host::verb(shop.folder(), &pipeline, &["check"], 0).unwrap().0;
    assert!(checked.contains("E0244"), "{checked}");

    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let ids = "SELECT string_agg(id::text, ',' ORDER BY id) FROM events";
    shop.source("INSERT INTO events VALUES (1), (101)").unwrap();
    shop.wait_target(&mut host, ids, "1,101").unwrap();
    let made = "TRUNCATE events; CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (200) TO (300);";
    shop.cluster.script("source", made).unwrap();
    shop.target("CREATE TABLE events_3 PARTITION OF events DEFAULT")
        .unwrap();
    shop.source("INSERT INTO events VALUES (1), (101), (201)").unwrap();
    shop.wait_target(&mut host, ids, "1,101,201").unwrap();
    let attached = "CREATE TABLE events_4 (id int PRIMARY KEY, note text); INSERT INTO events_4 VALUES (301);
        ALTER TABLE events ATTACH PARTITION events_4 FOR VALUES FROM (300) TO (400);";
    shop.cluster.script("source", attached).unwrap();
    shop.wait_said(&mut host, "a partition was attached", 1).unwrap();
    host.terminate().unwrap();

    let gone = "ALTER TABLE events DETACH PARTITION events_3; TRUNCATE events_2;";
    shop.cluster.script("source", gone).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_for(&mut host, "what was done meanwhile is told", || {
        Ok(shop.said("a partition was detached or dropped") == 1 && shop.said("emptied by a TRUNCATE of its own") == 1)
    })
    .unwrap();
    let log = host.log();
    host.terminate().unwrap();
    let of = |text: &str| {
        log.lines()
            .find(|line| line.contains(text))
            .unwrap_or_default()
            .to_owned()
    };
    for (text, partition) in [
        ("a partition was attached", "events_4"),
        ("a partition was detached or dropped", "events_3"),
        ("emptied by a TRUNCATE of its own", "events_2"),
    ] {
        let line = of(text);
        assert!(
            line.contains(partition) && line.contains("rowmill resync public.events"),
            "{line}"
        );
    }
    assert_eq!(shop.said("a partition was"), 3, "{log}");
}
