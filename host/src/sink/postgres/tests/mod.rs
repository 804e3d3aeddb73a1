use super::*;
use crate::batch::{Op, Part, Relation, Value};
use crate::config::{Duration, OnConflict, Secret, WriteMode};
use crate::problem::Problem;
use crate::sink::testing::{Builder, COMMIT_BYTES, context, orders, relation, text};
use rowmill_tests::Cluster;
use std::sync::Arc;

mod aborted;
mod copied;
mod deferred;
mod driven;
mod exact;
mod exactly_once;
mod facts;
mod halved;
mod letters;
mod long;
mod made;
mod model;
mod refused;
mod relaxed;
mod seams;
mod speed;
mod straight;
mod trail;

const NULL: Value<'static> = Value::Null;
const UNCHANGED: Value<'static> = Value::Unchanged;
const ABSENT: Value<'static> = Value::Absent;

const CREATE_ORDERS: &str =
    "CREATE TABLE orders (id bigint PRIMARY KEY, name text, total numeric, own text DEFAULT 'd')";

fn target(create: &str) -> Cluster {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", create).unwrap();
    cluster
}

fn sink_to(url: String) -> config::PostgresSink {
    config::PostgresSink {
        url: Secret::new(url),
        flush_interval: Duration(std::time::Duration::from_millis(200)),
        mode: WriteMode::Upsert,
        conflict: OnConflict::Error,
        create_tables: false,
        audit: None,
        relay: None,
        relaxed: None,
    }
}

fn sink(cluster: &Cluster) -> PostgresSink {
    PostgresSink::new(&sink_to(cluster.url("postgres")))
}

/// As strict as a subscription.
async fn open_mirror(cluster: &Cluster, conflict: OnConflict) -> PostgresSink {
    open_mirror_as(cluster, conflict, &context("warehouse")).await
}

async fn open_mirror_as(cluster: &Cluster, conflict: OnConflict, context: &SinkContext) -> PostgresSink {
    let config = config::PostgresSink {
        mode: WriteMode::Mirror,
        conflict,
        ..sink_to(cluster.url("postgres"))
    };
    let mut sink = PostgresSink::new(&config);
    sink.open(context).await.unwrap();
    sink
}

async fn open(cluster: &Cluster) -> PostgresSink {
    let mut sink = sink(cluster);
    sink.open(&context("warehouse")).await.unwrap();
    sink
}

async fn deliver(sink: &mut PostgresSink, delivery: &Delivery) {
    sink.write(delivery).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), delivery.sequence);
}

/// Deliveries are applied when they are flushed, if not before.
async fn applied(sink: &mut PostgresSink, delivery: &Delivery) -> Result<u64, SinkError> {
    sink.write(delivery).await?;
    sink.flush().await
}

fn problem<T: std::fmt::Debug>(result: Result<T, SinkError>) -> Problem {
    match result {
        Err(SinkError::Definite(problem)) => *problem,
        other => panic!("{other:?}"),
    }
}

fn rows(cluster: &Cluster) -> String {
    cluster
        .sql(
            "postgres",
            "SELECT id, name, total, own FROM orders ORDER BY id, name, total",
        )
        .unwrap()
}

#[tokio::test]
async fn every_change_arrives() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    let orders = orders();
    let first = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&orders, &[text("1"), text("a"), text("1.50")])
        .insert(&orders, &[text("2"), text("b"), NULL])
        .insert(&orders, &[text("3"), text("tab\tline\n\\N"), text("NaN")])
        .insert(&orders, &[text("4"), text(""), text("4")])
        .insert(&orders, &[text("5"), text("e"), text("5")]);
    deliver(&mut sink, &first.delivery(1)).await;
    assert_eq!(
        rows(&cluster),
        "1|a|1.50|d\n2|b||d\n3|tab\tline\n\\N|NaN|d\n4||4|d\n5|e|5|d"
    );

    let second = Builder::new()
        .transaction(0x20, Part::Whole)
        .update(&orders, &[text("1"), text("a2"), text("1")], None)
        .update(&orders, &[text("1"), text("a3"), text("1")], None)
        .update(&orders, &[text("2"), UNCHANGED, text("2")], None)
        .delete(&orders, &[text("3"), ABSENT, ABSENT])
        .update(
            &orders,
            &[text("40"), UNCHANGED, text("4")],
            Some(&[text("4"), ABSENT, ABSENT]),
        )
        .message("prefix", b"content")
        .transaction(0x30, Part::Whole)
        .update(&orders, &[text("9"), UNCHANGED, text("9")], None)
        .update(
            &orders,
            &[text("80"), text("h"), text("8")],
            Some(&[text("8"), ABSENT, ABSENT]),
        )
        .delete(&orders, &[text("5"), ABSENT, ABSENT])
        .insert(&orders, &[text("5"), text("again"), NULL]);
    deliver(&mut sink, &second.delivery(2)).await;
    assert_eq!(rows(&cluster), "1|a3|1|d\n2|b|2|d\n5|again||d\n40||4|d\n80|h|8|d");

    let third = Builder::new()
        .transaction(0x40, Part::Whole)
        .truncate(&[&orders], true, true)
        .row(Op::Upsert, &orders, Some(&[text("7"), text("g"), NULL]), None);
    deliver(&mut sink, &third.delivery(3)).await;
    assert_eq!(rows(&cluster), "7|g||d");
    sink.close().await.unwrap();
}

