//! `stream_transactions: true`: large transactions are received while they are in progress, and leave as all others do.

use anyhow::{Result, ensure};
use rowmill_tests::{Cluster, ClusterOptions, Host, LONG, Lines, free_port, get, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const TABLES: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, note text);
    CREATE TABLE customers (id bigint PRIMARY KEY, note text);
    ALTER TABLE customers REPLICA IDENTITY FULL;
";

/// Of the bound in memory of `host/src/assemble`, some over: what is written to disk.
const BEYOND_MEMORY: &str = "INSERT INTO orders SELECT n, repeat('x', 1000) FROM generate_series(1, 12000) n";

fn cluster() -> Cluster {
    let settings = vec!["logical_decoding_work_mem=64kB".to_owned()];
    let cluster = Cluster::start_with(&ClusterOptions {
        settings,
        hba: Vec::new(),
    })
    .unwrap();
    cluster.script("postgres", TABLES).unwrap();
    cluster
}

fn pipeline(cluster: &Cluster, name: &str, streaming: &str, console: &str) -> String {
    format!(
        "name: {name}
console: {console}
source:
  postgres:
    url: {}
    tables: [public.orders, public.customers]
    snapshot: never
{streaming}
routes:
  - {{ tables: [public.orders, public.customers], sinks: [feed] }}
sinks:
  feed: {{ file: {{ path: out/feed.jsonl }} }}
",
        cluster.url("postgres")
    )
}

const ON: &str = "    stream_transactions: true";

/// A running host, in a folder of its own.
struct Run {
    folder: TempDir,
    host: Host,
}

impl Run {
    fn start(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::run(folder.path(), pipeline).unwrap();
        Self { folder, host }
    }

    fn feed(&self) -> PathBuf {
        self.folder.path().join("out/feed.jsonl")
    }

    fn wait(&mut self, what: &str, condition: impl Fn(&Path) -> Result<bool>) {
        let (host, folder) = (&mut self.host, self.folder.path());
        let waited = wait_until(what, LONG, || match host.must_run() {
            Err(error) => Ok(Some(Err(error))),
            Ok(()) => Ok(condition(folder)?.then_some(Ok(()))),
        });
        waited
            .and_then(|ended| ended)
            .map_err(|error| error.context(host.log()))
            .unwrap();
    }

    fn wait_streaming(&mut self, cluster: &Cluster, slot: &str) {
        let query = format!("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{slot}'");
        self.wait("the slot is active", |_| Ok(cluster.sql("postgres", &query)? == "1"));
    }

    fn wait_rows(&mut self, count: usize) {
        let feed = self.feed();
        self.wait("all rows are there", |_| {
            let found = Lines::read(&feed)?.rows.len();
            ensure!(found == count, "{found} of {count}");
            Ok(true)
        });
    }
}

async fn client(cluster: &Cluster) -> Client {
    let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Four transactions side by side, each many times the server's memory: rows in savepoints that stay, savepoints that
/// are rolled back with others in them, a table that changes, one that is rolled back as a whole, small ones between.
async fn interleaved(cluster: &Cluster) {
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(client(cluster).await);
    }
    for client in &clients[..4] {
        client.batch_execute("BEGIN").await.unwrap();
    }
    for round in 0..6 {
        for (number, client) in clients[..4].iter().enumerate() {
            let first = number * 1_000_000 + round * 10_000;
            let table = if number == 3 { "customers" } else { "orders" };
            let insert = |from: usize| {
                let (from, to) = (first + from, first + from + 299);
                format!(
                    "INSERT INTO {table} (id, note) SELECT n, repeat('y', 300) FROM generate_series({from}, {to}) n;"
                )
            };
            let rolled_back = format!("{} SAVEPOINT b; {} RELEASE b; ", insert(1_000), insert(2_000));
            let (one, two, three) = (insert(0), insert(3_000), insert(4_000));
            let end = if round % 2 == 0 { "ROLLBACK TO a;" } else { "RELEASE a;" };
            let altered = match (number, round) {
                (3, 2) => "ALTER TABLE customers ADD COLUMN more text;",
                (3, 4) => {
                    "SAVEPOINT c; ALTER TABLE customers ADD COLUMN never int;
                           UPDATE customers SET never = 1; ROLLBACK TO c;"
                }
                _ => "",
            };
            let sql = format!(
                "{one} SAVEPOINT a; {rolled_back} {end} {altered} {two}
                 UPDATE {table} SET note = 'changed' WHERE id BETWEEN {first} AND {first} + 50;
                 DELETE FROM {table} WHERE id = {first} + 60; {three}"
            );
            client.batch_execute(&sql).await.unwrap();
        }
        let small = format!("INSERT INTO orders VALUES ({}, 'small')", 9_000_000 + round);
        clients[4].batch_execute(&small).await.unwrap();
    }
    for (client, end) in [(2, "COMMIT"), (0, "ROLLBACK"), (3, "COMMIT"), (1, "COMMIT")] {
        clients[client].batch_execute(end).await.unwrap();
    }
    clients[4]
        .batch_execute("INSERT INTO customers VALUES (8000000, 'last')")
        .await
        .unwrap();
}

