//! `two_phase: true`: prepared transactions are received when they are prepared, kept, and leave when they commit.

use anyhow::{Result, ensure};
use rowmill_tests::{Cluster, ClusterOptions, Host, LONG, Lines, SmallDisk, wait_until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE orders (id bigint PRIMARY KEY, note text);
    CREATE TABLE customers (id bigint PRIMARY KEY, m mood, note text);
    ALTER TABLE customers REPLICA IDENTITY FULL;
    CREATE UNLOGGED TABLE scratch (n int);
";

/// Larger than what the server keeps in memory, so that it is streamed where that is asked for.
const LARGE: &str = "INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series";

/// The first version that sends a transaction when it is prepared.
const VERSION_FIRST: u32 = 15;

fn major(cluster: &Cluster) -> u32 {
    let version = cluster.sql("postgres", "SHOW server_version_num").unwrap();
    version.parse::<u32>().unwrap() / 10_000
}

/// `None` of an older version.
fn cluster() -> Option<Cluster> {
    let cluster = any_cluster();
    (major(&cluster) >= VERSION_FIRST).then_some(cluster)
}

fn any_cluster() -> Cluster {
    let settings = ["logical_decoding_work_mem=64kB", "max_prepared_transactions=20"];
    let cluster = Cluster::start_with(&ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        hba: Vec::new(),
    })
    .unwrap();
    cluster.script("postgres", TABLES).unwrap();
    cluster
}

const TWO_PHASE: &str = "    two_phase: true";
const BOTH: &str = "    two_phase: true\n    stream_transactions: true";

fn pipeline(cluster: &Cluster, name: &str, settings: &str) -> String {
    format!(
        "name: {name}
console: off
source:
  postgres:
    url: {}
    tables: [public.orders, public.customers]
    snapshot: never
{settings}
routes:
  - {{ tables: [public.orders, public.customers], sinks: [feed] }}
sinks:
  feed: {{ file: {{ path: out/feed.jsonl }} }}
",
        cluster.url("postgres")
    )
}

/// A running host, in a folder of its own.
struct Run<'a> {
    cluster: &'a Cluster,
    slot: String,
    pipeline: String,
    folder: TempDir,
    host: Option<Host>,
}

impl<'a> Run<'a> {
    fn new(cluster: &'a Cluster, name: &str, settings: &str) -> Self {
        Self {
            cluster,
            slot: format!("rowmill_{name}"),
            pipeline: pipeline(cluster, name, settings),
            folder: tempfile::tempdir().unwrap(),
            host: None,
        }
    }

    fn start(cluster: &'a Cluster, name: &str, settings: &str) -> Self {
        let mut run = Self::new(cluster, name, settings);
        run.begin();
        run
    }

