//! H5, H14, H16, S33, S34: too little memory, too few descriptors, very many tables, huge transactions, huge rows.

use rowmill_tests::{Host, LONG, MemoryGroup, Shop, free_port, memory, wait_until};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// What the process may take beyond what it has: less than one of the rows.
const MORE_BYTES: u64 = 8 << 20;
const ROW_CHARS: u64 = 16 << 20;
const TABLES: u64 = 10_000;
/// Of a release build; the build of the tests isn't optimised.
const UP: Duration = Duration::from_secs(10);
const UNOPTIMISED: u32 = 3;

/// H5: the kernel ends the process for want of memory, amid a row; the next start has everything.
#[test]
fn h5_killed_for_want_of_memory() {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let name = format!("rowmill-h5-{}", host.pid());
    // What it has taken so far counts elsewhere.
    let group = match MemoryGroup::new(&name, MORE_BYTES).and_then(|group| group.take(host.pid()).map(|()| group)) {
        Ok(group) => group,
        Err(error) => return println!("skipped, only root makes memory cgroups: {error}"),
    };
    let large = format!(
        "INSERT INTO orders SELECT n, 1, 'paid', 'c', 1, repeat('x', {ROW_CHARS}) FROM generate_series(1, 4) n"
    );
    shop.source(&large).unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}\n{}", host.log());
    drop(group);
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// What a process may take beyond its start while a far larger transaction goes through: queues and what is retained,
/// up to 32 MiB each, and some more of the allocator's.
const WORKING_BYTES: u64 = 160 << 20;

/// 240 MB of committed rows, and as many of sub-transactions that were rolled back.
fn huge_transaction(streaming: bool) {
    const ROWS: u64 = 24_000;
    let shop = Shop::new().unwrap();
    let pipeline = match streaming {
        true => shop
            .pipeline()
            .replace("    snapshot:", "    stream_transactions: true\n    snapshot:"),
        false => shop.pipeline(),
    };
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let name = format!("rowmill-s33-{}", host.pid());
    let group = MemoryGroup::new(&name, WORKING_BYTES).and_then(|group| group.take(host.pid()).map(|()| group));
    if let Err(error) = &group {
        println!("without a bound by the kernel, only root makes memory cgroups: {error}");
    }
    let idle = memory(host.pid(), "VmRSS:").unwrap();
    let part = |first: u64, rows: u64, kept: bool| {
        let end = if kept { "RELEASE a" } else { "ROLLBACK TO a" };
        format!(
            "SAVEPOINT a; INSERT INTO orders SELECT n, 1, '{kept}', 'c', 1, repeat('x', 10000)
             FROM generate_series({first}, {first} + {rows} - 1) n; {end};"
        )
    };
    let parts: String = (0..8)
        .map(|n| part(n * ROWS, ROWS / 8, true) + &part(1_000_000 + n * ROWS, ROWS / 8, false))
        .collect();
    shop.cluster
        .script("source", &format!("BEGIN; {parts} COMMIT;"))
        .unwrap();
    // Never a part of it.
    let expected = format!("{ROWS}|0");
    shop.wait_for(&mut host, "all of it is there", || {
        let found = shop.target("SELECT count(*), count(*) FILTER (WHERE status <> 'true') FROM orders")?;
        assert!(found == "0|0" || found == expected, "{found}");
        Ok(found == expected)
    })
    .unwrap();
    shop.wait_equal(&mut host).unwrap();
    // The server waits 5 s for a sign of life.
    assert!(!host.log().contains("begun again"), "{}", host.log());
    let most = memory(host.pid(), "VmHWM:").unwrap().saturating_sub(idle);
    println!("{} MiB over idle at most", most >> 20);
    assert!(most < WORKING_BYTES, "{most} bytes over idle");
    host.terminate().unwrap();
}

/// S33: larger than the memory that there is. It is visible at its commit, and the server hears of us meanwhile.
#[test]
#[ignore = "takes half a minute"]
fn s33_a_huge_transaction_fits_in_little_memory() {
    huge_transaction(false);
}

/// S33: the same, received while it is in progress.
#[test]
#[ignore = "takes half a minute"]
fn s33_a_huge_streamed_transaction_fits_in_little_memory() {
    huge_transaction(true);
}

