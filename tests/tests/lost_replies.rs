//! Copied rows without a key, at the source or at the target, whose commit the target has done and its host doesn't know of.

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
    let mut host = Host::run(shop.folder(), &behind(&proxy, &shop)).unwrap();
    lose_replies(&shop, &mut host, &proxy);
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
    // What is in the stream meets the copied rows once.
    shop.source("DELETE FROM notes WHERE n % 7 = 3").unwrap();
    shop.source("UPDATE notes SET v = 'y' WHERE n < 200").unwrap();
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
    host.terminate().unwrap();
}

/// Every row is one of its own there, and has a key at the source: what is read of it isn't copied again.
#[test]
fn an_appending_sink_has_no_copied_row_twice() {
    let shop = Shop::with("CREATE TABLE notes (n int PRIMARY KEY, v text)").unwrap();
    let about =
        "ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD COLUMN _rowmill_id text, ADD COLUMN _rowmill_op text,
        ADD COLUMN _rowmill_position pg_lsn, ADD COLUMN _rowmill_ordinal bigint,
        ADD COLUMN _rowmill_committed_at timestamptz, ADD COLUMN _rowmill_unchanged text[]";
    shop.target(about).unwrap();
    shop.source(&format!(
        "INSERT INTO notes SELECT n, repeat('x', 1000) FROM generate_series(1, {ROWS}) n"
    ))
    .unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let pipeline = behind(&proxy, &shop);
    let appending = pipeline.replace("/target }", "/target, mode: append }");
    assert_ne!(appending, pipeline);
    let mut host = Host::run(shop.folder(), &appending).unwrap();
    lose_replies(&shop, &mut host, &proxy);
    shop.source("INSERT INTO notes VALUES (0, 'last')").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM notes WHERE v = 'last'", "1")
        .unwrap();
    let rows = "SELECT count(*), count(DISTINCT n), count(DISTINCT _rowmill_id) FROM notes WHERE n > 0";
    shop.wait_for(&mut host, "the copy is through", || {
        Ok(shop.target("SELECT count(DISTINCT n) FROM notes WHERE n > 0")? == ROWS.to_string())
    })
    .unwrap();
    host.terminate().unwrap();
    assert_eq!(shop.target(rows).unwrap(), format!("{ROWS}|{ROWS}|{ROWS}"));
}

/// Cuts the way to the target behind two commits of copied rows: nothing else is committed there.
fn lose_replies(shop: &Shop, host: &mut Host, proxy: &Proxy) {
    for cut in 0..2 {
        shop.wait_for(host, "the table is copied in part", || {
            let rows: u64 = shop.target("SELECT count(*) FROM notes")?.parse()?;
            Ok((1..ROWS).contains(&rows))
        })
        .unwrap();
        proxy.set(Fault::LoseReply);
        shop.wait_for(host, "a commit's reply is lost", || Ok(proxy.cuts() > cut))
            .unwrap();
    }
}

/// A slow copy, to a target behind the proxy.
fn behind(proxy: &Proxy, shop: &Shop) -> String {
    let routes = "routes: [{ tables: [public.notes], sinks: [warehouse] }]";
    let pipeline = shop.pipeline_of("public.notes", routes);
    let (written, slow) = ("unit_rows: 2000", "unit_rows: 1000, rows_per_second: 2000");
    assert!(pipeline.contains(written), "{pipeline}");
    let pipeline = pipeline.replace(written, slow);
    shop.target_behind(proxy, &pipeline)
}