    /// Streams on where it was.
    fn begin(&mut self) {
        self.host = Some(Host::run(self.folder.path(), &self.pipeline).unwrap());
        let query = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{}'",
            self.slot
        );
        self.wait("the slot is active", |run| {
            Ok(run.cluster.sql("postgres", &query)? == "1")
        });
    }

    fn kill(&mut self) {
        self.host.take().unwrap().kill().unwrap();
    }

    fn wait(&mut self, what: &str, condition: impl Fn(&Self) -> Result<bool>) {
        let waited = wait_until(what, LONG, || {
            if let Some(host) = &mut self.host
                && let Err(error) = host.must_run()
            {
                return Ok(Some(Err(error)));
            }
            Ok(condition(self)?.then_some(Ok(())))
        });
        let log = self.host.as_ref().map(Host::log).unwrap_or_default();
        waited
            .and_then(|ended| ended)
            .map_err(|error| error.context(log))
            .unwrap();
    }

    fn lines(&self) -> Vec<Value> {
        Lines::read(&self.folder.path().join("out/feed.jsonl")).map_or_else(|_| Vec::new(), |lines| lines.rows)
    }

    fn wait_rows(&mut self, count: usize) {
        self.wait("all rows are there", |run| {
            let found = run.lines().len();
            ensure!(found == count, "{found} of {count}");
            Ok(true)
        });
    }

    /// Everything that is in the WAL now is acknowledged: the server won't send it again.
    fn wait_acknowledged(&mut self) {
        let end = self
            .cluster
            .sql("postgres", "SELECT pg_current_wal_flush_lsn()")
            .unwrap();
        let query = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        );
        self.wait("it is acknowledged", |run| {
            Ok(run.cluster.sql("postgres", &query)? == "t")
        });
    }

    /// What is kept of prepared transactions.
    fn kept(&self) -> Vec<PathBuf> {
        let state = self.folder.path().join(".rowmill").join(&self.slot["rowmill_".len()..]);
        let files = std::fs::read_dir(state.join("prepared")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    fn wait_kept(&mut self, count: usize) {
        self.wait("it is kept", |run| Ok(run.kept().len() == count));
    }
}

/// Prepared small and large, with savepoints, a message, a truncate and a table that is altered; committed in another
/// order, rolled back, under a global id that comes again; others' transactions between them.
const WORKLOAD: &str = "
    INSERT INTO orders VALUES (1, 'before');
    BEGIN; INSERT INTO orders VALUES (10, 'prepared'); UPDATE orders SET note = 'changed' WHERE id = 1;
        SAVEPOINT a; INSERT INTO orders VALUES (11, 'rolled back'); ROLLBACK TO a;
        SELECT pg_logical_emit_message(true, 'of', 'mine'); DELETE FROM orders WHERE id = 1;
        PREPARE TRANSACTION 'small';
    INSERT INTO orders VALUES (2, 'meanwhile'); INSERT INTO customers VALUES (3, 'ok', 'meanwhile');
    BEGIN; INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series(1000, 2999) n;
        SAVEPOINT b; INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series(3000, 3999) n; ROLLBACK TO b;
        INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series(4000, 4999) n;
        PREPARE TRANSACTION 'large';
    BEGIN; INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series(6000, 6999) n;
        PREPARE TRANSACTION 'never';
    BEGIN; ALTER TABLE customers ADD COLUMN more text DEFAULT 'm'; INSERT INTO customers VALUES (4, 'sad', 'new', 'c');
        PREPARE TRANSACTION 'altered';
    BEGIN; INSERT INTO scratch VALUES (1); PREPARE TRANSACTION 'without a change'; COMMIT PREPARED 'without a change';
    BEGIN; SELECT * FROM orders WHERE id = 2 FOR UPDATE; PREPARE TRANSACTION 'locks'; COMMIT PREPARED 'locks';
    INSERT INTO orders VALUES (5, 'between');
    COMMIT PREPARED 'large';
    ROLLBACK PREPARED 'never';
    COMMIT PREPARED 'altered';
    INSERT INTO customers VALUES (6, 'ok', 'of the new form', 'd');
    COMMIT PREPARED 'small';
    BEGIN; INSERT INTO orders VALUES (20, 'the same name'); PREPARE TRANSACTION 'small';
    INSERT INTO orders VALUES (7, 'before it');
    COMMIT PREPARED 'small';
    BEGIN; TRUNCATE customers; INSERT INTO customers VALUES (8, 'ok', 'alone', NULL); PREPARE TRANSACTION 'small';
    COMMIT PREPARED 'small';
    INSERT INTO customers VALUES (9, 'ok', 'last', NULL);
";

#[test]
fn two_phase_and_not_write_the_same_lines() {
    let Some(cluster) = cluster() else { return };
    let mut runs = [("off", ""), ("on", TWO_PHASE), ("both", BOTH)].map(|(name, settings)| {
        let run = Run::start(&cluster, name, settings);
        let query = format!("SELECT two_phase FROM pg_replication_slots WHERE slot_name = 'rowmill_{name}'");
        let two_phase = cluster.sql("postgres", &query).unwrap();
        assert_eq!(two_phase == "t", !settings.is_empty());
        run
    });
    cluster.script("postgres", WORKLOAD).unwrap();
    for run in &mut runs {
        run.wait("the last row", |run| {
            Ok(run.lines().iter().any(|row| row["new"]["note"] == "last"))
        });
    }
    let [off, on, both] = &mut runs;
    let expected = off.lines();
    assert!(expected.len() > 3000 && !expected.iter().any(|row| row["new"]["id"] == 6500));
    for run in [on, both] {
        let found = run.lines();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        run.wait_acknowledged();
        // Files go with what is received next.
        cluster.sql("postgres", "INSERT INTO scratch VALUES (2)").unwrap();
        run.wait("nothing is kept any more", |run| {
            run.cluster
                .sql("postgres", "SELECT pg_logical_emit_message(true, 'of', 'any')")?;
            Ok(run.kept().is_empty())
        });
    }
}

/// What the server has handed over and won't send again is all here after a kill -9.
fn killed_between(settings: &str) {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "on", settings);
    cluster
        .script("postgres", "INSERT INTO orders VALUES (1, 'before')")
        .unwrap();
    run.wait_rows(1);
    let prepared = format!(
        "BEGIN; INSERT INTO orders VALUES (2, 'small'); PREPARE TRANSACTION 'small';
         BEGIN; {LARGE}(1000, 2999) n; PREPARE TRANSACTION 'large';
         BEGIN; INSERT INTO customers VALUES (3, 'ok', 'never'); PREPARE TRANSACTION 'never';"
    );
    cluster.script("postgres", &prepared).unwrap();
    run.wait_kept(3);
    for file in run.kept() {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    run.wait_acknowledged();
    run.kill();
    // What is large now is streamed, and with it once more what is prepared.
    cluster
        .script("postgres", &format!("BEGIN; {LARGE}(5000, 5999) n; COMMIT;"))
        .unwrap();
    run.begin();
    run.wait_rows(1001);
    assert_eq!(run.kept().len(), 3);
    cluster.script("postgres", "COMMIT PREPARED 'large'").unwrap();
    run.wait_rows(3001);
    run.kill();
    cluster
        .script("postgres", "ROLLBACK PREPARED 'never'; COMMIT PREPARED 'small'")
        .unwrap();
    run.begin();
    run.wait_rows(3002);
    assert_eq!(run.lines()[3001]["new"]["note"], "small");
    run.wait_acknowledged();
    run.host.take().unwrap().terminate().unwrap();
    Lines::read(&run.folder.path().join("out/feed.jsonl"))
        .unwrap()
        .streamed_once()
        .unwrap();
    // Nothing is left of them behind the next start.
    run.begin();
    assert!(run.kept().is_empty(), "{:?}", run.kept());
}

#[test]
fn s37_killed_between_prepare_and_commit() {
    killed_between(TWO_PHASE);
}

#[test]
fn killed_between_prepare_and_commit_while_streaming() {
    killed_between(BOTH);
}

fn end(run: &mut Run<'_>, code: i32) -> String {
    let mut host = run.host.take().unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(code), "{}", host.log());
    host.log()
}

