//! How a host ends, and who may run beside it.

use rowmill_tests::{Host, LONG, Shop, Writers, wait_until};

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
    let log = std::fs::read_to_string(shop.folder().join("log")).unwrap();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}
