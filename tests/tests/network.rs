//! What networks do to the stream: cuts at any byte, slices, latency, silence.

use rowmill_tests::{Fault, Host, LONG, Lines, Proxy, Random, Shop, Writers, wait_until};
use std::time::Duration;

/// Into a target that stores its position and a file that has a manifest.
fn pipeline(shop: &Shop, proxy: &Proxy) -> String {
    let of = shop.pipeline_of(
        "public.orders, public.customers",
        "routes:
  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }",
    );
    shop.behind(proxy, &of)
}

/// How often the stream is cut: `ROWMILL_CUTS`, else few enough for every day.
fn cuts() -> u64 {
    std::env::var("ROWMILL_CUTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40)
}

/// S3, S4: inside of messages, between them, before a commit's last byte, in the answer to START_REPLICATION.
#[test]
fn s3_s4_s6_cut_at_random_bytes_under_load() {
    let shop = Shop::new().unwrap();
    shop.fill(2_000).unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 1).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for cut in 0..cuts() {
        // Mostly in the midst of rows; one in four among the first messages of the connection.
        let after = if cut % 4 == 0 {
            random.below(300)
        } else {
            random.below(20_000)
        };
        proxy.set(Fault::CutAfter(after + 1));
        shop.wait_for(&mut host, "the stream is cut", || Ok(proxy.cuts() > cut))
            .unwrap();
    }
    shop.wait_for(&mut host, "it is connected once more", || {
        Ok(proxy.connections() > proxy.cuts())
    })
    .unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    no_id_twice(&shop);
    println!("{} cuts, {} bytes", proxy.cuts(), proxy.passed());
}

/// The file has every change of the stream once: what came before a cut and was thrown away must not be in it.
fn no_id_twice(shop: &Shop) {
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    assert!(lines.rows.len() > 100, "{} lines only", lines.rows.len());
}

/// S7: byte by byte everything arrives.
#[test]
fn s7_slices_of_one_byte() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.wait_for(&mut host, "the stream", || Ok(proxy.connections() > 0))
        .unwrap();
    proxy.set(Fault::Slice(1));
    let writers = Writers::start(&shop.cluster, "source", 2, 1).unwrap();
    wait_until("writes", LONG, || Ok((writers.transactions() > 500).then_some(()))).unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    no_id_twice(&shop);
}

/// S7: with 100 ms between server and host the stream goes on.
#[test]
fn s7_latency() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.wait_for(&mut host, "the stream", || Ok(proxy.connections() > 0))
        .unwrap();
    proxy.set(Fault::Latency(Duration::from_millis(100)));
    let writers = Writers::start(&shop.cluster, "source", 2, 1).unwrap();
    wait_until("writes", LONG, || Ok((writers.transactions() > 500).then_some(()))).unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S5: a connection on which nothing comes any more, though nobody closed it, is given up, and another one is made.
#[test]
fn s5_half_open() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    proxy.set(Fault::Swallow);
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    // Nobody is told that the server gives its end up after wal_sender_timeout. The host finds out by itself, and asks
    // for another connection, on which nothing comes either.
    shop.wait_for(&mut host, "the host gives it up", || Ok(proxy.connections() > 1))
        .unwrap();
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S2: a server that can't be reached is tried again, until it can.
#[test]
fn s2_refused_and_back() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    proxy.set(Fault::Refuse);
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    shop.wait_said(&mut host, "again", 1).unwrap();
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S13: a server that isn't there at the start is waited for.
#[test]
fn s13_down_at_the_start() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    proxy.set(Fault::Refuse);
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.wait_said(&mut host, "again", 1).unwrap();
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S3: a cut inside of a message, not between two of them.
#[test]
fn s3_cut_inside_of_messages() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 1).unwrap();
    for cut in 0..10 {
        let before = proxy.passed();
        shop.wait_for(&mut host, "rows pass", || Ok(proxy.passed() > before + 20_000))
            .unwrap();
        proxy.set(Fault::CutInside);
        shop.wait_for(&mut host, "the stream is cut", || Ok(proxy.cuts() > cut))
            .unwrap();
    }
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    no_id_twice(&shop);
}