/// There is no other place for them: the pipeline stops, and the server keeps what it hasn't confirmed.
#[test]
fn prepared_beyond_the_quota_stop_the_pipeline_and_arrive_with_more_room() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "on", &format!("{BOTH}\n    spill: 1MiB"));
    let prepared = "
        BEGIN; INSERT INTO orders VALUES (1, 'kept'); PREPARE TRANSACTION 'kept';
        BEGIN; INSERT INTO orders SELECT n, repeat('x', 1000) FROM generate_series(2, 12001) n;
        PREPARE TRANSACTION 'large';";
    cluster.script("postgres", prepared).unwrap();
    let log = end(&mut run, 3);
    assert!(
        log.contains("E0266") && log.contains("1048576 bytes of `spill`"),
        "{log}"
    );
    cluster
        .script("postgres", "COMMIT PREPARED 'large'; COMMIT PREPARED 'kept'")
        .unwrap();
    run.pipeline = pipeline(&cluster, "on", BOTH);
    run.begin();
    run.wait_rows(12_001);
    assert_eq!(run.lines()[12_000]["new"]["note"], "kept");
}

/// H7: unlike a quota, a disk has room again some time. The process goes on, and the server keeps what it hasn't confirmed.
#[test]
fn h7_what_is_prepared_while_the_disk_is_full_waits_for_room() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::new(&cluster, "on", TWO_PHASE);
    let disk = match SmallDisk::mount(&run.folder.path().join(".rowmill/on"), 32 << 20) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped, only root mounts disks: {error:#}"),
    };
    run.begin();
    disk.fill().unwrap();
    let prepared = "BEGIN; INSERT INTO orders SELECT n, repeat('x', 300) FROM generate_series(1, 100) n;
        PREPARE TRANSACTION 'kept'";
    cluster.script("postgres", prepared).unwrap();
    run.wait("it is told", |run| {
        let log = run.host.as_ref().map(Host::log).unwrap_or_default();
        Ok(log.contains("no room for prepared transactions"))
    });
    disk.free().unwrap();
    run.wait_kept(1);
    cluster.script("postgres", "COMMIT PREPARED 'kept'").unwrap();
    run.wait_rows(100);
}