/// S34: a row up to `max_row` arrives, a larger one stops the pipeline before it is in memory, and says which table and
/// how large. With a larger limit it goes on where it was.
#[test]
fn s34_a_row_beyond_the_limit_is_told_and_not_taken_in() {
    let shop = Shop::new().unwrap();
    let with = |limit: &str| {
        let limit = format!("    max_row: {limit}\n    snapshot:");
        shop.pipeline().replace("    snapshot:", &limit)
    };
    let mut host = Host::run(shop.folder(), &with("4MiB")).unwrap();
    let insert = |id: u32, mib: u32| {
        let sql = format!("INSERT INTO orders VALUES ({id}, 1, 'paid', 'c', 1, repeat('x', {mib} << 20))");
        shop.source(&sql).unwrap();
    };
    insert(1, 3);
    shop.wait_equal(&mut host).unwrap();
    let before = memory(host.pid(), "VmHWM:").unwrap();
    insert(2, 24);
    insert(3, 1);
    // How much it has taken is looked at for as long as it can be.
    let mut most = before;
    let status = wait_until("it ends", LONG, || {
        let ended = host.ended()?;
        if ended.is_none() && std::path::Path::new(&format!("/proc/{}/exe", host.pid())).exists() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid()))?;
            let line = status
                .lines()
                .find(|line| line.starts_with("VmHWM:"))
                .unwrap_or("VmHWM: 0");
            most = most.max(line.split_whitespace().nth(1).unwrap_or("0").parse::<u64>()? << 10);
        }
        Ok(ended)
    })
    .unwrap();
    let log = host.log();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("E0264") && log.contains("a row of public.orders"), "{log}");
    assert!(log.contains("max_row: 25MiB"), "{log}");
    assert!(!log.contains("xxxx"), "a value is in the log");
    assert!(most - before < 16 << 20, "{} bytes more", most - before);
    assert_eq!(shop.target("SELECT count(*) FROM orders").unwrap(), "1");
    let mut host = Host::run(shop.folder(), &with("25MiB")).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// What a row takes beside the process at rest and the bytes that the row came in: once, wherever it goes.
const BESIDE_ROW_BYTES: u64 = 100 << 20;

/// Prints and checks the most that the process has taken, with a row of `row_bytes` as it is received.
fn takes_one_row(host: &Host, idle: u64, row_bytes: u64) {
    let most = memory(host.pid(), "VmHWM:").unwrap();
    println!(
        "{row_bytes} bytes received: {} MiB at most, {} at rest",
        most >> 20,
        idle >> 20
    );
    assert!(most < idle + row_bytes + BESIDE_ROW_BYTES, "{most} bytes");
}

/// S34: `bytea` of 100 MB, twice as much as text, into a Postgres.
#[test]
#[ignore = "takes gigabytes of memory"]
fn s34_a_row_of_a_hundred_megabytes() {
    let shop = Shop::with("CREATE TABLE blobs (id bigint PRIMARY KEY, body bytea)").unwrap();
    shop.source("ALTER TABLE blobs ALTER body SET STORAGE EXTERNAL")
        .unwrap();
    let pipeline = shop
        .pipeline_of(
            "public.blobs",
            "routes:\n  - { tables: [public.blobs], sinks: [warehouse] }",
        )
        .replace("    snapshot:", "    max_row: 1GiB\n    snapshot:");
    let insert = |id: u32, bytes: u32| {
        let sql = format!("INSERT INTO blobs VALUES ({id}, decode(repeat('ab', {bytes}), 'hex'))");
        shop.source(&sql).unwrap();
    };
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    insert(0, 1);
    let same = "SELECT string_agg(md5(body), ' ' ORDER BY id) FROM blobs";
    shop.wait_target(&mut host, same, &shop.source(same).unwrap()).unwrap();
    let idle = memory(host.pid(), "VmRSS:").unwrap();
    insert(1, 100_000_000);
    let expected = shop.source(same).unwrap();
    shop.wait_target(&mut host, same, &expected).unwrap();
    takes_one_row(&host, idle, 200_000_000);
    host.terminate().unwrap();
}

