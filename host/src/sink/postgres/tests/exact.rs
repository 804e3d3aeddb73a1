//! What only a mirror is strict about.

use super::*;
use std::sync::atomic::Ordering;

const ROWS: usize = 200;

/// New rows 1 to [`ROWS`] of one transaction, enough for COPY.
fn many_new() -> Delivery {
    let orders = orders();
    let mut builder = Builder::new().transaction(0x16B_3748, Part::Whole);
    for id in 1..=ROWS {
        let id = id.to_string();
        builder = builder.insert(&orders, &[text(&id), text("secret"), text(&id)]);
    }
    builder.delivery(1)
}

fn passed_over(context: &SinkContext) -> (u64, u64) {
    let counts = &context.passed_over;
    (
        counts.missing.load(Ordering::Relaxed),
        counts.conflicts.load(Ordering::Relaxed),
    )
}

#[tokio::test]
async fn what_is_not_there_is_passed_over_and_counted() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2)")
        .unwrap();
    let context = context("warehouse");
    let mut sink = open_mirror_as(&cluster, OnConflict::Error, &context).await;
    let orders = orders();
    let whole = |id| [text(id), text("new"), text("9")];
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .update(&orders, &whole("1"), None)
        .update(&orders, &whole("7"), None)
        .update(&orders, &[text("8"), UNCHANGED, text("9")], None)
        .update(&orders, &whole("90"), Some(&[text("9"), ABSENT, ABSENT]))
        .update(&orders, &whole("20"), Some(&[text("2"), ABSENT, ABSENT]))
        .delete(&orders, &[text("10"), ABSENT, ABSENT])
        .message("prefix", b"");
    deliver(&mut sink, &changes.delivery(1)).await;
    assert_eq!(rows(&cluster), "1|new|9|d\n20|new|9|d");
    assert_eq!(passed_over(&context), (4, 0));
}

/// A copy may bring rows before their changes, or the other way round.
#[tokio::test]
async fn tables_that_are_being_copied_take_what_comes() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (1, 'copied', 1)")
        .unwrap();
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let orders = orders();
    let whole = |id| [text(id), text("streamed"), text("9")];
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&orders, &whole("1"))
        .update(&orders, &whole("2"), None);
    let delivery = Delivery {
        copying: vec![orders.oid],
        ..changes.delivery(1)
    };
    deliver(&mut sink, &delivery).await;
    assert_eq!(rows(&cluster), "1|streamed|9|d\n2|streamed|9|d");
}

#[tokio::test]
async fn a_conflict_names_row_constraint_and_position() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (150, 'theirs', 0)")
        .unwrap();
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let problem = problem(applied(&mut sink, &many_new()).await);
    assert_eq!(problem.code, "E0414");
    let cause = problem.cause.unwrap();
    assert!(cause.contains("SQLSTATE 23505") && cause.contains("constraint orders_pkey"));
    // The 150th change of its transaction.
    assert!(
        cause.ends_with("at position 0/16B3748, row 7301:16B3748:149:0"),
        "{cause}"
    );
    assert!(!cause.contains("secret") && !cause.contains("150,"), "{cause}");
    assert!(problem.help.contains("rowmill skip warehouse --to 0/16B3748"));
    drop(sink);
    assert_eq!(rows(&cluster), "150|theirs|0|d");
}

/// New rows of one transaction, enough for COPY.
fn some_new(orders: &Arc<Relation>, sequence: u64, ids: std::ops::RangeInclusive<u64>) -> Delivery {
    let builder = Builder::new().transaction(sequence * 0x10, Part::Whole);
    let insert = |builder: Builder, id: u64| {
        let id = id.to_string();
        builder.insert(orders, &[text(&id), text("secret"), text(&id)])
    };
    ids.fold(builder, insert).delivery(sequence)
}

/// Three deliveries go by one COPY. Of the second a row is refused: the first is kept, the others can be sent again.
#[tokio::test]
async fn a_conflict_among_deliveries_keeps_what_came_before_its_own() {
    let cluster = target(CREATE_ORDERS);
    let theirs = "INSERT INTO orders VALUES (150, 'theirs', 0)";
    cluster.sql("postgres", theirs).unwrap();
    let orders = orders();
    let new = |sequence, ids| some_new(&orders, sequence, ids);
    let deliveries = [new(1, 1..=100), new(2, 101..=200), new(3, 201..=300)];
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    for delivery in &deliveries {
        sink.write(delivery).await.unwrap();
    }
    let refused = problem(sink.flush().await);
    assert_eq!(refused.code, "E0414");
    assert!(refused.cause.unwrap().ends_with("row 7301:20:49:0"));
    let found = "SELECT count(*), count(*) FILTER (WHERE name = 'theirs'), max(id) FROM orders";
    assert_eq!(cluster.sql("postgres", found).unwrap(), "101|1|150");
    let position = sink.open(&context("warehouse")).await.unwrap();
    assert_eq!(position, Some(Lsn(0x10 + COMMIT_BYTES)));
    drop(sink);

    let context = context("warehouse");
    let mut sink = open_mirror_as(&cluster, OnConflict::Skip, &context).await;
    for delivery in &deliveries[1..] {
        sink.write(delivery).await.unwrap();
    }
    assert_eq!(sink.flush().await.unwrap(), 3);
    assert_eq!(cluster.sql("postgres", found).unwrap(), "300|1|300");
    assert_eq!(passed_over(&context), (0, 1));
}