#[test]
fn without_its_folder_it_doesnt_pass_what_was_prepared() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "on", TWO_PHASE);
    let prepared = "BEGIN; INSERT INTO orders VALUES (1, 'kept'); PREPARE TRANSACTION 'kept'";
    cluster.script("postgres", prepared).unwrap();
    run.wait_kept(1);
    run.wait_acknowledged();
    run.kill();
    std::fs::remove_dir_all(run.folder.path().join(".rowmill/on/prepared")).unwrap();
    run.host = Some(Host::run(run.folder.path(), &run.pipeline).unwrap());
    assert!(end(&mut run, 4).contains("E0268"));
}

/// One file of several.
#[test]
fn without_one_of_its_files_it_doesnt_pass_what_was_prepared() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "on", TWO_PHASE);
    for id in 1..=2 {
        let prepared = format!("BEGIN; INSERT INTO orders VALUES ({id}, 'kept'); PREPARE TRANSACTION 'kept {id}'");
        cluster.script("postgres", &prepared).unwrap();
    }
    run.wait_kept(2);
    run.wait_acknowledged();
    run.kill();
    std::fs::remove_file(&run.kept()[0]).unwrap();
    run.host = Some(Host::run(run.folder.path(), &run.pipeline).unwrap());
    let log = end(&mut run, 4);
    assert!(log.contains("E0268") && log.contains("is missing"), "{log}");
}

/// A pipeline may ask for it later: what was prepared before arrives with its commit, what is prepared then is kept, and
/// from then on it can't be asked otherwise.
#[test]
fn two_phase_may_begin_later() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "later", "");
    cluster
        .script("postgres", "INSERT INTO orders VALUES (1, 'plain')")
        .unwrap();
    run.wait_rows(1);
    let prepare = |id: u32| {
        let sql = format!("BEGIN; INSERT INTO orders VALUES ({id}, 'p'); PREPARE TRANSACTION 'p{id}'");
        cluster.script("postgres", &sql).unwrap();
    };
    prepare(2);
    run.wait_acknowledged();
    run.kill();
    run.pipeline = pipeline(&cluster, "later", TWO_PHASE);
    for _ in 0..2 {
        run.begin();
        run.wait_kept(0);
        prepare(3);
        run.wait_kept(1);
        run.kill();
        cluster.script("postgres", "ROLLBACK PREPARED 'p3'").unwrap();
    }
    run.begin();
    run.wait_kept(0);
    prepare(4);
    run.wait_kept(1);
    run.kill();
    run.begin();
    cluster.script("postgres", "COMMIT PREPARED 'p4'").unwrap();
    cluster.script("postgres", "COMMIT PREPARED 'p2'").unwrap();
    run.wait_rows(3);
    let ids: Vec<i64> = run
        .lines()
        .iter()
        .filter_map(|line| line["new"]["id"].as_i64())
        .collect();
    assert_eq!(ids, [1, 4, 2]);
    run.kill();
    let (_, stderr) = Host::verb(run.folder.path(), &pipeline(&cluster, "later", ""), &["run"], 3).unwrap();
    assert!(stderr.contains("E0237"), "{stderr}");
}

/// Refused by `check` and `run` alike: what a slot was asked for once, it is asked for ever.
#[test]
fn slots_of_the_other_kind_are_refused() {
    let cluster = any_cluster();
    let make = "
        CREATE PUBLICATION rowmill_two FOR TABLE orders, customers;
        SELECT pg_create_logical_replication_slot('rowmill_one', 'pgoutput', false, false);
        SELECT pg_create_logical_replication_slot('rowmill_two', 'pgoutput', false, true);";
    cluster.script("postgres", make).unwrap();
    let refused = |name: &str, settings: &str, code: &str| {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = pipeline(&cluster, name, settings);
        for verb in ["check", "run"] {
            let (stdout, stderr) = Host::verb(folder.path(), &pipeline, &[verb], 3).unwrap();
            assert!(
                stdout.contains(code) || stderr.contains(code),
                "{verb}: {stdout}{stderr}"
            );
        }
    };
    if major(&cluster) < VERSION_FIRST {
        return refused("one", TWO_PHASE, "E0247");
    }
    refused("two", "", "E0237");
    // Somebody else may have got its rows.
    let prepared = "BEGIN; INSERT INTO orders VALUES (1, 'whose'); PREPARE TRANSACTION 'whose'";
    cluster.script("postgres", prepared).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let two = pipeline(&cluster, "two", TWO_PHASE);
    // From 18 on a slot tells that it has handed over nothing.
    if major(&cluster) < 18 {
        let (_, stderr) = Host::verb(folder.path(), &two, &["run"], 3).unwrap();
        assert!(stderr.contains("E0248") && stderr.contains("`whose`"), "{stderr}");
    }
    cluster.script("postgres", "COMMIT PREPARED 'whose'").unwrap();
    Host::verb(folder.path(), &two, &["run", "--once"], 0).unwrap();
    let lines = Lines::read(&Path::new(folder.path()).join("out/feed.jsonl")).unwrap();
    assert_eq!(lines.rows[0]["new"]["note"], "whose");
}