/// S34: a `bytea` whose text the server can't make, copied and streamed: told with the way out, which is `binary: true`.
#[test]
#[ignore = "takes gigabytes of memory"]
fn s34_a_row_too_large_as_text_comes_in_binary_form() {
    let shop = Shop::with("CREATE TABLE blobs (id bigint PRIMARY KEY, body bytea)").unwrap();
    let routes = "routes:\n  - { tables: [public.blobs], sinks: [warehouse] }";
    let text = shop
        .pipeline_of("public.blobs", routes)
        .replace("    snapshot:", "    max_row: 1GiB\n    snapshot:");
    let binary = text.replace("    snapshot:", "    binary: true\n    snapshot:");
    let insert = |id: u32| {
        let body = "decode(repeat('00', 100000000), 'hex')";
        let sql = format!("INSERT INTO blobs SELECT {id}, b || b || b || b || b || b FROM (SELECT {body} AS b) AS b");
        shop.source(&sql).unwrap();
    };
    let refused = || {
        let mut host = Host::run(shop.folder(), &text).unwrap();
        let status = host.wait(5 * LONG).unwrap();
        let log = host.log();
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(log.contains("E0265") && log.contains("set `binary: true`"), "{log}");
    };
    let arrives = |count: u32| {
        let mut host = Host::run(shop.folder(), &binary).unwrap();
        let idle = memory(host.pid(), "VmRSS:").unwrap();
        let found = "SELECT count(*), count(DISTINCT md5(body)), min(length(body)) FROM blobs";
        let expected = format!("{count}|1|600000000");
        wait_until("it arrives", 5 * LONG, || {
            host.must_run()?;
            Ok((shop.target(found)? == expected).then_some(()))
        })
        .unwrap();
        takes_one_row(&host, idle, 600_000_000);
        host.terminate().unwrap();
    };
    insert(1);
    refused();
    arrives(1);
    insert(2);
    refused();
    arrives(2);
}

/// H14: a process that may open too few files says so at once, and how many it needs. With as many it works, a copy and all.
#[test]
fn h14_too_few_open_files_are_told_and_as_many_as_are_asked_for_are_enough() {
    let shop = Shop::new().unwrap();
    shop.fill(10_000).unwrap();
    let routes = "routes:\n  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }";
    let port = free_port().unwrap();
    let pipeline = Shop::with_console(&shop.pipeline_of("public.orders, public.customers", routes), port);
    for files in [8, 16, 32] {
        let mut host = Host::run_with_files(shop.folder(), &pipeline, files).unwrap();
        assert_eq!(host.wait(LONG).unwrap().code(), Some(2), "{}", host.log());
    }
    let log = shop.log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(log.matches("error[E0903]").count(), 3, "{log}");
    let needed = log
        .split("at least ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let mut host = Host::run_with_files(shop.folder(), &pipeline, needed.parse().unwrap()).unwrap();
    shop.wait_equal(&mut host).unwrap();
    shop.source("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        .unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    assert!(!host.log().contains("Too many open files"), "{}", host.log());
    host.terminate().unwrap();
}

/// H16: with very many tables the stream begins soon.
#[test]
#[ignore = "makes 10,000 tables"]
fn h16_ten_thousand_tables() {
    let shop = Shop::new().unwrap();
    let tables: String = (0..TABLES)
        .map(|n| format!("CREATE TABLE many.t{n} (id bigint PRIMARY KEY, a int, b text);\n"))
        .collect();
    shop.cluster
        .script("source", &format!("CREATE SCHEMA many;\n{tables}"))
        .unwrap();
    let pipeline = shop
        .pipeline_of("many.*", "routes:\n  - { tables: [many.*], sinks: [feed] }")
        .replace("mode: initial", "mode: never");
    let start = |what: &str| {
        let began = Instant::now();
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        wait_until("it streams", Duration::from_secs(300), || {
            host.must_run()?;
            let slots = shop.source("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")?;
            Ok((slots == "1").then_some(()))
        })
        .unwrap();
        let took = began.elapsed();
        let mib = memory(host.pid(), "VmHWM:").unwrap() >> 20;
        println!("{what} with {TABLES} tables: {took:?}, {mib} MiB");
        host.terminate().unwrap();
        took
    };
    // The first makes publication and slot.
    start("a first start");
    let took = start("a start");
    assert!(took < UP * UNOPTIMISED, "{took:?}");
}