/// S8: a bit that was turned on the way costs a connection and nothing else.
#[test]
fn s8_a_bit_is_turned() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    for (message, sql) in [
        (b'I', "INSERT INTO customers VALUES (2, 'a', 'b', 'c')"),
        (b'B', "UPDATE customers SET note = 'd' WHERE id = 1"),
        (b'C', "DELETE FROM customers WHERE id = 2"),
    ] {
        let before = proxy.connections();
        proxy.set(Fault::Corrupt(message));
        shop.source(sql).unwrap();
        shop.wait_for(&mut host, "another connection", || Ok(proxy.connections() > before))
            .unwrap();
        shop.wait_equal(&mut host).unwrap();
    }
    host.terminate().unwrap();
    assert!(shop.said("can't be decoded") > 0, "{}", shop.log());
}

/// S8: the same at the same place again ends the process, with the position. Nothing is acknowledged, so nothing is lost.
#[test]
fn s8_a_bit_is_turned_each_time() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let pipeline = pipeline(&shop, &proxy);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    proxy.set(Fault::CorruptEach(b'I'));
    shop.source("INSERT INTO customers VALUES (2, 'secret', 'b', 'c')")
        .unwrap();
    assert_eq!(host.wait(LONG).unwrap().code(), Some(70));
    let log = host.log();
    assert!(log.contains("E0261") && log.contains("0/"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    proxy.set(Fault::Pass);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// H6: a host that was stopped for longer than the server waits takes the stream up again when it is continued.
#[test]
fn h6_stopped_and_continued() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before(shop.cluster.port()).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 1).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, &proxy)).unwrap();
    shop.wait_for(&mut host, "the stream", || {
        Ok(shop.source("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")? == "1")
    })
    .unwrap();
    host.signal(libc::SIGSTOP).unwrap();
    wait_until("the server gives it up", LONG, || {
        Ok((shop.source("SELECT count(*) FROM pg_stat_replication")? == "0").then_some(()))
    })
    .unwrap();
    host.signal(libc::SIGCONT).unwrap();
    shop.wait_for(&mut host, "it is connected once more", || Ok(proxy.connections() > 1))
        .unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    no_id_twice(&shop);
}

/// H15: a name is looked up at each try. One that isn't there is waited for, and one that moves is followed.
#[test]
fn h15_a_name_that_fails_and_moves() {
    let shop = Shop::new().unwrap();
    let before = Proxy::at("127.0.0.3:0", shop.cluster.port()).unwrap();
    let after = Proxy::at(&format!("127.0.0.4:{}", before.port()), shop.cluster.port()).unwrap();
    let pipeline = shop
        .behind(&before, &shop.pipeline())
        .replacen("@127.0.0.1:", "@db.rowmill.test:", 1);
    let hosts = shop.folder().join("hosts");
    let name = |lines: &str| std::fs::write(&hosts, format!("127.0.0.1 localhost\n{lines}\n")).unwrap();
    name("");
    let mut host = Host::run_with_names(shop.folder(), &pipeline, &hosts).unwrap();
    if let Ok(status) = host.wait(Duration::from_millis(500)) {
        return println!("skipped, only root makes mount namespaces: {status}, {}", host.log());
    }
    shop.wait_said(&mut host, "begun again", 1).unwrap();
    name("127.0.0.3 db.rowmill.test");
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert!(before.connections() > 0 && after.connections() == 0);

    name("127.0.0.4 db.rowmill.test");
    before.set(Fault::Refuse);
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert!(after.connections() > 0);

    // Gone again while it streams: what is connected isn't touched, the next connection waits.
    name("");
    after.set(Fault::Refuse);
    shop.source("INSERT INTO customers VALUES (3, 'a', 'b', 'c')").unwrap();
    let failed = shop.said("begun again");
    shop.wait_said(&mut host, "begun again", failed + 1).unwrap();
    after.set(Fault::Pass);
    name("127.0.0.4 db.rowmill.test");
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}
