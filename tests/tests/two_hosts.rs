//! Two hosts of one pipeline, by mistake: one at a time writes to the target.

use rowmill_tests::{Host, LONG, Shop, wait_until};

#[test]
fn a_second_host_is_refused_while_the_first_lives() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    let mut first = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    let arrived = |what| {
        let alike = || Ok((shop.digest("source")? == shop.digest("target")?).then_some(()));
        wait_until(what, LONG, alike).unwrap();
    };
    arrived("the copy");

    // From another folder, and by a slot of its own: at the source nothing is in its way.
    let elsewhere = tempfile::tempdir().unwrap();
    let second = shop
        .pipeline()
        .replace("    tables: [", "    slot: second\n    tables: [");
    let (_, refused) = Host::verb(elsewhere.path(), &second, &["run"], 6).unwrap();
    assert!(
        refused.contains("E0405") && refused.contains("another host"),
        "{refused}"
    );

    shop.source("INSERT INTO orders (id, status) VALUES (1, 'later'), (2, 'later')")
        .unwrap();
    shop.source("DELETE FROM orders WHERE id > 10000050").unwrap();
    arrived("what came later");
    first.must_run().unwrap();

    first.kill().unwrap();
    shop.source("UPDATE orders SET status = 'last' WHERE id = 1").unwrap();
    Host::verb(elsewhere.path(), &second, &["run", "--once"], 0).unwrap();
    arrived("what came last");
}
