//! A workload with every kind of message and every replica identity, asked for in each protocol that the server has,
//! and as it was recorded before.

use crate::shown::{assert_golden, frame, show, unhex};
use bytes::Bytes;
use rowmill::batch::Batch;
use rowmill::decode::Decoder;
use rowmill_tests::Cluster;
use std::path::{Path, PathBuf};

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE typed (id int PRIMARY KEY, m mood, p positive, n numeric(10,2));
    CREATE TABLE by_default (a int, note text, b int, PRIMARY KEY (b, a));
    CREATE TABLE by_full (id int PRIMARY KEY, note text);
    ALTER TABLE by_full REPLICA IDENTITY FULL;
    CREATE TABLE without_key (a int, note text);
    ALTER TABLE without_key REPLICA IDENTITY FULL;
    CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, note text);
    CREATE UNIQUE INDEX by_code ON by_index (code);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE by_nothing (id int PRIMARY KEY, note text);
    ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE toasted (id int PRIMARY KEY, note text, big text);
    ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE generated (id int PRIMARY KEY, a int, double int GENERATED ALWAYS AS (a * 2) STORED, z int);
    CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
    CREATE TABLE part (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
    CREATE TABLE part_us (note text, gone int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
    ALTER TABLE part_us DROP COLUMN gone;
    ALTER TABLE part ATTACH PARTITION part_us FOR VALUES IN ('us');
    CREATE PUBLICATION leaves FOR ALL TABLES;
    CREATE PUBLICATION root FOR ALL TABLES WITH (publish_via_partition_root);
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');
    SELECT pg_replication_origin_create('elsewhere');
"#;

const WORKLOAD: &str = r#"
    INSERT INTO typed VALUES (1, 'ok', 7, 1.5), (2, NULL, NULL, 'NaN');

    INSERT INTO by_default VALUES (1, 'one', 10);
    UPDATE by_default SET note = 'uno';
    UPDATE by_default SET a = 2;
    UPDATE by_default SET b = 20, note = NULL;
    DELETE FROM by_default;
    INSERT INTO by_full VALUES (1, NULL);
    UPDATE by_full SET note = 'one';
    UPDATE by_full SET id = 2;
    DELETE FROM by_full;
    INSERT INTO without_key VALUES (1, 'same'), (1, 'same');
    UPDATE without_key SET note = 'other' WHERE ctid = '(0,1)';
    DELETE FROM without_key;
    INSERT INTO by_index VALUES (1, 'a', 'one');
    UPDATE by_index SET id = 2;
    UPDATE by_index SET code = 'b';
    DELETE FROM by_index;
    INSERT INTO by_nothing VALUES (1, 'inserted only');
    INSERT INTO toasted VALUES (1, 'a', repeat('x', 9000));
    UPDATE toasted SET note = 'b';
    UPDATE toasted SET id = 2;
    INSERT INTO generated VALUES (1, 5, DEFAULT, 9);
    UPDATE generated SET a = 6;

    BEGIN;
    INSERT INTO typed VALUES (10, 'sad', 1, 0);
    SAVEPOINT outer_one;
    INSERT INTO typed VALUES (11, 'sad', 1, 0);
    SAVEPOINT inner_one;
    INSERT INTO typed VALUES (12, 'sad', 1, 0);
    ROLLBACK TO outer_one;
    ROLLBACK;
    BEGIN;
    INSERT INTO typed VALUES (20, 'sad', 1, 0);
    SAVEPOINT one;
    INSERT INTO typed VALUES (21, 'sad', 1, 0);
    SAVEPOINT two;
    INSERT INTO typed VALUES (22, 'sad', 1, 0);
    RELEASE two;
    ROLLBACK TO one;
    INSERT INTO typed VALUES (23, 'sad', 1, 0);
    SAVEPOINT three;
    UPDATE typed SET id = 24 WHERE id = 23;
    RELEASE three;
    COMMIT;
    DO $$ BEGIN
        INSERT INTO typed VALUES (30, 'ok', 1, 0);
        BEGIN INSERT INTO typed VALUES (31, 'ok', 1, 0), (30, 'ok', 1, 0);
        EXCEPTION WHEN unique_violation THEN INSERT INTO typed VALUES (32, 'ok', 1, 0); END;
    END $$;

    BEGIN;
    SELECT pg_logical_emit_message(true, 'in', 'transaction');
    SELECT pg_logical_emit_message(false, 'outside', 'of it');
    INSERT INTO typed VALUES (40, 'ok', 1, 0);
    SELECT pg_logical_emit_message(true, '', '\x00ff'::bytea);
    COMMIT;
    BEGIN;
    SELECT pg_logical_emit_message(true, 'rolled', 'back');
    SELECT pg_logical_emit_message(false, 'rolled', 'back, but outside');
    ROLLBACK;

    SELECT pg_replication_origin_session_setup('elsewhere');
    BEGIN;
    SELECT pg_replication_origin_xact_setup('0/99', '2024-01-01');
    INSERT INTO typed VALUES (50, 'ok', 1, 0);
    COMMIT;
    SELECT pg_replication_origin_session_reset();

    INSERT INTO part VALUES (1, 'eu', 'one'), (2, 'us', 'two');
    UPDATE part SET note = 'changed';
    UPDATE part SET region = 'us' WHERE id = 1;
    UPDATE part SET id = 3 WHERE id = 2;
    DELETE FROM part WHERE id = 1;

    TRUNCATE by_default;
    TRUNCATE by_full, typed RESTART IDENTITY;
    TRUNCATE parent RESTART IDENTITY CASCADE;
    TRUNCATE part;
    TRUNCATE part_us;
    BEGIN;
    INSERT INTO typed VALUES (60, 'ok', 1, 0);
    TRUNCATE typed;
    INSERT INTO typed VALUES (61, 'ok', 1, 0);
    COMMIT;
"#;

/// Messages as hexadecimal lines.
fn messages(cluster: &Cluster, protocol: u32, publication: &str) -> String {
    let options = format!("'proto_version', '{protocol}', 'publication_names', '{publication}', 'messages', 'true'");
    let query =
        format!("SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, {options})");
    cluster.sql("postgres", &query).unwrap()
}

fn decoded(messages: &str) -> String {
    let frames: Vec<u8> = messages.lines().flat_map(|hex| frame(&unhex(hex))).collect();
    let batch: Batch = Decoder::default().decode(Bytes::from(frames)).unwrap();
    let mut lines = Vec::new();
    for (at, transaction) in batch.transactions.iter().enumerate() {
        lines.push(format!("{:?} transaction", transaction.part));
        let rows = batch.rows.iter().filter(|row| row.transaction as usize == at);
        lines.extend(rows.map(|row| format!("  {} {}", row.ordinal, show(&batch, row))));
    }
    lines.join("\n")
}

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pgoutput")
}

#[test]
fn every_message_in_every_protocol_comes_out_alike() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", SCHEMA).unwrap();
    cluster.script("postgres", WORKLOAD).unwrap();
    // Publishing a table without identity refuses what the stream couldn't tell.
    for change in ["UPDATE by_nothing SET note = ''", "DELETE FROM by_nothing"] {
        let refused = cluster.sql("postgres", change).unwrap_err().to_string();
        assert!(refused.contains("does not have a replica identity"), "{refused}");
    }

    let version: u32 = cluster
        .sql("postgres", "SHOW server_version_num")
        .unwrap()
        .parse()
        .unwrap();
    let newest = (version / 10_000 - 12).min(4);
    for publication in ["leaves", "root"] {
        for protocol in 1..=newest {
            let messages = messages(&cluster, protocol, publication);
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(recordings()).unwrap();
                let name = format!("{}-protocol-{protocol}-{publication}.hex", version / 10_000);
                std::fs::write(recordings().join(name), &messages).unwrap();
            }
            assert_golden(&decoded(&messages), &format!("tests/golden/{publication}.txt"));
        }
    }
}

/// What servers of any version sent before is still read as it was.
#[test]
fn recorded_messages_are_read_as_they_were() {
    let mut read = 0;
    for entry in std::fs::read_dir(recordings()).unwrap() {
        let path = entry.unwrap().path();
        let publication = if path.to_string_lossy().ends_with("root.hex") {
            "root"
        } else {
            "leaves"
        };
        let messages = std::fs::read_to_string(&path).unwrap();
        let expected = std::fs::read_to_string(recordings().join(format!("../{publication}.txt"))).unwrap();
        assert_eq!(decoded(&messages), expected, "{}", path.display());
        read += 1;
    }
    assert!(read >= 6);
}
