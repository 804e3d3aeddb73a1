//! S40: a sign of life in the WAL of a source that rests.

use rowmill_tests::{Host, Shop};

/// The messages are written as often as asked for, the slot moves with them, and nobody gets them. Without the key there
/// are none.
#[test]
fn s40_a_heartbeat_moves_the_slot_of_a_source_that_rests() {
    let shop = Shop::new().unwrap();
    shop.source("SELECT pg_create_logical_replication_slot('look', 'test_decoding')")
        .unwrap();
    let beats = || {
        let sql = "SELECT count(*) FROM pg_logical_slot_peek_changes('look', NULL, NULL)
            WHERE data LIKE '%transactional: 0 prefix: rowmill.heartbeat%'";
        shop.source(sql).unwrap().parse::<u32>().unwrap()
    };
    let confirmed = || {
        let sql = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'rowmill_shop'";
        shop.source(sql).unwrap()
    };
    let routes = "routes:\n  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }";
    let quiet = shop.pipeline_of("public.orders, public.customers", routes);
    Host::verb(shop.folder(), &quiet, &["run", "--once"], 0).unwrap();
    assert_eq!(beats(), 0);

    let beating = quiet.replace("    snapshot:", "    heartbeat: 1s\n    snapshot:");
    let mut host = Host::run(shop.folder(), &beating).unwrap();
    shop.wait_for(&mut host, "it beats", || Ok(beats() >= 2)).unwrap();
    let before = confirmed();
    shop.wait_for(&mut host, "the slot moves", || Ok(confirmed() != before))
        .unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let log = host.log();
    assert!(!log.contains("refuses the heartbeat"), "{log}");
    host.terminate().unwrap();
    let feed = std::fs::read_to_string(shop.folder().join("out/feed.jsonl")).unwrap_or_default();
    assert!(!feed.contains("heartbeat"), "{feed}");
}
