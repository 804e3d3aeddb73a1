//! Rows too long for parameters.

use super::*;
use crate::sink::postgres::long::LONG_BYTES;

const MADE: &str = "CREATE TABLE blobs (id int PRIMARY KEY, body bytea, note text);
    CREATE TABLE heap (id int, body bytea, note text);";

fn table(name: &str, keyed: bool) -> Arc<Relation> {
    relation(
        name,
        &[
            ("id", 23, "integer", keyed),
            ("body", 17, "bytea", false),
            ("note", 25, "text", false),
        ],
    )
}

/// Every kind of change, with long texts and long bytes, beside short rows before and behind them.
#[tokio::test]
async fn long_rows_of_every_change_arrive() {
    let cluster = target(MADE);
    let (blobs, heap) = (table("blobs", true), table("heap", false));
    let long = [b'\\', 0, 255].repeat(LONG_BYTES / 3 + 1);
    let other = vec![7_u8; LONG_BYTES];
    let words = "word\t".repeat(LONG_BYTES / 5 + 1);
    let (long, other, words) = (Value::Binary(&long), Value::Binary(&other), text(&words));
    let mut sink = open(&cluster).await;
    let rows = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&blobs, &[text("1"), text("\\x01"), text("short")])
        .insert(&blobs, &[text("2"), long, text("inserted")])
        .insert(&blobs, &[text("3"), NULL, words])
        .insert(&blobs, &[text("4"), text("\\x04"), text("short")])
        .insert(&blobs, &[text("4"), other, words])
        .update(&blobs, &[text("2"), UNCHANGED, words], None)
        .update(&blobs, &[text("1"), long, UNCHANGED], None)
        .update(
            &blobs,
            &[text("30"), other, text("moved")],
            Some(&[text("3"), ABSENT, ABSENT]),
        );
    deliver(&mut sink, &rows.delivery(1)).await;
    // As strict as a subscription, and without a key: the old row is found by all of its values.
    let mut mirror = open_mirror_as(&cluster, OnConflict::Error, &context("mirror")).await;
    let rows = Builder::new()
        .transaction(0x20, Part::Whole)
        .insert(&blobs, &[text("5"), other, NULL])
        .insert(&heap, &[text("1"), long, text("stays")])
        .insert(&heap, &[text("1"), long, words])
        .insert(&heap, &[text("2"), other, NULL])
        .update(&heap, &[text("1"), other, NULL], Some(&[text("1"), long, words]))
        .delete(&heap, &[text("2"), other, NULL])
        .update(&blobs, &[text("5"), UNCHANGED, words], None);
    deliver(&mut mirror, &rows.delivery(1)).await;
    let found = |table: &str| {
        let columns =
            "id, length(body), md5(body) = md5(decode(repeat('5c00ff', 2796203), 'hex')), left(note, 8), length(note)";
        let select = format!("SELECT {columns} FROM {table} ORDER BY id, 4");
        cluster.sql("postgres", &select).unwrap()
    };
    let words = "word\twor|8388610";
    let expected = [
        "1|8388609|t|short|5".to_owned(),
        format!("2|8388609|t|{words}"),
        format!("4|8388608|f|{words}"),
        format!("5|8388608|f|{words}"),
        "30|8388608|f|moved|5".to_owned(),
    ];
    assert_eq!(found("blobs"), expected.join("\n"));
    assert_eq!(found("heap"), "1|8388609|t|stays|5\n1|8388608|f||");
    let left = "SELECT count(*) FROM pg_class WHERE relname = 'rowmill_long'";
    assert_eq!(cluster.sql("postgres", left).unwrap(), "0");
}

/// Who may make no temporary table gets the row all the same; and one that is refused is named.
#[tokio::test]
async fn long_rows_arrive_without_temporary_tables_and_are_refused_as_others_are() {
    let cluster = target(MADE);
    let role = "CREATE ROLE writer LOGIN; GRANT CREATE ON DATABASE postgres TO writer;
        GRANT ALL ON blobs TO writer; REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC";
    cluster.script("postgres", role).unwrap();
    let blobs = table("blobs", true);
    let words = "words ".repeat(LONG_BYTES / 6 + 1);
    let row = |id| {
        Builder::new()
            .transaction(0x10, Part::Whole)
            .insert(&blobs, &[text(id), NULL, text(&words)])
    };
    let url = cluster.url("postgres").replace("postgres@", "writer@");
    let mut sink = PostgresSink::new(&sink_to(url));
    sink.open(&context("poor")).await.unwrap();
    deliver(&mut sink, &row("1").delivery(1)).await;
    let found = "SELECT id, length(note) FROM blobs";
    assert_eq!(cluster.sql("postgres", found).unwrap(), "1|8388612");
    let mut mirror = open_mirror(&cluster, OnConflict::Error).await;
    let refused = problem(applied(&mut mirror, &row("1").delivery(1)).await);
    assert_eq!(refused.code, "E0414", "{refused:?}");
    assert!(!format!("{refused:?}").contains("words words"));
}
