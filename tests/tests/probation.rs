//! Versions that break after they took over: no row is lost, the version before comes back and stays, and people are
//! told why.

use rowmill_tests::{Host, Load, Shop, free_port, live_trapping_tagger, plugin, tag, tagger, wide_trapping_tagger};

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
/// Bytes of a batch on which the bad version breaks: above those of all short rows here, below those of a wide one.
const TOO_LONG: u32 = 300_000;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";

fn pipeline(shop: &Shop, port: u16) -> String {
    let rest = "reload: { settle: 0ms, interval: 0ms, probation: 300s }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";
    Shop::with_console(&shop.pipeline_of("public.events", rest), port)
}

fn insert(shop: &Shop, from: u64, rows: u64) {
    let sql =
        format!("INSERT INTO events SELECT n, {from}, 0, 'raw' FROM generate_series({from}, {from} + {rows} - 1) n");
    shop.source(&sql).unwrap();
}

/// One row that the bad version breaks on, in a transaction of its own.
fn insert_wide(shop: &Shop, id: u64) {
    let sql = format!(
        "INSERT INTO events VALUES ({id}, {id}, 0, repeat('x', {}))",
        2 * TOO_LONG
    );
    shop.source(&sql).unwrap();
}

fn wait_tag(shop: &Shop, host: &mut Host, id: u64, number: u64) {
    let query = format!("SELECT tag FROM events WHERE id = {id}");
    shop.wait_target(host, &query, &tag(number)).unwrap();
}

#[test]
fn p23_a_version_that_breaks_on_a_later_row_is_rolled_back_and_stays_away() {
    let shop = Shop::with(TABLES).unwrap();
    let port = free_port().unwrap();
    let pipeline = pipeline(&shop, port);
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    // Behind the copy, so that the rehearsal sees short rows.
    shop.wait_streaming(&mut host, 1).unwrap();
    for id in 1..=5 {
        insert(&shop, id, 1);
        wait_tag(&shop, &mut host, id, 1);
    }

    // Small transactions go well, in the rehearsal too.
    shop.install("tagger", &wide_trapping_tagger(2, TAG, TOO_LONG).unwrap())
        .unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    insert(&shop, 10, 1);
    wait_tag(&shop, &mut host, 10, 2);

    // The first wide row doesn't: it has the version before, and so has what follows.
    insert_wide(&shop, 1_000);
    insert(&shop, 2_000, 2_000);
    let count = "SELECT count(*), count(*) FILTER (WHERE tag = 'v00001') FROM events WHERE id >= 1000";
    shop.wait_target(&mut host, count, "2001|2001").unwrap();
    shop.wait_said(&mut host, "the new version broke on its probation", 1)
        .unwrap();
    let log = host.log();
    assert!(log.contains("an order without tax id"), "{log}");
    assert!(log.contains("src/lib.rs:42:9"), "{log}");
    let console = format!("127.0.0.1:{port}");
    let list = || {
        Host::verb_of(shop.folder(), &["plugin", "list", "--console", &console], 0)
            .unwrap()
            .0
    };
    let listed = list();
    assert!(
        listed.contains("running since") && listed.contains("refused"),
        "{listed}"
    );
    assert!(listed.contains("an order without tax id"), "{listed}");

    // A restart finds the bad file and leaves it alone.
    host.kill().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    insert(&shop, 50_000, 1);
    wait_tag(&shop, &mut host, 50_000, 1);
    shop.wait_said(&mut host, "still holds the version that was set aside", 1)
        .unwrap();

    // Another file is another version.
    shop.install("tagger", &tagger(3, TAG, ABI).unwrap()).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 2)
        .unwrap();
    insert(&shop, 50_001, 1_000);
    wait_tag(&shop, &mut host, 50_001, 3);
    assert!(list().contains("on probation"), "{}", list());

    // And somebody may go back from it.
    let (told, _) = Host::verb_of(
        shop.folder(),
        &["plugin", "rollback", "tagger", "--console", &console],
        0,
    )
    .unwrap();
    assert!(told.contains("again"), "{told}");
    insert(&shop, 60_000, 1);
    wait_tag(&shop, &mut host, 60_000, 1);

    // Nothing was lost, and no transaction met two versions.
    let rows = "SELECT count(*) FROM events";
    let expected = shop.source(rows).unwrap();
    shop.wait_target(&mut host, rows, &expected).unwrap();
    let mixed = "SELECT count(*) FROM (SELECT txn FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "0");
    host.terminate().unwrap();
}