#[tokio::test]
async fn skipped_conflicts_leave_the_targets_rows() {
    let cluster = target(&format!("{CREATE_ORDERS}; ALTER TABLE orders ADD UNIQUE (total)"));
    let own = "INSERT INTO orders VALUES (150, 'theirs', -1), (1000, 'theirs', 70)";
    cluster.sql("postgres", own).unwrap();
    let context = context("warehouse");
    let mut sink = open_mirror_as(&cluster, OnConflict::Skip, &context).await;
    deliver(&mut sink, &many_new()).await;
    let orders = orders();
    let changes = Builder::new()
        .transaction(0x20, Part::Whole)
        .update(&orders, &[text("1"), text("n"), text("2")], None)
        .update(&orders, &[text("3"), text("n"), text("-3")], None)
        .update(
            &orders,
            &[text("5"), text("n"), text("4")],
            Some(&[text("4"), ABSENT, ABSENT]),
        );
    let delivery = Builder::delivery(changes, 2);
    // Behind the first transaction's position.
    sink.write(&delivery).await.unwrap();
    sink.flush().await.unwrap();
    let found = "SELECT count(*), count(*) FILTER (WHERE name = 'secret' AND total = id), \
        count(*) FILTER (WHERE name = 'theirs'), count(*) FILTER (WHERE total = -3) FROM orders";
    assert_eq!(cluster.sql("postgres", found).unwrap(), "200|197|2|1");
    assert_eq!(passed_over(&context), (0, 4));
}

#[tokio::test]
async fn overwritten_conflicts_leave_the_sources_rows() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql(
            "postgres",
            "INSERT INTO orders VALUES (150, 'theirs', 0), (300, 'theirs', 0)",
        )
        .unwrap();
    let context = context("warehouse");
    let mut sink = open_mirror_as(&cluster, OnConflict::Overwrite, &context).await;
    deliver(&mut sink, &many_new()).await;
    let orders = orders();
    let changes = Builder::new().transaction(0x20, Part::Whole).update(
        &orders,
        &[text("300"), text("secret"), text("300")],
        Some(&[text("200"), ABSENT, ABSENT]),
    );
    deliver(&mut sink, &changes.delivery(2)).await;
    let found = "SELECT count(*), count(*) FILTER (WHERE name = 'secret' AND total = id), max(id) FROM orders";
    assert_eq!(cluster.sql("postgres", found).unwrap(), "200|200|300");
    assert_eq!(passed_over(&context), (0, 0));
}

/// The source has said of every table that it emptied it.
#[tokio::test]
async fn emptying_a_table_never_reaches_tables_of_the_targets_own() {
    let create = "CREATE TABLE own (id bigint REFERENCES orders); INSERT INTO orders VALUES (1); \
        INSERT INTO own VALUES (1)";
    let cluster = target(&format!("{CREATE_ORDERS}; {create}"));
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let emptied = Builder::new()
        .transaction(0x10, Part::Whole)
        .truncate(&[&orders()], true, false);
    let problem = problem(applied(&mut sink, &emptied.delivery(1)).await);
    assert_eq!(problem.code, "E0410");
    assert!(problem.cause.unwrap().contains("cannot truncate a table referenced"));
    drop(sink);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM own").unwrap(), "1");
}

/// Nothing says which rows are the same where the index by which they are found lets NULLs be.
#[tokio::test]
async fn rows_are_found_by_keys_that_every_row_has() {
    let cluster =
        target("CREATE TABLE t (a int UNIQUE, b text); INSERT INTO t VALUES (NULL, 'x'), (NULL, 'y'), (1, 'z')");
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let t = relation("t", &[("a", 23, "integer", true), ("b", 25, "text", true)]);
    let t = Arc::new(Relation {
        replica_identity: crate::batch::ReplicaIdentity::Full,
        ..(*t).clone()
    });
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .update(&t, &[NULL, text("xx")], Some(&[NULL, text("x")]))
        .delete(&t, &[NULL, text("y")]);
    deliver(&mut sink, &changes.delivery(1)).await;
    assert_eq!(
        cluster.sql("postgres", "SELECT * FROM t ORDER BY b").unwrap(),
        "|xx\n1|z"
    );
}
