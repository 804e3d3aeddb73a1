//! Rows that are applied in parts, as the target refuses one of them, and then meet something else.

use super::relaxed::until;
use super::*;

/// Of `orders` a change meets another row; nothing would stop a row of the others from coming twice.
const TABLES: &str = "
    CREATE TABLE events (id bigint, what text); CREATE TABLE notes (id bigint, what text);
    CREATE TABLE marks (id bigint, what text);
    CREATE TABLE orders (id bigint PRIMARY KEY, name text, total numeric UNIQUE);
    INSERT INTO orders VALUES (1, 'theirs', 1), (2, 'theirs', 2);";
const FOUND: &str = "SELECT (SELECT string_agg(what, ' ' ORDER BY what) FROM events), (SELECT count(*) FROM notes), \
    (SELECT count(*) FROM marks), (SELECT string_agg(total::text, ' ' ORDER BY id) FROM orders)";

fn table(name: &str) -> Arc<Relation> {
    relation(name, &[("id", 20, "bigint", false), ("what", 25, "text", false)])
}

/// Two transactions. In the second a change is met by another row, and skipped; behind it are rows of other tables, so
/// that it is found before those are looked at.
fn two_transactions(tables: &[Arc<Relation>; 4]) -> Builder {
    let [events, notes, marks, orders] = tables;
    let row = |what| [text("1"), text(what)];
    Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(events, &row("first"))
        .transaction(0x20, Part::Whole)
        .insert(events, &row("second"))
        .update(orders, &[text("1"), text("n"), text("2")], None)
        .insert(notes, &row("note"))
        .insert(marks, &row("mark"))
}

fn tables() -> [Arc<Relation>; 4] {
    [table("events"), table("notes"), table("marks"), orders()]
}

#[tokio::test]
async fn a_change_that_cannot_be_applied_leaves_what_came_before_its_transaction_once() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", TABLES).unwrap();
    let mut sink = open_mirror(&cluster, OnConflict::Skip).await;
    let tables = tables();
    let unusable = two_transactions(&tables).row(Op::Delete, &tables[2], None, None);
    let problem = problem(applied(&mut sink, &unusable.delivery(1)).await);
    assert_eq!(problem.code, "E0412");
    assert!(problem.cause.unwrap().contains("row 7301:20:4:0 of public.marks"));
    let position = sink.open(&context("warehouse")).await.unwrap();
    assert_eq!(position, Some(Lsn(0x10 + COMMIT_BYTES)));
    assert_eq!(cluster.sql("postgres", FOUND).unwrap(), "first|0|0|1 2");
}

/// A lock that is held elsewhere has one connection of several give up, in the midst of its parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_waited_for_too_long_leaves_every_row_once() {
    let cluster = Arc::new(Cluster::start().unwrap());
    // With triggers that act, all of them are the first connection's.
    let watched = "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;";
    cluster.script("postgres", &format!("{TABLES} {watched}")).unwrap();
    for table in ["events", "notes", "marks", "orders"] {
        let watch = format!(
            "CREATE TRIGGER see AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION see();
             ALTER TABLE {table} ENABLE ALWAYS TRIGGER see"
        );
        cluster.script("postgres", &watch).unwrap();
    }
    let config = config::PostgresSink {
        mode: WriteMode::Mirror,
        conflict: OnConflict::Skip,
        relaxed: Some(2),
        ..sink_to(cluster.url("postgres"))
    };
    let mut sink = PostgresSink::new(&config);
    sink.open(&context("warehouse")).await.unwrap();
    let tables = tables();
    // Looked up, as a lock would keep that waiting, too.
    let row = [text("0"), text("zeroth")];
    let mut known = Builder::new().transaction(0x8, Part::Whole);
    for table in &tables[..3] {
        known = known.insert(table, &row);
    }
    let known = known.insert(&tables[3], &[text("3"), text("n"), text("3")]);
    deliver(&mut sink, &known.delivery(1)).await;

    let held = cluster.hold("postgres", "LOCK TABLE notes IN EXCLUSIVE MODE").unwrap();
    let since = cluster.sql("postgres", "SELECT now()").unwrap();
    let writing = tokio::spawn(async move {
        let written = applied(&mut sink, &two_transactions(&tables).delivery(2)).await;
        (written, sink)
    });
    // What the first connection has done is taken back, then it begins anew without a bound to its waiting.
    let anew = format!(
        "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE NOT granted \
         AND xact_start > '{since}'::timestamptz + interval '9 s'"
    );
    until(&cluster, &anew, 1).await;
    drop(held);
    let (written, _sink) = writing.await.unwrap();
    assert_eq!(written.unwrap(), 2);
    assert_eq!(cluster.sql("postgres", FOUND).unwrap(), "first second zeroth|2|2|1 2 3");
}