/// Versions that break as soon as real rows come, while writers write: what they break on has the version before, and so
/// has all that follows.
#[test]
fn a_version_that_breaks_under_load_is_rolled_back_and_no_row_is_lost() {
    let shop = Shop::with(TABLES).unwrap();
    let rest = "reload: { settle: 0ms, interval: 0ms, probation: 300s, probation_batches: 1000000 }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    let load = Load::start(&shop.cluster);
    let mut host = Host::run(shop.folder(), &shop.pipeline_of("public.events", rest)).unwrap();
    shop.wait_streaming(&mut host, 1).unwrap();
    let tags = "SELECT EXISTS (SELECT FROM events WHERE tag = 'v00001')";
    shop.wait_target(&mut host, tags, "t").unwrap();

    // On its first row; then, after it has delivered some, on a batch of several.
    for (times, too_many) in [(1, 1), (2, 8)] {
        let number = 1 + times as u64;
        shop.install("tagger", &live_trapping_tagger(number, TAG, too_many).unwrap())
            .unwrap();
        shop.wait_said(&mut host, "the new version broke on its probation", times)
            .unwrap();
        let log = host.log();
        let mut lines = log.lines().rev();
        let said = lines.find(|line| line.contains("the new version broke on its probation"));
        let said = said.unwrap();
        assert!(said.contains("an order without tax id"), "{said}");
        assert!(said.contains("src/lib.rs:42:9"), "{said}");
        // The version before delivers again what is written from now on.
        let newest = shop.source("SELECT max(txn) FROM events").unwrap();
        let again = format!("SELECT EXISTS (SELECT FROM events WHERE tag = 'v00001' AND txn > {newest})");
        shop.wait_target(&mut host, &again, "t").unwrap();
    }
    load.stop();
    let all = "SELECT count(*), md5(string_agg((id, txn, n)::text, '|' ORDER BY id)) FROM events";
    let expected = shop.source(all).unwrap();
    shop.wait_target(&mut host, all, &expected).unwrap();
    let mixed = "SELECT count(*) FROM (SELECT txn FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "0");
    // The first one never delivered a row, and nothing was set aside.
    assert_eq!(
        shop.target("SELECT count(*) FROM events WHERE tag = 'v00002'").unwrap(),
        "0"
    );
    assert!(!host.log().contains("dead letter"), "{}", host.log());
    host.terminate().unwrap();
}

