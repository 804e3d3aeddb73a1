//! Copied rows of a table without a key, whose commit the target has done and its host doesn't know of.

use rowmill_tests::{Fault, Host, Proxy, Shop};

/// Nothing tells its rows apart, and some are equal.
const TABLES: &str = "
    CREATE TABLE notes (n int, v text);
    ALTER TABLE notes REPLICA IDENTITY FULL;";
const ROWS: u64 = 12_000;
const DIGEST: &str = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM notes t";

#[test]
fn a_table_without_a_key_has_no_row_twice() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source(&format!(
        "INSERT INTO notes SELECT n % 9000, repeat('x', 1000) FROM generate_series(1, {ROWS}) n"
    ))
    .unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let routes = "routes: [{ tables: [public.notes], sinks: [warehouse] }]";
    let pipeline = shop.pipeline_of("public.notes", routes);
    let (written, slow) = ("unit_rows: 2000", "unit_rows: 1000, rows_per_second: 2000");
    assert!(pipeline.contains(written), "{pipeline}");
    let pipeline = behind(&proxy, &shop, &pipeline.replace(written, slow));
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for cut in 0..2 {
        shop.wait_for(&mut host, "the table is copied in part", || {
            let rows: u64 = shop.target("SELECT count(*) FROM notes")?.parse()?;
            Ok((1..ROWS).contains(&rows))
        })
        .unwrap();
        // Nothing else is committed at the target.
        proxy.set(Fault::LoseReply);
        shop.wait_for(&mut host, "a commit's reply is lost", || Ok(proxy.cuts() > cut))
            .unwrap();
    }
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
    // What is in the stream meets the copied rows once.
    shop.source("DELETE FROM notes WHERE n % 7 = 3").unwrap();
    shop.source("UPDATE notes SET v = 'y' WHERE n < 200").unwrap();
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
    host.terminate().unwrap();
}

/// The pipeline with its target behind the proxy.
fn behind(proxy: &Proxy, shop: &Shop, pipeline: &str) -> String {
    let url = shop.cluster.url("target");
    let through = url.replace(&shop.cluster.port().to_string(), &proxy.port().to_string());
    assert!(pipeline.contains(&url));
    pipeline.replace(&url, &through)
}