#[test]
fn s47_streamed_and_not_write_the_same_lines() {
    let cluster = cluster();
    let mut on = Run::start(&pipeline(&cluster, "on", ON, "off"));
    let mut off = Run::start(&pipeline(&cluster, "off", "", "off"));
    on.wait_streaming(&cluster, "rowmill_on");
    off.wait_streaming(&cluster, "rowmill_off");
    block_on(interleaved(&cluster));
    for run in [&mut on, &mut off] {
        let feed = run.feed();
        run.wait("the last row", |_| {
            Ok(Lines::read(&feed)?.rows.iter().any(|row| row["new"]["id"] == 8_000_000))
        });
    }
    let streamed = |slot: &str| {
        let query = format!("SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'rowmill_{slot}'");
        cluster.sql("postgres", &query).unwrap()
    };
    // The server tells its counts now and then, at the end at the latest.
    on.host.terminate().unwrap();
    off.host.terminate().unwrap();
    wait_until("the server has streamed", LONG, || {
        Ok((streamed("on") == "4").then_some(()))
    })
    .unwrap();
    assert_eq!(streamed("off"), "0");
    let lines = |folder: &TempDir| Lines::read(&folder.path().join("out/feed.jsonl")).unwrap().rows;
    let (on, off) = (lines(&on.folder), lines(&off.folder));
    assert_eq!(on.len(), off.len());
    assert!(on.len() > 10_000, "{}", on.len());
    for (streamed, whole) in on.iter().zip(&off) {
        assert_eq!(streamed, whole);
    }
}

/// `decoding_memory`: what the server would write to its disk and read again stays in its memory.
#[test]
fn a_server_with_memory_to_decode_in_spills_nothing() {
    let cluster = cluster();
    let mut own = Run::start(&pipeline(&cluster, "own", "", "off"));
    let mut more = Run::start(&pipeline(&cluster, "more", "    decoding_memory: 64MiB", "off"));
    own.wait_streaming(&cluster, "rowmill_own");
    more.wait_streaming(&cluster, "rowmill_more");
    cluster.sql("postgres", BEYOND_MEMORY).unwrap();
    own.wait_rows(12_000);
    more.wait_rows(12_000);
    own.host.terminate().unwrap();
    more.host.terminate().unwrap();
    let told = |slot: &str, expected: &str| {
        let query = format!(
            "SELECT spill_txns, total_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = 'rowmill_{slot}'"
        );
        // The server tells its counts at the end at the latest.
        wait_until("the server has told", LONG, || {
            let counts = cluster.sql("postgres", &query)?;
            ensure!(counts == expected, "{slot}: {counts}");
            Ok(Some(()))
        })
        .unwrap();
    };
    told("own", "1|t");
    told("more", "0|t");
}

#[test]
fn killed_while_a_transaction_streams() {
    let cluster = cluster();
    let pipeline = pipeline(&cluster, "on", ON, "off");
    let mut run = Run::start(&pipeline);
    run.wait_streaming(&cluster, "rowmill_on");
    let mut run = block_on(async {
        let writer = client(&cluster).await;
        writer.batch_execute("BEGIN").await.unwrap();
        writer.batch_execute(BEYOND_MEMORY).await.unwrap();
        let other = client(&cluster).await;
        other
            .batch_execute("INSERT INTO customers VALUES (1, 'before')")
            .await
            .unwrap();
        run.wait_rows(1);
        let spilled = |folder: &Path| -> Option<PathBuf> {
            let mut files = std::fs::read_dir(folder.join(".rowmill/on/spill")).ok()?;
            files.next().map(|file| file.unwrap().path())
        };
        run.wait("it is spilled", |folder| Ok(spilled(folder).is_some()));
        let Run { folder, host } = run;
        host.kill().unwrap();
        let left = spilled(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&left).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&left, "what a crash has left").unwrap();

        let host = Host::run(folder.path(), &pipeline).unwrap();
        run = Run { folder, host };
        run.wait_streaming(&cluster, "rowmill_on");
        other
            .batch_execute("INSERT INTO customers VALUES (2, 'between')")
            .await
            .unwrap();
        run.wait_rows(2);
        writer.batch_execute("COMMIT").await.unwrap();
        run
    });
    run.wait_rows(12_002);
    run.host.terminate().unwrap();
    assert!(!run.folder.path().join(".rowmill/on/spill").exists());
    let lines = Lines::read(&run.folder.path().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    assert_eq!(lines.rows[0]["new"]["note"], "before");
    assert_eq!(lines.rows[1]["new"]["note"], "between");
}

