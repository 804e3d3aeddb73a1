//! The decoders against a real server: what it sends must come out as what it holds.

mod evolving;
mod messages;
mod shown;
mod streamed;
mod two_phase;

use bytes::Bytes;
use rowmill::batch::{Batch, Lsn, OldImage, Origin, Part, Transaction};
use rowmill::decode::{CopyDecoder, Decoder};
use rowmill_tests::Cluster;
use shown::{assert_golden, frame, show, unhex};
use std::sync::Arc;

const SCHEMA: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, name text, big text);
    ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE whole (id int PRIMARY KEY, name text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE "Quoted_"" . Schema" (a int, b int, PRIMARY KEY (a, b));
    CREATE PUBLICATION p FOR ALL TABLES;
    SELECT pg_create_logical_replication_slot('s', 'pgoutput');
"#;

const WORKLOAD: &str = r#"
    BEGIN;
    INSERT INTO plain VALUES (1, 'one', repeat('x', 9000)), (2, NULL, 'small'), (3, E'tab\tback\\slash\nline', '');
    SAVEPOINT a;
    INSERT INTO plain VALUES (99, 'never', '');
    ROLLBACK TO a;
    UPDATE plain SET name = 'uno' WHERE id = 1;
    UPDATE plain SET id = 20 WHERE id = 2;
    DELETE FROM plain WHERE id = 3;
    COMMIT;
    INSERT INTO whole VALUES (1, 'a');
    UPDATE whole SET name = 'b';
    DELETE FROM whole;
    INSERT INTO "Quoted_"" . Schema" VALUES (1, 2);
    SELECT pg_logical_emit_message(true, 'in', 'side'), pg_logical_emit_message(false, 'out', 'side');
    TRUNCATE plain, whole RESTART IDENTITY CASCADE;
"#;

/// The stream of the workload as frames, one per message.
fn frames(cluster: &Cluster) -> Vec<Vec<u8>> {
    cluster.script("postgres", SCHEMA).unwrap();
    cluster.script("postgres", WORKLOAD).unwrap();
    let options = "'proto_version', '1', 'publication_names', 'p', 'messages', 'true'";
    let query =
        format!("SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, {options})");
    let messages = cluster.sql("postgres", &query).unwrap();
    messages.lines().map(|hex| frame(&unhex(hex))).collect()
}

fn show_all(batches: &[Batch]) -> Vec<String> {
    let with_place = |batch: &Batch| -> Vec<String> {
        batch
            .rows
            .iter()
            .map(|row| {
                format!(
                    "{:X}#{} {}",
                    batch.transaction(row).commit_lsn.0,
                    row.ordinal,
                    show(batch, row)
                )
            })
            .collect()
    };
    batches.iter().flat_map(with_place).collect()
}

#[test]
fn every_change_comes_out_as_it_was_made() {
    let cluster = Cluster::start().unwrap();
    let frames = frames(&cluster);
    let mut decoder = Decoder::default();
    let batch = decoder.decode(Bytes::from(frames.concat())).unwrap();
    let shown: Vec<String> = batch.rows.iter().map(|row| show(&batch, row)).collect();
    assert_golden(&shown.join("\n"), "tests/golden/decode.txt");
    assert!(batch.ends_at_commit());
    assert!(
        batch
            .transactions
            .iter()
            .all(|transaction| transaction.part == Part::Whole)
    );
    assert!(batch.end > Lsn(0));
    assert!(batch.rows.iter().filter(|row| row.old_image == OldImage::Full).count() == 2);

    // However the stream is cut, rows, ordinals and positions are the same.
    let whole = show_all(&[batch]);
    for at in 1..frames.len() {
        let mut decoder = Decoder::default();
        let first = decoder.decode(Bytes::from(frames[..at].concat())).unwrap();
        let second = decoder.decode(Bytes::from(frames[at..].concat())).unwrap();
        assert_eq!(show_all(&[first, second]), whole, "cut before frame {at}");
    }
    one_by_one(&frames, &whole);
    never_panics(&frames);
}

/// Each frame for itself: the parts of a transaction are First, Middle..., Last, and only its end moves `end`.
fn one_by_one(frames: &[Vec<u8>], whole: &[String]) {
    let mut decoder = Decoder::default();
    let batches: Vec<Batch> = frames
        .iter()
        .map(|frame| decoder.decode(Bytes::from(frame.clone())).unwrap())
        .collect();
    assert_eq!(show_all(&batches), whole);
    let parts: Vec<Part> = batches
        .iter()
        .flat_map(|batch| batch.transactions.iter().map(|t| t.part))
        .collect();
    assert!(parts.contains(&Part::First) && parts.contains(&Part::Middle) && parts.contains(&Part::Last));
    for batch in &batches {
        let complete = batch
            .transactions
            .iter()
            .any(|t| t.is_complete() && t.end_lsn != Lsn(0));
        assert_eq!(batch.end != Lsn(0), complete);
    }
}

/// Cut anywhere or with any byte changed, a frame gives rows or an error.
fn never_panics(frames: &[Vec<u8>]) {
    let relations: Vec<u8> = frames
        .iter()
        .filter(|frame| frame[30] == b'R' || frame[30] == b'B')
        .take(2)
        .flatten()
        .copied()
        .collect();
    for frame in frames.iter().filter(|frame| frame.len() < 300) {
        for at in 5..frame.len() {
            let mut cut = frame[..at].to_vec();
            cut[1..5].copy_from_slice(&(at as u32 - 1).to_be_bytes());
            let _ = Decoder::default().decode(Bytes::from([relations.clone(), cut].concat()));
            for bit in 0..8 {
                let mut flipped = frame.clone();
                flipped[at] ^= 1 << bit;
                let _ = Decoder::default().decode(Bytes::from([relations.clone(), flipped].concat()));
            }
        }
    }
}

#[test]
fn copy_and_stream_agree() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", SCHEMA).unwrap();
    cluster.sql("postgres", r"INSERT INTO plain SELECT n, CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN E'\\N' ELSE E'a\tb\\c\nd\re\b\f\v' || n END, chr(64 + n) FROM generate_series(1, 40) n").unwrap();
    let query = "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')";
    let messages = cluster.sql("postgres", query).unwrap();
    let stream: Vec<u8> = messages.lines().flat_map(|hex| frame(&unhex(hex))).collect();
    let streamed = Decoder::default().decode(Bytes::from(stream)).unwrap();

    let copied = cluster.sql("postgres", "COPY plain TO STDOUT").unwrap();
    let relation = Arc::clone(&streamed.relations[0]);
    let mut decoder = CopyDecoder::new(relation);
    for line in copied.lines() {
        decoder.push(format!("{line}\n").as_bytes()).unwrap();
    }
    let transaction = Transaction {
        origin: Origin::Stream,
        ..streamed.transactions[0]
    };
    let copied = decoder.finish(transaction);
    assert_eq!(copied.rows.len(), 40);
    for (from_copy, from_stream) in copied.rows.iter().zip(&streamed.rows) {
        let copy = show(&copied, from_copy).replacen("read", "insert", 1);
        assert_eq!(copy, show(&streamed, from_stream));
    }
}
