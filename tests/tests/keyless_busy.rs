//! A table without a key that changes more while it is copied than memory is for.

use rowmill_tests::{Host, LONG, Shop, wait_until};
use std::fs;

/// 12 MiB; what changes all of it is twice as much.
const TABLE: &str = "
    CREATE TABLE notes (n int, v text);
    ALTER TABLE notes REPLICA IDENTITY FULL;";
const ROWS: &str = "INSERT INTO notes SELECT n, repeat('x', 1000) FROM generate_series(1, 12000) n";
const DIGEST: &str = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM notes t";

/// Copied in some twelve seconds.
fn pipeline(shop: &Shop, spill: &str) -> String {
    let routes = "routes: [{ tables: [public.notes], sinks: [warehouse] }]";
    let written = "snapshot: { mode: initial, connections: 2, unit_rows: 2000 }";
    let slow = format!("spill: {spill}\n    snapshot: {{ mode: initial, connections: 1, rows_per_second: 1000 }}");
    let pipeline = shop.pipeline_of("public.notes", routes);
    assert!(pipeline.contains(written), "{pipeline}");
    pipeline.replace(written, &slow)
}

/// Changes every row, most of them more than once, and what the copy has read already as well.
fn change(shop: &Shop, what: &str) {
    shop.source(&format!("UPDATE notes SET v = '{what}' || repeat('y', 1000)"))
        .unwrap();
    shop.source("DELETE FROM notes WHERE n % 7 = 3").unwrap();
    let new = format!("INSERT INTO notes SELECT n, '{what} new' FROM generate_series(1, 3000) n");
    shop.source(&new).unwrap();
    shop.source("UPDATE notes SET n = n + 1 WHERE n < 200").unwrap();
}

fn wait_copies(shop: &Shop, host: &mut Host) {
    wait_until("the table is read", LONG, || {
        host.must_run()?;
        let reads = "SELECT count(*) FROM pg_locks WHERE relation = 'notes'::regclass AND mode = 'AccessShareLock'
            AND pid <> pg_backend_pid()";
        Ok((shop.source(reads)? != "0").then_some(()))
    })
    .map_err(|error| error.context(host.log()))
    .unwrap();
}

/// Bytes in the file without a name.
fn waiting_bytes(host: &Host) -> u64 {
    let open = fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap();
    let paths = open.filter_map(Result::ok).map(|entry| entry.path());
    let is_it = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|file| {
            let file = file.to_string_lossy().into_owned();
            file.contains("/waiting-") && file.ends_with(" (deleted)")
        })
    };
    let sizes = paths.filter(is_it).filter_map(|path| fs::metadata(path).ok());
    sizes.map(|found| found.len()).sum()
}

#[test]
fn more_changes_than_fit_into_memory_wait_on_disk_and_a_kill_loses_none() {
    let shop = Shop::with(TABLE).unwrap();
    shop.source(ROWS).unwrap();
    let pipeline = pipeline(&shop, "1GiB");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for round in ["first", "second"] {
        wait_copies(&shop, &mut host);
        change(&shop, round);
        wait_until("changes wait on disk", LONG, || {
            host.must_run()?;
            Ok((waiting_bytes(&host) > 12 << 20).then_some(()))
        })
        .map_err(|error| error.context(host.log()))
        .unwrap();
        if round == "first" {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        }
    }
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
    wait_until("the disk is given back", LONG, || {
        Ok((waiting_bytes(&host) == 0).then_some(()))
    })
    .unwrap();
    // And the stream goes on behind them.
    change(&shop, "third");
    shop.wait_target(&mut host, DIGEST, &shop.source(DIGEST).unwrap())
        .unwrap();
}

#[test]
fn beyond_the_quota_it_stops_and_names_the_setting() {
    let shop = Shop::with(TABLE).unwrap();
    shop.source(ROWS).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "4MiB")).unwrap();
    wait_copies(&shop, &mut host);
    change(&shop, "first");
    let status = host.wait(LONG).unwrap();
    let log = host.log();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(
        log.contains("E0604") && log.contains("`spill` under source.postgres"),
        "{log}"
    );
}