/// The server holds them then: nothing is lost, nothing hangs, and it is said once.
#[test]
fn transactions_beyond_the_quota_are_left_to_the_server() {
    let cluster = cluster();
    let port = free_port().unwrap();
    let text = pipeline(
        &cluster,
        "on",
        &format!("{ON}\n    spill: 1MiB"),
        &format!("127.0.0.1:{port}"),
    );
    let mut run = Run::start(&text);
    run.wait_streaming(&cluster, "rowmill_on");
    block_on(async {
        let writer = client(&cluster).await;
        writer.batch_execute("BEGIN").await.unwrap();
        writer.batch_execute(BEYOND_MEMORY).await.unwrap();
        run.wait("the status says so", |_| {
            let (_, body) = get(port, "/api/status")?;
            let reason = "transactions in progress need more than the 1048576 bytes of `spill`";
            ensure!(body.contains(reason), "{body}");
            Ok(true)
        });
        // While it is still open, what others commit arrives.
        let other = client(&cluster).await;
        other
            .batch_execute("INSERT INTO customers VALUES (1, 'meanwhile')")
            .await
            .unwrap();
        run.wait_rows(1);
        writer.batch_execute("COMMIT").await.unwrap();
    });
    run.wait_rows(12_001);
    let log = run.host.log();
    assert_eq!(log.matches("need more than the").count(), 1, "{log}");
    run.host.terminate().unwrap();
    let lines = Lines::read(&run.folder.path().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
}

/// What large transactions cost in memory.
struct Large {
    cluster: Cluster,
    run: Run,
    idle_mib: u64,
    rows: u64,
    streaming: &'static str,
}

impl Large {
    fn start(streaming: &'static str) -> Self {
        let cluster = cluster();
        let text =
            pipeline(&cluster, "large", streaming, "off").replace("{ file: { path: out/feed.jsonl } }", "discard");
        let mut run = Run::start(&text);
        run.wait_streaming(&cluster, "rowmill_large");
        let idle_mib = resident_mib(&run, "VmRSS:");
        Self {
            cluster,
            run,
            idle_mib,
            rows: 0,
            streaming,
        }
    }

    /// One of so many rows of 200 bytes, until it is acknowledged. The most over idle that the process has taken so far, in
    /// MiB.
    fn peak_mib_with(&mut self, rows: u64) -> u64 {
        let (first, last) = (self.rows + 1, self.rows + rows);
        self.rows = last;
        let insert = format!("INSERT INTO orders SELECT n, repeat('x', 160) FROM generate_series({first}, {last}) n");
        let end = self
            .cluster
            .sql("postgres", &format!("{insert}; SELECT pg_current_wal_lsn()"))
            .unwrap();
        let query = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = 'rowmill_large'"
        );
        let patience = std::time::Duration::from_secs(60 + rows / 10_000);
        wait_until("all is acknowledged", patience, || {
            self.run.host.must_run()?;
            Ok((self.cluster.sql("postgres", &query)? == "t").then_some(()))
        })
        .unwrap();
        let (idle, streaming) = (self.idle_mib, self.streaming);
        let peak = resident_mib(&self.run, "VmHWM:").saturating_sub(idle);
        println!("{rows} rows in one transaction{streaming}: idle {idle} MiB, at most {peak} MiB more");
        peak
    }
}

/// `VmRSS`, or `VmHWM` for the most that it was.
fn resident_mib(run: &Run, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.host.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Memory doesn't grow with the transaction: one of five times as many rows takes no more than the queues may hold.
fn memory_is_flat(streaming: &'static str) {
    const ROWS: u64 = 100_000;
    /// Of the 80 MB that the second is larger by.
    const GROWTH_MIB_MAX: u64 = 24;
    let mut large = Large::start(streaming);
    let small = large.peak_mib_with(ROWS);
    let growth = large.peak_mib_with(5 * ROWS) - small;
    println!("{} bytes for each row more", (growth << 20) / (4 * ROWS));
    assert!(
        growth < GROWTH_MIB_MAX,
        "{growth} MiB more than with a fifth of the rows"
    );
    large.run.host.terminate().unwrap();
}

#[test]
fn memory_does_not_grow_with_a_transaction() {
    memory_is_flat("");
}

#[test]
fn memory_does_not_grow_with_a_streamed_transaction() {
    memory_is_flat(ON);
}

/// `ROWMILL_ROWS=10000000` for other figures.
fn peak_of_a_large_transaction(streaming: &'static str) {
    /// Over idle. Queues are 72 MiB at most, and the allocator keeps some more.
    const PEAK_MIB_MAX: u64 = 100;
    let rows = std::env::var("ROWMILL_ROWS").map_or(1_000_000, |text| text.parse().unwrap());
    let mut large = Large::start(streaming);
    let peak = large.peak_mib_with(rows);
    assert!(peak < PEAK_MIB_MAX, "{peak} MiB over idle");
    large.run.host.terminate().unwrap();
}

#[test]
#[ignore = "takes minutes"]
fn a_large_transaction_fits_in_memory() {
    peak_of_a_large_transaction("");
}

#[test]
#[ignore = "takes minutes"]
fn a_large_streamed_transaction_fits_in_memory() {
    peak_of_a_large_transaction(ON);
}
