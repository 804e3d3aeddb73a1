//! Tables that are copied again, and tables that come, while the others stream on.

use anyhow::{Result, ensure};
use rowmill_tests::{Host, LONG, Lines, Shop, Writers, free_port, wait_until};

/// The shop's pipeline into the target and a file, with a console.
fn pipeline(shop: &Shop, port: u16) -> String {
    let pipeline = shop.pipeline_of(
        "public.orders, public.customers",
        "routes:
  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }",
    );
    Shop::with_console(&pipeline, port)
}

fn resync(shop: &Shop, table: &str) -> Result<()> {
    Host::verb_of(shop.folder(), &["resync", table], 0)?;
    Ok(())
}

/// Whether the ledger, as the host tells it, has no copy under way.
fn is_copied(port: u16) -> Result<bool> {
    let status: serde_json::Value = serde_json::from_str(&rowmill_tests::get(port, "/api/status")?.1)?;
    let copies = status["pipelines"][0]["copies"].as_array().cloned().unwrap_or_default();
    Ok(copies.iter().all(|copy| copy["done"] == true))
}

#[test]
fn a_table_is_copied_again_and_what_the_source_lacks_is_gone() {
    let shop = Shop::new().unwrap();
    shop.fill(3000).unwrap();
    let port = free_port().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port)).unwrap();
    shop.wait_equal(&mut host).unwrap();
    // Somebody has been at the target.
    shop.target(
        "DELETE FROM orders WHERE id % 2 = 0; UPDATE orders SET status = 'wrong' WHERE id % 3 = 0;
                 INSERT INTO orders (id, status) VALUES (-1, 'never there');
                 INSERT INTO customers (id, note) VALUES (-1, 'of another table')",
    )
    .unwrap();
    resync(&shop, "public.orders").unwrap();
    let orders = "SELECT count(*), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o";
    shop.wait_target(&mut host, orders, &shop.source(orders).unwrap())
        .unwrap();
    assert_eq!(
        shop.target("SELECT note FROM customers WHERE id = -1").unwrap(),
        "of another table"
    );

    // A file gets its rows once more, as copied ones, behind a truncate.
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    let of = |op: &str| lines.rows.iter().filter(|row| row["op"] == op).count();
    assert_eq!((of("truncate"), of("read")), (1, 2 * 3001 + 301), "{}", host.log());
    let (_, refused) = Host::verb_of(shop.folder(), &["resync", "public.nothing"], 2).unwrap();
    assert!(refused.contains("table public.nothing isn't streamed"), "{refused}");
    host.terminate().unwrap();
}

#[test]
fn copies_under_load_end_as_the_source_though_the_host_is_killed_in_them() {
    let shop = Shop::new().unwrap();
    shop.fill(20_000).unwrap();
    let port = free_port().unwrap();
    let pipeline = pipeline(&shop, port).replace("unit_rows: 2000", "unit_rows: 500");
    let writers = Writers::start(&shop.cluster, "source", 4, 3).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_for(&mut host, "the first copy", || is_copied(port)).unwrap();
    shop.target("INSERT INTO orders (id, status) SELECT -n, 'never there' FROM generate_series(1, 100) n")
        .unwrap();
    for table in ["orders", "customers", "orders"] {
        shop.wait_for(&mut host, "the host answers", || {
            resync(&shop, &format!("public.{table}"))?;
            Ok(true)
        })
        .unwrap();
        // Some of its rows are at the target again, and mostly not all.
        let rows = format!("SELECT count(*) > 500 FROM {table} WHERE id >= 10000000");
        shop.wait_target(&mut host, &rows, "t").unwrap();
        host.kill().unwrap();
        host = Host::run(shop.folder(), &pipeline).unwrap();
    }
    shop.wait_for(&mut host, "the copies end", || is_copied(port)).unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    Lines::read(&shop.folder().join("out/feed.jsonl"))
        .unwrap()
        .streamed_once()
        .unwrap();
}