/// Somebody else has got its rows, and it was committed before the first start: nothing shows it but its commit.
#[test]
fn what_an_adopted_slot_has_handed_to_somebody_else_is_missed() {
    let Some(cluster) = cluster() else { return };
    let make = "
        CREATE PUBLICATION rowmill_two FOR TABLE orders, customers;
        SELECT pg_create_logical_replication_slot('rowmill_two', 'pgoutput', false, true);";
    cluster.script("postgres", make).unwrap();
    let prepared = "BEGIN; INSERT INTO orders VALUES (1, 'taken'); PREPARE TRANSACTION 'taken'";
    cluster.script("postgres", prepared).unwrap();
    let take =
        "SELECT count(*) FROM pg_logical_slot_get_binary_changes('rowmill_two', NULL, NULL, 'proto_version', '3',
        'publication_names', 'rowmill_two', 'two_phase', 'on')";
    assert_ne!(cluster.sql("postgres", take).unwrap(), "0");
    cluster
        .script(
            "postgres",
            "COMMIT PREPARED 'taken'; INSERT INTO orders VALUES (2, 'whole')",
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let two = pipeline(&cluster, "two", TWO_PHASE);
    let (_, stderr) = Host::verb(folder.path(), &two, &["run", "--once"], 4).unwrap();
    assert!(
        stderr.contains("E0248") && stderr.contains("before the first start"),
        "{stderr}"
    );
}

/// A start that ends between the slot's making and its first position has left nothing to anybody: what is prepared by the
/// next one arrives. Found by chaos: that start was refused (E0248).
#[test]
fn killed_between_the_slots_making_and_the_first_position() {
    let Some(cluster) = cluster() else {
        return println!("skipped: an older server");
    };
    let mut run = Run::new(&cluster, "made", TWO_PHASE);
    let mut first = Host::run_to(run.folder.path(), &run.pipeline, "after_slot_made", 1).unwrap();
    let status = first.wait(LONG).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}\n{}", first.log());
    let prepared = "BEGIN; INSERT INTO orders VALUES (1, 'kept'); PREPARE TRANSACTION 'kept'";
    cluster.script("postgres", prepared).unwrap();
    run.begin();
    cluster.script("postgres", "COMMIT PREPARED 'kept'").unwrap();
    run.wait_rows(1);
}

/// A slot sends the rows of a prepared transaction once, where it is prepared.
#[test]
fn a_slot_is_not_moved_past_what_is_prepared_and_not_kept() {
    let Some(cluster) = cluster() else { return };
    let mut run = Run::start(&cluster, "skipped", TWO_PHASE);
    let prepare = |id: u32, gid: &str| {
        let rows = format!("BEGIN; INSERT INTO orders VALUES ({id}, 'p'); PREPARE TRANSACTION '{gid}'");
        cluster.script("postgres", &rows).unwrap();
    };
    prepare(1, "kept");
    run.wait_kept(1);
    run.host.take().unwrap().terminate().unwrap();
    prepare(2, "missed");
    let skip = |run: &Run<'_>, code| {
        let arguments = ["slot", "skip", "--to", "now"];
        Host::verb(run.folder.path(), &run.pipeline, &arguments, code).unwrap()
    };
    let (_, refused) = skip(&run, 2);
    assert!(refused.contains("E0519") && refused.contains("`missed`"), "{refused}");
    cluster.sql("postgres", "ROLLBACK PREPARED 'missed'").unwrap();
    skip(&run, 0);
    run.begin();
    cluster.sql("postgres", "COMMIT PREPARED 'kept'").unwrap();
    run.wait_rows(1);
    assert_eq!(run.lines()[0]["new"]["id"], 1);
    run.host.take().unwrap().terminate().unwrap();
}