/// Enough rows for COPY, of which some are there already and some come twice.
#[tokio::test]
async fn rows_that_are_there_already_are_overwritten() {
    let cluster = target(CREATE_ORDERS);
    let sql = "INSERT INTO orders SELECT i, 'old', 0 FROM generate_series(50, 55) i";
    cluster.sql("postgres", sql).unwrap();
    let mut sink = open(&cluster).await;
    let orders = orders();
    let mut builder = Builder::new().copy(0x10, 1);
    for id in 1..=500 {
        let id = (id % 400).to_string();
        builder = builder.row(Op::Read, &orders, Some(&[text(&id), text("new"), text(&id)]), None);
    }
    // A statement is on its way behind the COPY that fails.
    builder = builder.update(&orders, &[text("399"), text("newer"), text("399")], None);
    deliver(&mut sink, &builder.delivery(1)).await;
    let sql = "SELECT count(*), count(*) FILTER (WHERE name = 'new' AND total = id), min(id), max(id) FROM orders";
    assert_eq!(cluster.sql("postgres", sql).unwrap(), "400|399|0|399");
}

#[tokio::test]
async fn without_a_key_one_equal_row_changes() {
    let cluster =
        target("CREATE TABLE notes (a int, b json); INSERT INTO notes VALUES (1, '{}'), (1, '{}'), (2, NULL)");
    let mut sink = open(&cluster).await;
    let notes = relation("notes", &[("a", 23, "integer", true), ("b", 114, "json", true)]);
    let notes = Arc::new(Relation {
        replica_identity: crate::batch::ReplicaIdentity::Full,
        ..(*notes).clone()
    });
    let delivery = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&notes, &[text("3"), text("[1]")])
        .insert(&notes, &[text("3"), text("[1]")])
        .delete(&notes, &[text("1"), text("{}")])
        .update(&notes, &[text("5"), UNCHANGED], Some(&[text("3"), text("[1]")]))
        .delete(&notes, &[text("2"), NULL]);
    deliver(&mut sink, &delivery.delivery(1)).await;
    let found = cluster.sql("postgres", "SELECT a, b FROM notes ORDER BY a").unwrap();
    assert_eq!(found, "1|{}\n3|[1]\n5|[1]");
}

