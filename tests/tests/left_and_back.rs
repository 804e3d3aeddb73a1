//! S26: tables that leave the publication and come back, though the file names them all the time. What was changed in between
//! was never streamed, and arrives all the same; where nothing is copied it is told. So is what a publication leaves out for a while
//! of tables that stay.

use rowmill_tests::{Host, LONG, Shop, free_port};
use std::os::unix::process::ExitStatusExt;

/// What no session sees: rows that come, change and go.
const MISSED: &str = "INSERT INTO customers VALUES (2, 'missed', 'b', 'c');
    UPDATE customers SET note = 'missed' WHERE id = 1; DELETE FROM customers WHERE id = 3;";
const GONE: &str = "the table isn't published any more";
const OUT: &str = "the table was out of the publication";

fn take_out(shop: &Shop, publication: &str) {
    shop.source(&format!("ALTER PUBLICATION {publication} DROP TABLE customers"))
        .unwrap();
}

/// Each statement is a transaction of its own, and all of them are done before anybody looks again.
fn out_and_in(shop: &Shop, publication: &str, table: &str, meanwhile: &str) {
    let out = format!("ALTER PUBLICATION {publication} DROP TABLE {table};");
    let back = format!("ALTER PUBLICATION {publication} ADD TABLE {table};");
    shop.cluster
        .script("source", &format!("{out} {meanwhile} {back}"))
        .unwrap();
}

/// With rows that the target has.
fn begun(shop: &Shop, pipeline: &str) -> Host {
    let mut host = Host::run(shop.folder(), pipeline).unwrap();
    shop.wait_streaming(&mut host, 1).unwrap();
    shop.source("INSERT INTO customers SELECT n, 'a', 'b', 'c' FROM generate_series(1, 5, 2) n")
        .unwrap();
    shop.wait_equal(&mut host).unwrap();
    host
}

/// How often a table has left, whether a look found it gone or back already.
fn told(shop: &Shop) -> usize {
    shop.said(GONE) + shop.said(OUT)
}

fn adopting(shop: &Shop) -> String {
    shop.source("CREATE PUBLICATION adopted FOR TABLE orders, customers")
        .unwrap();
    let tables = "tables: [public.orders, public.customers]\n";
    let pipeline = shop.pipeline().replace(tables, "publication: adopted\n");
    assert!(pipeline.contains("adopted"));
    pipeline
}

#[test]
fn s26_out_of_an_adopted_publication_and_back_within_a_session() {
    let shop = Shop::new().unwrap();
    let mut host = begun(&shop, &adopting(&shop));
    // Between two looks.
    out_and_in(&shop, "adopted", "customers", MISSED);
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(told(&shop), 1, "{}", host.log());
    // And where a look finds it gone.
    let gone = shop.said(GONE);
    take_out(&shop, "adopted");
    shop.wait_said(&mut host, GONE, gone + 1).unwrap();
    shop.source("UPDATE customers SET phone = 'unseen'; DELETE FROM customers WHERE id = 1")
        .unwrap();
    shop.source("ALTER PUBLICATION adopted ADD TABLE customers").unwrap();
    shop.wait_equal(&mut host).unwrap();
    shop.source("INSERT INTO customers VALUES (9, 'streamed', 'b', 'c')")
        .unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(told(&shop), 2, "{}", host.log());
    assert_eq!(shop.said("\"streaming\""), 1, "one session: {}", host.log());
    host.terminate().unwrap();
}

/// What was copied before it left counts for nothing.
#[test]
fn s26_out_of_the_publication_and_back_while_it_is_copied() {
    let shop = Shop::new().unwrap();
    shop.fill(6000).unwrap();
    let slowly = "unit_rows: 200, rows_per_second: 500";
    let pipeline = adopting(&shop).replace("unit_rows: 2000", slowly);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let some = "SELECT count(*) BETWEEN 500 AND 2500 FROM orders";
    shop.wait_target(&mut host, some, "t").unwrap();
    let meanwhile = "UPDATE orders SET status = 'missed'; DELETE FROM orders WHERE id % 3 = 0;";
    out_and_in(&shop, "adopted", "orders", meanwhile);
    let is_part = "SELECT count(*) < 6000 FROM orders";
    assert_eq!(shop.target(is_part).unwrap(), "t", "the copy was through before");
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(told(&shop), 1, "{}", host.log());
    host.terminate().unwrap();
}

#[test]
fn s26_out_of_our_publication_while_nobody_ran() {
    let shop = Shop::new().unwrap();
    let pipeline = shop.pipeline();
    begun(&shop, &pipeline).terminate().unwrap();
    take_out(&shop, "rowmill_shop");
    shop.cluster.script("source", MISSED).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();

    // Put back by hand.
    out_and_in(
        &shop,
        "rowmill_shop",
        "customers",
        "DELETE FROM customers WHERE id = 2;",
    );
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();

    // Nothing has happened to it.
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (9, 'streamed', 'b', 'c')")
        .unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert_eq!((shop.said(GONE), shop.said(OUT)), (1, 1), "{}", host.log());
    host.terminate().unwrap();
}

