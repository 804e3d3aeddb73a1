//! Rates, printed: `cargo nextest run -p rowmill --run-ignored only --no-capture postgres::tests::speed`.

use super::*;
use std::time::Instant;

const ROWS: usize = 500_000;
const ROWS_PER_DELIVERY: usize = 5_000;
const CREATE: &str = "CREATE TABLE wide (id bigint PRIMARY KEY, customer bigint, status text, email text, \
    note text, total numeric(12,2), at timestamptz); \
    CREATE TABLE a (id bigint PRIMARY KEY, n bigint, note text); CREATE TABLE b (LIKE a INCLUDING ALL); \
    CREATE TABLE c (LIKE a INCLUDING ALL); CREATE TABLE d (LIKE a INCLUDING ALL)";

fn wide() -> Arc<Relation> {
    relation(
        "wide",
        &[
            ("id", 20, "bigint", true),
            ("customer", 20, "bigint", false),
            ("status", 25, "text", false),
            ("email", 25, "text", false),
            ("note", 25, "text", false),
            ("total", 1700, "numeric", false),
            ("at", 1184, "timestamp with time zone", false),
        ],
    )
}

fn deliveries(op: Op, transactions_of_one_row: bool) -> Vec<Delivery> {
    let wide = wide();
    let delivery = |at: usize| {
        let mut builder = Builder::new();
        if !transactions_of_one_row {
            let part = match at {
                0 => Part::First,
                _ if (at + 1) * ROWS_PER_DELIVERY == ROWS => Part::Last,
                _ => Part::Middle,
            };
            builder = builder.transaction(0x10, part);
        }
        for row in 0..ROWS_PER_DELIVERY {
            let id = at * ROWS_PER_DELIVERY + row;
            if transactions_of_one_row {
                builder = builder.transaction(0x10 + id as u64 * 16, Part::Whole);
            }
            let (id, customer) = (id.to_string(), (id % 1000).to_string());
            let email = format!("customer{customer}@example.com");
            let new = [
                text(&id),
                text(&customer),
                text("paid"),
                text(&email),
                text("a note of some length, as people write them when they order something"),
                text("1234.56"),
                text("2026-01-02 03:04:05.678901+00"),
            ];
            builder = builder.row(op, &wide, Some(&new), None);
        }
        builder.delivery(at as u64 + 1)
    };
    (0..ROWS / ROWS_PER_DELIVERY).map(delivery).collect()
}

/// Small transactions as applications make them: each updates a row in three tables and inserts one in a fourth.
fn mixed() -> Vec<Delivery> {
    let table = |name: &str| {
        let columns = [
            ("id", 20, "bigint", true),
            ("n", 20, "bigint", false),
            ("note", 25, "text", false),
        ];
        relation(name, &columns)
    };
    let tables = ["a", "b", "c", "d"].map(table);
    let delivery = |at: usize| {
        let mut builder = Builder::new();
        for row in 0..ROWS_PER_DELIVERY / 4 {
            let number = (at * ROWS_PER_DELIVERY + row) as u64;
            builder = builder.transaction(0x1000_0000 + number * 16, Part::Whole);
            let id = (number * 7919 % 50_000).to_string();
            let new = [text(&id), text(&id), text("some note")];
            for table in &tables[..3] {
                builder = builder.update(table, &new, None);
            }
            let id = number.to_string();
            builder = builder.insert(&tables[3], &[text(&id), text(&id), text("some note")]);
        }
        builder.delivery(1000 + at as u64)
    };
    (0..ROWS / ROWS_PER_DELIVERY).map(delivery).collect()
}

async fn rate(sink: &mut PostgresSink, deliveries: &[Delivery]) -> f64 {
    let begun = Instant::now();
    for delivery in deliveries {
        sink.write(delivery).await.unwrap();
    }
    sink.flush().await.unwrap();
    ROWS as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn rows_per_second() {
    let cluster = target(CREATE);
    let whole = deliveries(Op::Insert, false);
    let mut sink = open(&cluster).await;
    println!("insert, one transaction: {:.0} rows/s", rate(&mut sink, &whole).await);
    let updates = deliveries(Op::Update, false);
    println!("update, one transaction: {:.0} rows/s", rate(&mut sink, &updates).await);
    cluster.sql("postgres", "TRUNCATE wide").unwrap();
    let single = deliveries(Op::Insert, true);
    println!(
        "insert, one-row transactions: {:.0} rows/s",
        rate(&mut sink, &single).await
    );
    println!("four tables in turn: {:.0} rows/s", rate(&mut sink, &mixed()).await);
    cluster
        .sql("postgres", "CREATE TABLE other (LIKE wide INCLUDING ALL)")
        .unwrap();
    let begun = Instant::now();
    cluster.sql("postgres", "INSERT INTO other SELECT * FROM wide").unwrap();
    println!(
        "INSERT ... SELECT: {:.0} rows/s",
        ROWS as f64 / begun.elapsed().as_secs_f64()
    );
}
