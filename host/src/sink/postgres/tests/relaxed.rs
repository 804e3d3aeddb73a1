//! Several connections: that they work at once, and that a crash between their commits costs nothing.

use super::*;
use crate::sink::driver::without_known;
use std::time::Duration as Time;

const ROWS: u64 = 60;
const LONG: Time = Time::from_secs(60);

/// `orders` is divided by its key. Nothing at the target would stop a row of `events` from coming twice; it has no key,
/// and is the second connection's as a whole.
const TABLES: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, name text, total numeric); \
    CREATE TABLE events (id bigint, what text)";

fn events() -> Arc<Relation> {
    relation("events", &[("id", 20, "bigint", false), ("what", 25, "text", false)])
}

async fn open_relaxed(cluster: &Cluster, connections: Option<usize>) -> (PostgresSink, Option<Lsn>) {
    let config = config::PostgresSink {
        mode: WriteMode::Mirror,
        relaxed: connections,
        ..sink_to(cluster.url("postgres"))
    };
    let mut sink = PostgresSink::new(&config);
    let position = sink.open(&context("warehouse")).await.unwrap();
    (sink, position)
}

/// A transaction of `ROWS` rows in each table.
fn delivery(tables: &[Arc<Relation>; 2], sequence: u64, part: Part) -> Delivery {
    let rows = 0..ROWS;
    let builder = rows.fold(Builder::new().transaction(sequence * 0x100, part), |builder, row| {
        let id = (sequence * ROWS + row).to_string();
        builder
            .insert(&tables[0], &[text(&id), text("a"), text(&id)])
            .insert(&tables[1], &[text(&id), text("insert")])
    });
    builder.delivery(sequence)
}

fn counts(cluster: &Cluster) -> String {
    let count = |table: &str| format!("SELECT count(*), count(DISTINCT id) FROM {table}");
    let [orders, events] = ["orders", "events"].map(|table| cluster.sql("postgres", &count(table)).unwrap());
    format!("{orders} {events}")
}

fn all(rows: u64) -> String {
    format!("{rows}|{rows} {rows}|{rows}")
}

/// Sessions of the sink that wait for a lock.
const WAITING: &str = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN \
    (SELECT pid FROM pg_stat_activity WHERE application_name = 'rowmill shop warehouse')";

async fn waiting(cluster: &Cluster, sessions: i64) {
    until(cluster, WAITING, sessions).await;
}

/// Asks until the answer is `expected`, by one connection: locks are waited for some seconds only.
pub(super) async fn until(cluster: &Cluster, query: &str, expected: i64) {
    let client = connected(cluster).await;
    let began = std::time::Instant::now();
    while client.query_one(query, &[]).await.unwrap().get::<_, i64>(0) != expected {
        assert!(began.elapsed() < LONG, "{query}: never {expected}");
        tokio::time::sleep(Time::from_millis(10)).await;
    }
}

pub(super) async fn connected(cluster: &Cluster) -> tokio_postgres::Client {
    let connected = tokio_postgres::connect(&cluster.url("postgres"), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn three_connections_write_at_the_same_time() {
    let cluster = Arc::new(target(TABLES));
    let tables = [orders(), events()];
    let (mut sink, _) = open_relaxed(&cluster, Some(3)).await;
    deliver(&mut sink, &delivery(&tables, 1, Part::Whole)).await;
    let held = cluster.hold("postgres", "LOCK TABLE orders IN EXCLUSIVE MODE").unwrap();
    let writing = tokio::spawn(async move {
        let written = applied(&mut sink, &delivery(&tables, 2, Part::Whole)).await;
        (sink, written)
    });
    waiting(&cluster, 3).await;
    drop(held);
    let (mut sink, written) = writing.await.unwrap();
    assert_eq!(written.unwrap(), 2);
    assert_eq!(counts(&cluster), all(2 * ROWS));
    sink.close().await.unwrap();
}

/// The other connections have committed, the first one hasn't: its backend ends while it waits for the position's row.
async fn cut_off(cluster: &Arc<Cluster>, tables: [Arc<Relation>; 2], part: Part) {
    let (mut sink, _) = open_relaxed(cluster, Some(2)).await;
    deliver(&mut sink, &delivery(&tables, 1, Part::Whole)).await;
    let held = cluster
        .hold("postgres", "SELECT FROM rowmill.positions FOR UPDATE")
        .unwrap();
    let writing = tokio::spawn(async move {
        sink.write(&delivery(&tables, 2, part)).await?;
        sink.flush().await
    });
    waiting(cluster, 1).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted";
    cluster.sql("postgres", end).unwrap();
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, SinkError::Transient(_)), "{error}");
    drop(held);
}