/// A fault in the middle of a transaction that is larger than a batch: its first rows have left, so the rest of it stays
/// with the new version, row by row, and the version before counts from the next transaction on.
#[test]
fn a_fault_amid_a_large_transaction_goes_back_from_the_next_one() {
    const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, kind text, n int, tag text);";
    const ROWS: u64 = 60_000;
    let shop = Shop::with(TABLES).unwrap();
    // The version before writes the tag; `picky` leaves it alone and adds one to n.
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    // With several lanes, of which one alone has the new version.
    let several = pipeline(&shop, free_port().unwrap()).replace("lanes: 2", "lanes: 3");
    assert!(several.contains("lanes: 3"), "{several}");
    // However many batches the transaction comes in.
    let several = several.replace("probation: 300s", "probation: 300s, probation_batches: 1000000");
    assert!(several.contains("1000000"), "{several}");
    let mut host = Host::run(shop.folder(), &several).unwrap();
    shop.wait_streaming(&mut host, 1).unwrap();
    let write = |from: u64, rows: u64, poison: u64| {
        let sql = format!(
            "INSERT INTO events SELECT n, CASE n WHEN {poison} THEN 'panic' ELSE 'fine' END, 0, 'raw'
             FROM generate_series({from}, {from} + {rows} - 1) n"
        );
        shop.source(&sql).unwrap();
    };
    write(1, 1, 0);
    wait_tag(&shop, &mut host, 1, 1);
    shop.install("tagger", &std::fs::read(plugin("picky").unwrap()).unwrap())
        .unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    write(2, 1, 0);
    let of_picky = |id: u64| format!("SELECT n FROM events WHERE id = {id} AND tag = 'raw'");
    shop.wait_target(&mut host, &of_picky(2), "1").unwrap();

    write(1_000, ROWS, 1_000 + ROWS / 2);
    write(100_000, 1, 0);
    wait_tag(&shop, &mut host, 100_000, 1);
    let large =
        "SELECT count(*), count(*) FILTER (WHERE n = 1 AND tag = 'raw') FROM events WHERE id BETWEEN 1000 AND 99999";
    let expected = format!("{0}|{0}", ROWS - 1);
    shop.wait_target(&mut host, large, &expected).unwrap();
    let log = host.log();
    let broke = log
        .lines()
        .find(|line| line.contains("the new version broke on its probation"))
        .unwrap();
    assert!(
        broke.contains("no price list has an entry for this row") && broke.contains("lib.rs:9"),
        "{broke}"
    );
    // The one row is a letter, with the values that it came with.
    let (listed, _) = Host::verb_of(shop.folder(), &["dead-letter", "list", "--output", "json"], 0).unwrap();
    assert!(listed.contains("no price list"), "{listed}");
    host.terminate().unwrap();
}

/// A plugin of two routes that breaks in one of them goes back in the other too, whether it is on probation there or has
/// passed it.
#[test]
fn a_version_that_breaks_in_one_route_goes_back_in_the_others() {
    const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);
                          CREATE TABLE others (id bigint PRIMARY KEY, txn bigint, n int, tag text);";
    for passed in [false, true] {
        let shop = Shop::with(TABLES).unwrap();
        let batches = if passed { 20 } else { 1_000 };
        let rest = format!(
            "reload: {{ settle: 0ms, interval: 0ms, probation: 300s, probation_batches: {batches} }}
plugins:
  tagger: {{ module: tagger.wasm }}
routes:
  - {{ tables: [public.others], plugins: [tagger], sinks: [warehouse] }}
  - {{ tables: [public.events], plugins: [tagger], sinks: [warehouse] }}"
        );
        let pipeline = shop.pipeline_of("public.events, public.others", &rest);
        shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        shop.wait_streaming(&mut host, 1).unwrap();
        let other = |host: &mut Host, id: u64, number: u64| {
            shop.source(&format!("INSERT INTO others VALUES ({id}, {id}, 0, 'raw')"))
                .unwrap();
            let query = format!("SELECT tag FROM others WHERE id = {id}");
            shop.wait_target(host, &query, &tag(number)).unwrap();
        };
        insert(&shop, 1, 1);
        wait_tag(&shop, &mut host, 1, 1);
        other(&mut host, 1, 1);
        shop.install("tagger", &wide_trapping_tagger(2, TAG, TOO_LONG).unwrap())
            .unwrap();
        shop.wait_said(&mut host, "a new version of the route's plugins counts", 2)
            .unwrap();
        for id in 2..=22 {
            other(&mut host, id, 2);
        }
        if passed {
            shop.wait_said(&mut host, "has passed its probation", 1).unwrap();
        }
        // Only events has a row that it breaks on.
        insert_wide(&shop, 1_000);
        wait_tag(&shop, &mut host, 1_000, 1);
        shop.wait_said(&mut host, "the new version broke on its probation", 1)
            .unwrap();
        if passed {
            // Where nothing waits for it, the version before is started anew.
            shop.wait_said(&mut host, "a new version of the route's plugins counts", 3)
                .unwrap();
        }
        other(&mut host, 30, 1);
        insert(&shop, 2_000, 5);
        wait_tag(&shop, &mut host, 2_004, 1);
        host.terminate().unwrap();
    }
}