/// What the target's text output says must be what went in, by COPY as well as by statements.
#[tokio::test]
async fn s36_values_of_every_kind_stay_what_they_are() {
    let values = [
        ("integer[]", "[0:1]={1,NULL}"),
        ("text[]", "{\"a,\\\"b\",\"\\\\\",NULL,\"\"}"),
        ("timestamp with time zone", "infinity"),
        ("timestamp without time zone", "0044-03-15 12:00:00 BC"),
        ("date", "-infinity"),
        ("time without time zone", "24:00:00"),
        ("interval", "1 year 2 mons -3 days +04:05:06.789"),
        ("numeric", "-123456789012345678901234567890.000100"),
        ("double precision", "-0"),
        ("bytea", "\\x00ff5c"),
        ("character(3)", "é  "),
        ("character varying(4)", "ab\\t"),
        ("bit(3)", "101"),
        ("jsonb", "{\"a\": \"\\\\ \\\"\"}"),
        ("int4range", "[1,5)"),
        ("inet", "10.0.0.1/8"),
        ("xml", "<a>&amp;</a>"),
        ("public.citext", "MiXed"),
        ("public.mood", "it's"),
        ("public.short", "x"),
    ];
    let names: Vec<String> = (0..values.len()).map(|at| format!("c\"{at}")).collect();
    let mut columns = vec![("id", 25, "text", true)];
    let mut create = "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('it''s'); \
        CREATE DOMAIN short AS text CHECK (length(value) < 2); CREATE TABLE t (id citext PRIMARY KEY"
        .to_owned();
    for (name, (kind, _)) in names.iter().zip(&values) {
        columns.push((name, 0, "text", false));
        create.push_str(&format!(", {} {kind}", target::quoted(name)));
    }
    let cluster = target(&(create + ")"));
    let mut sink = open(&cluster).await;
    let table = relation("t", &columns);
    let row = |id: &'static str| -> Vec<Value<'static>> {
        let others = values.iter().map(|(_, value)| text(value));
        std::iter::once(text(id)).chain(others).collect()
    };
    let ids: Vec<&'static str> = (0..100).map(|at| &*format!("Row{at}").leak()).collect();
    let mut builder = Builder::new().transaction(0x10, Part::Whole);
    for id in &ids {
        builder = builder.insert(&table, &row(id));
    }
    let delivery = builder
        .update(&table, &row("Row0"), None)
        .row(Op::Upsert, &table, Some(&row("Single")), None);
    deliver(&mut sink, &delivery.delivery(1)).await;
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("{}::text", target::quoted(name)))
        .collect();
    let found = cluster
        .sql("postgres", &format!("SELECT DISTINCT {} FROM t", names.join(", ")))
        .unwrap();
    let expected: Vec<&str> = values.iter().map(|(_, value)| value.trim_end()).collect();
    assert_eq!(found, expected.join("|"));
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t").unwrap(), "101");

    // The key's own equality decides, though its extension isn't in the search path.
    let mut only_key = vec![ABSENT; columns.len()];
    only_key[0] = text("sINGLE");
    let delivery = Builder::new().transaction(0x20, Part::Whole).delete(&table, &only_key);
    deliver(&mut sink, &delivery.delivery(2)).await;
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t").unwrap(), "100");
}

/// A value that is too long for a text comes in binary form, and goes on so.
#[tokio::test]
async fn a_bytea_in_binary_form_arrives() {
    let cluster = target("CREATE TABLE blobs (id int PRIMARY KEY, body bytea, note text)");
    let blobs = relation(
        "blobs",
        &[
            ("id", 23, "integer", true),
            ("body", 17, "bytea", false),
            ("note", 25, "text", false),
        ],
    );
    let bytes = |bytes| Value::Binary(bytes);
    let mut sink = open(&cluster).await;
    let rows = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&blobs, &[text("1"), text("\\x01"), text("text")])
        .insert(&blobs, &[text("2"), bytes(b"\x00\xff\\"), text("bytes")])
        .insert(&blobs, &[text("3"), text("\\x03"), text("text")])
        .update(&blobs, &[text("1"), bytes(b"new"), UNCHANGED], None)
        .update(
            &blobs,
            &[text("30"), bytes(b""), text("moved")],
            Some(&[text("3"), ABSENT, ABSENT]),
        )
        .delete(&blobs, &[text("4"), ABSENT, ABSENT]);
    deliver(&mut sink, &rows.delivery(1)).await;
    let mut mirror = open_mirror_as(&cluster, OnConflict::Error, &context("mirror")).await;
    let rows = Builder::new()
        .transaction(0x20, Part::Whole)
        .insert(&blobs, &[text("5"), bytes(b"five"), NULL])
        .update(
            &blobs,
            &[text("5"), bytes(b"FIVE"), text("n")],
            Some(&[text("5"), bytes(b"five"), NULL]),
        );
    deliver(&mut mirror, &rows.delivery(1)).await;
    let found = cluster
        .sql("postgres", "SELECT id, body, note FROM blobs ORDER BY id")
        .unwrap();
    assert_eq!(
        found,
        "1|\\x6e6577|text\n2|\\x00ff5c|bytes\n5|\\x46495645|n\n30|\\x|moved"
    );
}