/// The next session has as many connections, more, or one: each row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn what_some_have_committed_is_not_applied_twice() {
    for connections in [Some(2), Some(3), None] {
        let cluster = Arc::new(target(TABLES));
        let tables = [orders(), events()];
        cut_off(&cluster, tables.clone(), Part::Whole).await;
        let [orders, events] = ["orders", "events"].map(|table| {
            let count = format!("SELECT count(*) FROM {table}");
            cluster.sql("postgres", &count).unwrap().parse::<u64>().unwrap()
        });
        assert!(
            ROWS < orders && orders < 2 * ROWS,
            "{orders} orders: a part of the second transaction"
        );
        assert_eq!(events, 2 * ROWS, "those are the second connection's");

        let (mut sink, position) = open_relaxed(&cluster, connections).await;
        assert_eq!(position, Some(Lsn(0x100 + COMMIT_BYTES)));
        for sequence in 1..=3 {
            let whole = delivery(&tables, sequence, Part::Whole);
            let rest = without_known(&whole, position.unwrap());
            deliver(&mut sink, rest.as_ref().unwrap_or(&whole)).await;
        }
        sink.close().await.unwrap();
        assert_eq!(counts(&cluster), all(3 * ROWS), "{connections:?}");
        // Another crash finds nothing of the first.
        let (mut sink, position) = open_relaxed(&cluster, Some(2)).await;
        assert_eq!(position, Some(Lsn(0x300 + COMMIT_BYTES)));
        deliver(&mut sink, &delivery(&tables, 4, Part::Whole)).await;
        assert_eq!(counts(&cluster), all(4 * ROWS), "{connections:?}");
    }
}

/// A large transaction is committed before its TRUNCATE, which concerns all, and the connection breaks behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_had_to_be_committed_is_not_applied_twice() {
    let cluster = Arc::new(target(TABLES));
    let tables = [orders(), events()];
    let truncated = relation("emptied", &[("id", 20, "bigint", true)]);
    cluster
        .sql("postgres", "CREATE TABLE emptied (id bigint PRIMARY KEY)")
        .unwrap();
    let parts = |sink_sequence: u64| {
        let mut first = delivery(&tables, 1, Part::First);
        first.sequence = sink_sequence;
        let mut emptying = Builder::new()
            .transaction(0x100, Part::Middle)
            .truncate(&[&truncated], false, false)
            .delivery(sink_sequence + 1);
        emptying.rows[0].ordinal = 2 * ROWS;
        [first, emptying]
    };
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    for part in parts(1) {
        sink.write(&part).await.unwrap();
        sink.flush().await.unwrap();
    }
    drop(sink);
    assert_eq!(counts(&cluster), all(ROWS), "a part is seen");

    let (mut sink, position) = open_relaxed(&cluster, Some(2)).await;
    assert_eq!(position, None);
    let [first, emptying] = parts(1);
    let mut last = delivery(&tables, 1, Part::Last);
    last.sequence = 3;
    for (at, row) in last.rows.iter_mut().enumerate() {
        row.ordinal = 2 * ROWS + 1 + at as u64;
    }
    cluster.sql("postgres", "INSERT INTO emptied VALUES (1)").unwrap();
    for part in [&first, &emptying] {
        sink.write(part).await.unwrap();
    }
    sink.flush().await.unwrap();
    assert_eq!(counts(&cluster), all(ROWS));
    // Its rows have the keys of the first part's: they must be gone, or it was wrong to leave those out.
    cluster.sql("postgres", "TRUNCATE orders, events").unwrap();
    sink.write(&last).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 3);
    assert_eq!(counts(&cluster), all(ROWS));
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM emptied").unwrap(), "0");
}