/// The ledger has it as left before it is put back.
#[test]
fn s26_killed_when_it_has_been_put_back() {
    let shop = Shop::new().unwrap();
    let pipeline = shop.pipeline();
    begun(&shop, &pipeline).terminate().unwrap();
    take_out(&shop, "rowmill_shop");
    shop.cluster.script("source", MISSED).unwrap();
    let mut host = Host::run_to(shop.folder(), &pipeline, "after_publication_altered", 1).unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}\n{}", host.log());
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// It is put back with another one that comes, and by itself.
#[test]
fn s26_out_of_our_publication_within_a_session() {
    let shop = Shop::new().unwrap();
    let late = "CREATE TABLE late (id bigint PRIMARY KEY);";
    shop.target(late).unwrap();
    let routes = "routes:\n  - { tables: ['public.*'], sinks: [warehouse] }";
    let mut host = begun(&shop, &shop.pipeline_of("'public.*'", routes));
    let out = "ALTER PUBLICATION rowmill_shop DROP TABLE customers;";
    let statements = format!("{out} {MISSED} {late} INSERT INTO late VALUES (1);");
    shop.cluster.script("source", &statements).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM late", "1").unwrap();
    shop.wait_equal(&mut host).unwrap();

    let statements = format!("{out} DELETE FROM customers WHERE id = 2;");
    shop.cluster.script("source", &statements).unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(shop.said(GONE), 2, "{}", host.log());
    assert_eq!(shop.said("\"streaming\""), 1, "one session: {}", host.log());
    host.terminate().unwrap();
}

/// With `snapshot: never` nothing is copied by itself: it is told by name, once, with what brings it.
#[test]
fn s26_what_isnt_copied_is_told_with_the_way_out() {
    let shop = Shop::new().unwrap();
    let port = free_port().unwrap();
    let pipeline = shop.pipeline().replace(
        "snapshot: { mode: initial, connections: 2, unit_rows: 2000 }",
        "snapshot: never",
    );
    let pipeline = Shop::with_console(&pipeline, port);
    let mut host = begun(&shop, &pipeline);
    let way_out = "rowmill resync public.customers";
    let heal = |host: &mut Host| {
        Host::verb_of(shop.folder(), &["resync", "public.customers"], 0).unwrap();
        shop.wait_equal(host).unwrap();
    };
    out_and_in(&shop, "rowmill_shop", "customers", MISSED);
    shop.wait_said(&mut host, way_out, 1).unwrap();
    heal(&mut host);
    assert_eq!((told(&shop), shop.said(way_out)), (1, 1), "{}", host.log());
    host.terminate().unwrap();

    take_out(&shop, "rowmill_shop");
    shop.source("DELETE FROM customers WHERE id = 2").unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO orders VALUES (1, 1, 'paid', 'c', 1, 'x')")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", "1").unwrap();
    assert_eq!((told(&shop), shop.said(way_out)), (2, 2), "{}", host.log());
    heal(&mut host);
    host.terminate().unwrap();
}

/// No table was out, and no filter became another with its entry: it is told by name, once, with what brings what is missing.
#[test]
fn what_a_publication_left_out_for_a_while_is_told() {
    let shop = Shop::new().unwrap();
    let port = free_port().unwrap();
    let pipeline = Shop::with_console(&adopting(&shop), port);
    let mut host = begun(&shop, &pipeline);
    let publish = |operations: &str| {
        let statement = format!("ALTER PUBLICATION adopted SET (publish = '{operations}')");
        shop.source(&statement).unwrap();
    };
    publish("insert");
    let both = 2;
    shop.wait_said(&mut host, "\"no longer sent: updates, deletes, truncates\"", both)
        .unwrap();
    shop.source("UPDATE customers SET note = 'missed'").unwrap();
    publish("insert, update, delete, truncate");
    shop.wait_said(&mut host, "\"now sent: updates, deletes, truncates\"", both)
        .unwrap();
    host.terminate().unwrap();

    let made_again = |customers: &str| {
        let statements = format!("DROP PUBLICATION adopted; CREATE PUBLICATION adopted FOR TABLE orders, {customers};");
        shop.cluster.script("source", &statements).unwrap();
    };
    made_again("customers WHERE (id > 2)");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_said(&mut host, "\"with a row filter\"", 1).unwrap();
    shop.source("INSERT INTO customers VALUES (0, 'filtered', 'b', 'c'), (7, 'a', 'b', 'c')")
        .unwrap();
    shop.wait_target(
        &mut host,
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM customers",
        "1,3,5,7",
    )
    .unwrap();
    host.terminate().unwrap();

    made_again("customers");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_said(&mut host, "\"without its row filter\"", 1).unwrap();
    Host::verb_of(shop.folder(), &["resync", "public.customers"], 0).unwrap();
    shop.wait_equal(&mut host).unwrap();
    let way_out = "rowmill resync public.customers";
    assert_eq!((shop.said(way_out), told(&shop)), (4, 0), "{}", host.log());
    host.terminate().unwrap();
}