#[test]
fn a_table_that_comes_into_an_adopted_publication_is_copied_beside_the_stream() {
    let shop = Shop::with(
        "CREATE TABLE first (id int PRIMARY KEY, v text); CREATE TABLE second (id int PRIMARY KEY, v text);
         CREATE TABLE third (id int, v text);",
    )
    .unwrap();
    shop.source(
        "INSERT INTO second SELECT n, 'old' FROM generate_series(1, 3000) n; CREATE PUBLICATION mine FOR TABLE first",
    )
    .unwrap();
    let routes = "routes:\n  - { tables: ['public.*'], sinks: [warehouse] }";
    let pipeline = shop
        .pipeline_of("public.first", routes)
        .replace("tables: [public.first]\n", "publication: mine\n");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO first VALUES (1, 'before')").unwrap();
    shop.wait_target(&mut host, "SELECT v FROM first", "before").unwrap();

    // It has changed the table before that is published, unseen by the stream, and commits long afterwards.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&shop.cluster.url("source"), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(
                "BEGIN; UPDATE second SET v = 'unseen' WHERE id = 1; INSERT INTO second VALUES (-1, 'unseen')",
            )
            .await?;
        anyhow::Ok(client)
    });
    let client = client.unwrap();
    shop.source("ALTER PUBLICATION mine ADD TABLE second").unwrap();
    wait_until("it is noticed", LONG, || {
        host.must_run()?;
        Ok(host.log().contains("the table is new in the stream").then_some(()))
    })
    .unwrap();
    shop.source("UPDATE second SET v = 'streamed' WHERE id = 2; DELETE FROM second WHERE id = 3")
        .unwrap();
    // The others go on meanwhile, though the copy waits for who has begun before.
    shop.source("UPDATE first SET v = 'meanwhile'").unwrap();
    shop.wait_target(&mut host, "SELECT v FROM first", "meanwhile").unwrap();
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    let second = "SELECT count(*), md5(string_agg(s::text, '|' ORDER BY id)) FROM second s";
    shop.wait_target(&mut host, second, &shop.source(second).unwrap())
        .unwrap();

    // One that can't be streamed is told of, and ends nothing.
    shop.source("ALTER PUBLICATION mine ADD TABLE third; UPDATE first SET v = 'still'")
        .unwrap();
    wait_until("it is told", LONG, || {
        host.must_run()?;
        Ok(host
            .log()
            .contains("a table has come that can't be streamed")
            .then_some(()))
    })
    .unwrap();
    shop.wait_target(&mut host, "SELECT v FROM first", "still").unwrap();

    // Out and in again: what it missed is made good, deletes too.
    shop.source("ALTER PUBLICATION mine DROP TABLE third, second").unwrap();
    host.terminate().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("DELETE FROM second WHERE id < 100; UPDATE first SET v = 'without'")
        .unwrap();
    shop.wait_target(&mut host, "SELECT v FROM first", "without").unwrap();
    shop.source("ALTER PUBLICATION mine ADD TABLE second").unwrap();
    shop.wait_for(&mut host, "it is copied again", || {
        let (source, target) = (shop.source(second)?, shop.target(second)?);
        ensure!(source == target, "source {source}\ntarget {target}");
        Ok(true)
    })
    .unwrap();
    host.terminate().unwrap();
}

#[test]
fn a_table_that_a_pattern_meets_later_is_published_and_copied() {
    let shop = Shop::with("CREATE TABLE first (id int PRIMARY KEY, v text);").unwrap();
    let routes = "routes:\n  - { tables: ['public.*'], sinks: [warehouse] }";
    let pipeline = shop.pipeline_of("'public.*'", routes);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO first VALUES (1, 'before')").unwrap();
    shop.wait_target(&mut host, "SELECT v FROM first", "before").unwrap();
    shop.target("CREATE TABLE later (id int PRIMARY KEY, v text)").unwrap();
    shop.source("CREATE TABLE later (id int PRIMARY KEY, v text); INSERT INTO later SELECT n, 'v' FROM generate_series(1, 50) n")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM later", "50").unwrap();
    shop.source("UPDATE later SET v = 'streamed' WHERE id = 7").unwrap();
    shop.wait_target(&mut host, "SELECT v FROM later WHERE id = 7", "streamed")
        .unwrap();
    host.terminate().unwrap();
}