/// A row is refused: its neighbours' transactions are there, and only its own is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_is_told_as_ever() {
    let cluster = Arc::new(target(TABLES));
    let orders = orders();
    cluster.sql("postgres", "INSERT INTO orders VALUES (77)").unwrap();
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    let mut builder = Builder::new();
    for id in 1..=90_u64 {
        let id_text = id.to_string();
        builder = builder
            .transaction(id * 0x10, Part::Whole)
            .insert(&orders, &[text(&id_text), text("a"), NULL]);
    }
    let refused = problem(applied(&mut sink, &builder.delivery(1)).await);
    assert_eq!(refused.code, "E0414");
    drop(sink);
    let (_, position) = open_relaxed(&cluster, Some(2)).await;
    assert_eq!(position, Some(Lsn(76 * 0x10 + COMMIT_BYTES)));
    let found = cluster.sql("postgres", "SELECT count(*), max(id) FROM orders WHERE name = 'a'");
    assert_eq!(found.unwrap(), "76|76");
}

/// A row is refused when the second connection has none of its delivery: what that one has of the delivery before stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_takes_back_nothing_of_the_delivery_before() {
    let tables = format!(
        "{TABLES}; CREATE TABLE watched (id bigint PRIMARY KEY CHECK (id <> 7));
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER see AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION see();
         ALTER TABLE watched ENABLE ALWAYS TRIGGER see"
    );
    let cluster = Arc::new(Cluster::start().unwrap());
    cluster.script("postgres", &tables).unwrap();
    let events = events();
    // As it has a trigger that acts, it is the first connection's.
    let watched = relation("watched", &[("id", 20, "bigint", true)]);
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    let some_watched = |sequence: u64, ids: std::ops::Range<u32>| {
        let builder = Builder::new().transaction(0x100 * sequence, Part::Whole);
        ids.fold(builder, |builder, id| {
            builder.insert(&watched, &[text(&id.to_string())])
        })
        .delivery(sequence)
    };
    deliver(&mut sink, &some_watched(1, 10..20)).await;
    // Enough to be applied at once, and not to be committed.
    let long = "x".repeat(100_000);
    let seen = (0..ROWS).fold(Builder::new().transaction(0x200, Part::Whole), |builder, id| {
        builder.insert(&events, &[text(&id.to_string()), text(&long)])
    });
    sink.write(&seen.delivery(2)).await.unwrap();
    let refused = problem(applied(&mut sink, &some_watched(3, 1..9)).await);
    assert_eq!(refused.code, "E0410");
    drop(sink);
    let (_, position) = open_relaxed(&cluster, Some(2)).await;
    assert_eq!(position, Some(Lsn(0x200 + COMMIT_BYTES)));
    let found = cluster.sql("postgres", "SELECT count(*) FROM events").unwrap();
    assert_eq!(found, ROWS.to_string());
}

/// A lock that is held elsewhere keeps connections waiting: then one does it alone.
#[tokio::test(flavor = "multi_thread")]
async fn connections_do_not_wait_for_each_other_for_ever() {
    let cluster = Arc::new(target(TABLES));
    let tables = [orders(), events()];
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    deliver(&mut sink, &delivery(&tables, 1, Part::Whole)).await;
    let held = cluster.hold("postgres", "LOCK TABLE events IN EXCLUSIVE MODE").unwrap();
    let writing = {
        let tables = tables.clone();
        tokio::spawn(async move { (applied(&mut sink, &delivery(&tables, 2, Part::Whole)).await, sink) })
    };
    // The second waits, gives up, and then the first one does.
    let first = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE NOT granted \
        AND relation = 'events'::regclass AND pid = (SELECT min(pid) FROM pg_locks \
        WHERE locktype = 'advisory' AND mode = 'ExclusiveLock')";
    until(&cluster, first, 1).await;
    drop(held);
    let (written, _sink) = writing.await.unwrap();
    assert_eq!(written.unwrap(), 2);
    assert_eq!(counts(&cluster), all(2 * ROWS));
}

