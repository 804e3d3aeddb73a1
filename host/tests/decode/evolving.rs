//! Schema changes between the rows of one transaction and of several: each row comes with the columns that it was
//! written with, whatever the catalog holds when it is read.

use crate::shown::{assert_golden, frame, show, unhex};
use bytes::Bytes;
use rowmill::batch::{Batch, Row};
use rowmill::decode::Decoder;
use rowmill_tests::Cluster;

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, a text, b int);
    CREATE PUBLICATION p FOR ALL TABLES;
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');";

const WORKLOAD: &str = r#"
    INSERT INTO t VALUES (1, 'one', 1);
    BEGIN;
    INSERT INTO t VALUES (2, 'two', 2);
    ALTER TABLE t ADD COLUMN added text DEFAULT 'd';
    INSERT INTO t VALUES (3, 'three', 3, 'x');
    ALTER TABLE t RENAME COLUMN a TO renamed;
    UPDATE t SET b = 33 WHERE id = 3;
    ALTER TABLE t ALTER COLUMN b TYPE text;
    INSERT INTO t VALUES (4, 'four', 'four', NULL);
    ALTER TABLE t DROP COLUMN b;
    DELETE FROM t WHERE id = 1;
    INSERT INTO t VALUES (5, 'five', 'x');
    ALTER TABLE t ADD COLUMN b int;
    INSERT INTO t VALUES (6, 'six', 'x', 66);
    SAVEPOINT s;
    ALTER TABLE t ADD COLUMN taken_back int;
    INSERT INTO t VALUES (7, 'never', 'x', 0, 0);
    ROLLBACK TO s;
    INSERT INTO t VALUES (8, 'eight', 'x', 88);
    COMMIT;
    ALTER TABLE t DROP CONSTRAINT t_pkey;
    ALTER TABLE t REPLICA IDENTITY FULL;
    UPDATE t SET b = 888 WHERE id = 8;
    ALTER TABLE t RENAME TO renamed_table;
    INSERT INTO renamed_table VALUES (9, 'nine', 'x', 99);
    DROP TABLE renamed_table;
    CREATE TABLE t (other uuid PRIMARY KEY);
    INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000001');
    BEGIN;
    DROP TABLE t;
    CREATE TABLE t (id int PRIMARY KEY, again text);
    INSERT INTO t VALUES (1, 'again');
    COMMIT;
"#;

/// A row with its columns' names and types.
fn show_shaped(batch: &Batch, row: &Row) -> String {
    let relation = batch.relation(row);
    let columns = relation
        .columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.type_name));
    let columns: Vec<String> = columns.collect();
    format!("v{} [{}] {}", relation.version, columns.join(", "), show(batch, row))
}

#[test]
fn each_row_comes_with_the_columns_that_it_was_written_with() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", SCHEMA).unwrap();
    cluster.script("postgres", WORKLOAD).unwrap();
    let query = "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')";
    let messages = cluster.sql("postgres", query).unwrap();
    let frames: Vec<Vec<u8>> = messages.lines().map(|hex| frame(&unhex(hex))).collect();
    let rows = |batch: &Batch| -> Vec<String> { batch.rows.iter().map(|row| show_shaped(batch, row)).collect() };

    let mut decoder = Decoder::default();
    let whole = rows(&decoder.decode(Bytes::from(frames.concat())).unwrap());
    assert_golden(&whole.join("\n"), "tests/golden/evolving.txt");

    // Cut between any two messages, the same.
    let mut decoder = Decoder::default();
    let cut: Vec<String> = frames
        .iter()
        .flat_map(|frame| rows(&decoder.decode(Bytes::from(frame.clone())).unwrap()))
        .collect();
    assert_eq!(cut, whole);
}
