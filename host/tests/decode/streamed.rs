//! Transactions that a server sent while they were in progress come out as if it had not: live, and as recorded.

use crate::shown::{assert_golden, frame, show, unhex};
use bytes::Bytes;
use rowmill::assemble::Assembler;
use rowmill::batch::Batch;
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
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');
";

/// Rows of a table that isn't published fill the server's memory, so that the blocks are small.
const FILL: &str = "INSERT INTO noise SELECT generate_series(1, 2000)";

/// By connection, in the order in which they happen.
const WORKLOAD: [(usize, &str); 31] = [
    (0, "BEGIN"),
    (0, "INSERT INTO t VALUES (1, 'ok', 'a'), (2, 'sad', NULL)"),
    (0, FILL),
    (1, "BEGIN"),
    (1, "INSERT INTO t VALUES (10, 'ok', 'b')"),
    (1, "SAVEPOINT one"),
    (1, "INSERT INTO t VALUES (11, 'ok', 'rolled back')"),
    (1, FILL),
    (0, "UPDATE t SET note = 'changed' WHERE id = 1"),
    (0, FILL),
    (1, "SAVEPOINT two"),
    (1, "INSERT INTO t VALUES (12, 'ok', 'rolled back')"),
    (1, FILL),
    (1, "RELEASE two"),
    (1, "ROLLBACK TO one"),
    (1, "INSERT INTO t VALUES (13, 'ok', 'stays')"),
    (1, FILL),
    (2, "INSERT INTO t VALUES (20, 'ok', 'alone')"),
    (2, "BEGIN"),
    (2, "INSERT INTO altered VALUES (1)"),
    (2, FILL),
    (2, "ALTER TABLE altered ADD COLUMN more text DEFAULT 'm'"),
    (2, "INSERT INTO altered VALUES (2, 'new')"),
    (
        2,
        "SELECT pg_logical_emit_message(true, 'in', 'side'), pg_logical_emit_message(false, 'out', 'side')",
    ),
    (2, FILL),
    (1, "COMMIT"),
    (0, "DELETE FROM t WHERE id = 2"),
    (0, "COMMIT"),
    (2, "TRUNCATE altered"),
    (2, "INSERT INTO altered VALUES (3, 'last')"),
    (2, "COMMIT"),
];

/// Rolled back as a whole, behind all others.
const ROLLED_BACK: [&str; 4] = ["BEGIN", "INSERT INTO t VALUES (30, 'ok', 'never')", FILL, "ROLLBACK"];

async fn work(url: &str) {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        clients.push(client);
    }
    for (client, sql) in WORKLOAD.into_iter().chain(ROLLED_BACK.map(|sql| (0, sql))) {
        clients[client].batch_execute(sql).await.unwrap();
    }
}

/// Messages as hexadecimal lines.
fn messages(cluster: &Cluster, protocol: u32, streaming: bool) -> String {
    let streaming = if streaming { ", 'streaming', 'on'" } else { "" };
    let query = format!(
        "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,
         'proto_version', '{protocol}', 'publication_names', 'p', 'messages', 'true'{streaming})"
    );
    cluster.sql("postgres", &query).unwrap()
}

/// Rows of each transaction with their ordinals, in the order in which they come.
fn decoded(messages: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut assembler = Assembler::new(folder.path(), 1 << 20, Arc::default()).unwrap();
    let mut decoder = Decoder::default();
    let mut batches: Vec<Batch> = Vec::new();
    let mut give = |bytes| -> Result<(), DecodeError> {
        batches.push(decoder.decode(bytes)?);
        Ok(())
    };
    for hex in messages.lines() {
        assembler.feed(&Bytes::from(frame(&unhex(hex))), &mut give).unwrap();
    }
    let of_batch = |batch: &Batch| -> Vec<String> {
        batch
            .rows
            .iter()
            .map(|row| format!("{} {}", row.ordinal, show(batch, row)))
            .collect()
    };
    batches.iter().flat_map(of_batch).collect::<Vec<_>>().join("\n")
}

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/streamed")
}

#[test]
fn streamed_and_not_come_out_alike() {
    let settings = vec!["logical_decoding_work_mem=64kB".to_owned()];
    let cluster = Cluster::start_with(&ClusterOptions {
        settings,
        hba: Vec::new(),
    })
    .unwrap();
    cluster.script("postgres", SCHEMA).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(&cluster.url("postgres")));

    let version = cluster.sql("postgres", "SHOW server_version_num").unwrap();
    let major = version.parse::<u32>().unwrap() / 10_000;
    let protocol = if major >= 16 { 4 } else { 2 };
    let streamed = messages(&cluster, protocol, true);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(recordings()).unwrap();
        std::fs::write(recordings().join(format!("{major}-protocol-{protocol}.hex")), &streamed).unwrap();
    }
    // S, A and c: they were streamed indeed, and parts of them rolled back.
    for kind in ["53", "41", "63"] {
        assert!(streamed.lines().any(|hex| hex.starts_with(kind)), "no message {kind}");
    }
    let in_commit_order = decoded(&messages(&cluster, 1, false));
    assert_eq!(positions_apart(&decoded(&streamed)), positions_apart(&in_commit_order));
    assert_golden(&positions_apart(&in_commit_order), "tests/golden/streamed.txt");
}

/// A message outside of transactions comes where it was written, which is before the transactions that were open then:
/// when those are streamed, it stands between their blocks. Either way it belongs to none.
fn positions_apart(decoded: &str) -> String {
    let (outside, inside): (Vec<&str>, Vec<&str>) =
        decoded.lines().partition(|line| line.contains("transactional=false"));
    [inside, outside].concat().join("\n")
}

#[test]
fn recorded_blocks_are_read_as_they_were() {
    let expected = std::fs::read_to_string(recordings().join("../streamed.txt")).unwrap();
    let mut read = 0;
    for entry in std::fs::read_dir(recordings()).unwrap() {
        let path = entry.unwrap().path();
        let messages = std::fs::read_to_string(&path).unwrap();
        assert_eq!(positions_apart(&decoded(&messages)), expected, "{}", path.display());
        read += 1;
    }
    assert!(read >= 1);
}