/// Nothing tells a copied row of a table without a key from the same one once more: what comes behind it in the same window isn't
/// divided, and the target has none of it before the window's end.
#[tokio::test(flavor = "multi_thread")]
async fn copied_rows_without_a_key_are_committed_with_their_window_alone() {
    let cluster = Arc::new(target(&format!("{TABLES}; CREATE TABLE bag (id int, note text)")));
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    let columns = [("id", 23, "integer", true), ("note", 25, "text", true)];
    let bag = super::seams::full(relation("bag", &columns));
    let orders = orders();
    let mut unit = Builder::new().copy(0x10, 1);
    for _ in 0..3 {
        unit = unit.row(Op::Read, &bag, Some(&[text("1"), text("equal")]), None);
    }
    unit = unit.copy(0x10, 2);
    for id in 0..ROWS {
        let id = id.to_string();
        unit = unit.row(Op::Read, &orders, Some(&[text(&id), text("a"), NULL]), None);
    }
    let mut unit = unit.delivery(1);
    Arc::make_mut(&mut unit.batch).keyless = true;

    let held = cluster.hold("postgres", "LOCK TABLE orders IN EXCLUSIVE MODE").unwrap();
    let again = unit.clone();
    let writing = tokio::spawn(async move { (applied(&mut sink, &unit).await, sink) });
    let waits = "SELECT least(count(*), 1) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    until(&cluster, waits, 1).await;
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowmill shop warehouse'";
    cluster.sql("postgres", end).unwrap();
    let (written, mut sink) = writing.await.unwrap();
    assert!(matches!(written, Err(SinkError::Transient(_))), "{written:?}");
    drop(held);
    sink.open(&context("warehouse")).await.unwrap();
    deliver(&mut sink, &again).await;
    let found = "SELECT (SELECT count(*) FROM bag), count(*), count(DISTINCT id) FROM orders";
    assert_eq!(cluster.sql("postgres", found).unwrap(), format!("3|{ROWS}|{ROWS}"));
}

/// Rows of a table that is divided by a column which another version of it hasn't are of no share, and yet not of nobody.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_the_column_that_divides_are_applied_too() {
    let cluster = target(
        "CREATE SEQUENCE ids START 100000; \
         CREATE TABLE orders (id bigint PRIMARY KEY DEFAULT nextval('ids'), name text, total numeric)",
    );
    let by_key = orders();
    let columns = [("name", 25, "text", true), ("total", 1700, "numeric", true)];
    let without = Arc::new(Relation {
        replica_identity: crate::batch::ReplicaIdentity::Full,
        ..Relation::clone(&relation("orders", &columns))
    });
    let (mut sink, _) = open_relaxed(&cluster, Some(2)).await;
    let rows = 1..=500_u64;
    let builder = rows.fold(Builder::new().transaction(0x100, Part::Whole), |builder, id| {
        let id = id.to_string();
        builder.insert(&by_key, &[text(&id), text("a"), text(&id)])
    });
    let builder = builder
        .transaction(0x200, Part::Whole)
        .insert(&without, &[text("b"), text("1")])
        .insert(&without, &[text("c"), text("2")]);
    deliver(&mut sink, &builder.delivery(1)).await;
    let found = cluster.sql(
        "postgres",
        "SELECT count(*), count(*) FILTER (WHERE id >= 100000) FROM orders",
    );
    assert_eq!(found.unwrap(), "502|2");
}
