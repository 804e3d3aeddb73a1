//! How a host ends, and who may run beside it.

use rowmill_tests::{Host, LONG, Shop, Writers, wait_until};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

#[test]
fn h3_h13_sigterm_drains_and_a_second_host_is_refused() {
    let shop = Shop::new().unwrap();
    shop.fill(10_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 3, 1).unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    for _ in 0..4 {
        let before = writers.transactions();
        wait_until("more writes", LONG, || {
            Ok((writers.transactions() > before + 100).then_some(()))
        })
        .unwrap();
        shop.wait_for(&mut host, "the slot is in use", || {
            Ok(shop.source("SELECT count(*) FROM pg_stat_replication")? == "1")
        })
        .unwrap();
        let (_, errors) = Host::verb(shop.folder(), &shop.pipeline(), &["run"], 2).unwrap();
        assert!(errors.contains("E0501"), "{errors}");
        host.must_run().unwrap();
        // 0 is part of what this asks for.
        host.terminate().unwrap();
        host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    }
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    let log = shop.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}

/// A host whose target takes nothing: the row is received, and can't be delivered.
fn stuck<T>(pipeline: impl Fn(&Shop) -> String, then: impl FnOnce(&mut Host) -> T) -> T {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    shop.source("INSERT INTO orders (id) VALUES (1)").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", "1").unwrap();
    let held = shop.cluster.hold("target", "LOCK TABLE orders").unwrap();
    shop.source("INSERT INTO orders (id) VALUES (2)").unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    shop.wait_target(&mut host, waiting, "1").unwrap();
    let told = then(&mut host);
    held.release().unwrap();
    // Nothing was lost by it.
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", "2").unwrap();
    host.terminate().unwrap();
    told
}

#[test]
fn h3_a_second_signal_ends_at_once_what_the_first_one_waits_for() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let ended = stuck(Shop::pipeline, |host| {
            host.signal(libc::SIGTERM).unwrap();
            let draining = |host: &Host| host.log().contains("another signal ends it");
            wait_until("it drains", LONG, || Ok(draining(host).then_some(()))).unwrap();
            assert!(host.ended().unwrap().is_none(), "{}", host.log());
            host.signal(signal).unwrap();
            // The drain alone would take 30 s.
            host.wait(Duration::from_secs(15)).unwrap()
        });
        assert_eq!((ended.code(), ended.signal()), (Some(code), None));
    }
}

/// What is asked of the server between the look at it and the stream waits for a lock there.
#[test]
fn h3_a_signal_ends_a_start_that_the_server_holds_up() {
    let shop = Shop::new().unwrap();
    let url = shop.cluster.url("target");
    let makes = format!("{{ url: {url}, create_tables: true }}");
    let pipeline = shop.pipeline().replace(&format!("{{ url: {url} }}"), &makes);
    // The slot is there: making one would wait for the lock's transaction itself.
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let _held = shop.cluster.hold("source", "LOCK TABLE pg_extension").unwrap();
    let mut host = Host::start(shop.folder(), &pipeline, &["run"]).unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'pg_extension'::regclass";
    shop.cluster.wait_sql("source", waiting, "1").unwrap();
    host.signal(libc::SIGTERM).unwrap();
    let ended = host.wait(Duration::from_secs(15)).unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn h3_a_drain_ends_with_its_time() {
    let soon = |shop: &Shop| shop.pipeline().replace("lanes: 2", "lanes: 2\ndrain_timeout: 1s");
    let ended = stuck(soon, |host| {
        host.signal(libc::SIGTERM).unwrap();
        host.wait(Duration::from_secs(20)).unwrap()
    });
    assert_eq!((ended.code(), ended.signal()), (Some(143), None));
}
