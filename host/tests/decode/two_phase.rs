//! Prepared transactions come out at their commit as if they had been sent then: live, and as recorded.

use crate::shown::{assert_golden, frame, show, unhex};
use bytes::Bytes;
use rowmill::assemble::{Assembler, Ledger, begin_prepared};
use rowmill::batch::{Batch, Lsn};
use rowmill::decode::{DecodeError, Decoder};
use rowmill_tests::{Cluster, ClusterOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE t (id int PRIMARY KEY, m mood, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE TABLE altered (id int PRIMARY KEY);
    CREATE TABLE noise (n int);
    CREATE PUBLICATION p FOR TABLE t, altered;
    SELECT pg_create_logical_replication_slot('two', 'pgoutput', false, true);
    SELECT pg_create_logical_replication_slot('one', 'pgoutput', false, false);
";

/// The rows of `noise` aren't published: they fill the server's memory, so that what they stand in is streamed.
const WORKLOAD: &str = "
    BEGIN; INSERT INTO t VALUES (1, 'ok', 'first'); UPDATE t SET note = 'changed'; PREPARE TRANSACTION 'a';
    INSERT INTO t VALUES (2, 'ok', 'alone');
    BEGIN; INSERT INTO t VALUES (3, 'sad', 'large'); INSERT INTO noise SELECT generate_series(1, 2000);
        SAVEPOINT one; INSERT INTO t VALUES (4, 'ok', 'rolled back'); INSERT INTO noise SELECT generate_series(1, 2000);
        ROLLBACK TO one; INSERT INTO t VALUES (5, 'ok', 'stays');
        SELECT pg_logical_emit_message(true, 'in', 'side'); PREPARE TRANSACTION 'large';
    BEGIN; INSERT INTO t VALUES (6, 'ok', 'never'); PREPARE TRANSACTION 'never';
    BEGIN; INSERT INTO altered VALUES (1); ALTER TABLE altered ADD COLUMN more text DEFAULT 'm';
        INSERT INTO altered VALUES (2, 'new'); PREPARE TRANSACTION 'altered';
    BEGIN; SELECT * FROM t WHERE id = 2 FOR UPDATE; PREPARE TRANSACTION 'locks'; COMMIT PREPARED 'locks';
    INSERT INTO t VALUES (7, 'ok', 'between');
    COMMIT PREPARED 'large';
    ROLLBACK PREPARED 'never';
    COMMIT PREPARED 'altered';
    COMMIT PREPARED 'a';
    BEGIN; TRUNCATE altered; INSERT INTO altered VALUES (3, 'again'); PREPARE TRANSACTION 'a';
    COMMIT PREPARED 'a';
";

/// Messages as hexadecimal lines.
fn messages(cluster: &Cluster, slot: &str, protocol: u32, more: &str) -> String {
    let query = format!(
        "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL,
         'proto_version', '{protocol}', 'publication_names', 'p', 'messages', 'true'{more})"
    );
    cluster.sql("postgres", &query).unwrap()
}

const TWO_PHASE: &str = ", 'two_phase', 'on'";
const STREAMED: &str = ", 'two_phase', 'on', 'streaming', 'on'";

/// Rows of each transaction with its id and their ordinals, in the order in which they come.
fn decoded(messages: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    begin_prepared(folder.path()).unwrap();
    let assembler = Assembler::new(folder.path(), 1 << 20, Arc::default()).unwrap();
    let mut assembler = assembler
        .keep_prepared(folder.path(), Lsn(0), || Lsn(0), Ledger::default())
        .unwrap();
    let mut decoder = Decoder::default();
    let mut batches: Vec<Batch> = Vec::new();
    for hex in messages.lines() {
        let mut give = |bytes| -> Result<(), DecodeError> {
            batches.push(decoder.decode(bytes)?);
            Ok(())
        };
        assembler.feed(&Bytes::from(frame(&unhex(hex))), &mut give).unwrap();
    }
    let mut xids = Vec::new();
    let mut of_batch = |batch: &Batch| -> Vec<String> {
        let shown = |row| {
            // Counted, as servers don't agree on them.
            let xid = batch.transaction(row).xid;
            let number = xids.iter().position(|known| *known == xid).unwrap_or_else(|| {
                xids.push(xid);
                xids.len() - 1
            });
            format!("{number}#{} {}", row.ordinal, show(batch, row))
        };
        batch.rows.iter().map(shown).collect()
    };
    batches.iter().flat_map(&mut of_batch).collect::<Vec<_>>().join("\n")
}

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/two_phase")
}

/// With BLESS its messages are recorded.
#[test]
fn prepared_and_not_come_out_alike() {
    let settings = ["logical_decoding_work_mem=64kB", "max_prepared_transactions=10"];
    let cluster = Cluster::start_with(&ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        hba: Vec::new(),
    })
    .unwrap();
    let version = cluster.sql("postgres", "SHOW server_version_num").unwrap();
    let major = version.parse::<u32>().unwrap() / 10_000;
    if major < 15 {
        return println!("skipped: version {major} sends nothing when a transaction is prepared");
    }
    cluster.script("postgres", SCHEMA).unwrap();
    cluster.script("postgres", WORKLOAD).unwrap();

    let streaming = if major >= 16 { 4 } else { 3 };
    let sent = [
        ("whole", 3, messages(&cluster, "two", 3, TWO_PHASE)),
        ("streamed", streaming, messages(&cluster, "two", streaming, STREAMED)),
    ];
    let in_commit_order = decoded(&messages(&cluster, "one", 1, ""));
    for (name, protocol, sent) in &sent {
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(recordings()).unwrap();
            let file = format!("{major}-protocol-{protocol}-{name}.hex");
            std::fs::write(recordings().join(file), sent).unwrap();
        }
        assert_eq!(decoded(sent), in_commit_order, "{name}");
        // b, K and r; and p where it is streamed.
        let kinds = ["62", "4b", "72", if *name == "streamed" { "70" } else { "50" }];
        for kind in kinds {
            assert!(sent.lines().any(|hex| hex.starts_with(kind)), "no message {kind}");
        }
    }
    assert_golden(&in_commit_order, "tests/golden/two_phase.txt");
}

#[test]
fn recorded_prepared_transactions_are_read_as_they_were() {
    let expected = std::fs::read_to_string(recordings().join("../two_phase.txt")).unwrap();
    let mut majors = Vec::new();
    for entry in std::fs::read_dir(recordings()).unwrap() {
        let path = entry.unwrap().path();
        let messages = std::fs::read_to_string(&path).unwrap();
        assert_eq!(decoded(&messages), expected, "{}", path.display());
        majors.push(path.file_name().unwrap().to_string_lossy()[..2].to_owned());
    }
    assert!(majors.iter().any(|major| major == "15") && majors.iter().any(|major| major == "18"));
}
