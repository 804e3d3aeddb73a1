//! The sink under its driver, with a target that goes away again and again.

use super::*;
use crate::config::ByteSize;
use crate::sink::driver::{Driver, Outcome, SinkHandle};
use tokio::sync::mpsc;

const DELIVERIES: u64 = 60;
const ROWS: u64 = 100;

/// Each delivery ends one transaction and begins the next, and adds up in one counter: what is applied twice, or not
/// at all, is seen in it.
fn delivery(sequence: u64, orders: &Arc<Relation>, audit: &Arc<Relation>) -> Delivery {
    let mut builder = Builder::new();
    let rows = |builder: Builder, commit: u64, part: Part, rows: std::ops::Range<u64>| {
        rows.fold(builder.transaction(commit * 0x100, part), |builder, row| {
            let id = (commit * ROWS + row).to_string();
            builder
                .insert(orders, &[text(&id), text("a"), text(&id)])
                .insert(audit, &[text(&id), text("insert")])
        })
    };
    builder = rows(builder, sequence - 1, Part::Last, ROWS / 2..ROWS);
    builder = rows(builder, sequence, Part::First, 0..ROWS / 2);
    builder.delivery(sequence)
}

fn last(sequence: u64) -> Delivery {
    Builder::new()
        .transaction((sequence - 1) * 0x100, Part::Last)
        .delivery(sequence)
}

async fn send(handle: &SinkHandle, delivery: Delivery) {
    let handle = handle.clone();
    tokio::task::spawn_blocking(move || handle.send(delivery))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_gets_every_row_once() {
    let cluster = Arc::new(target(CREATE_ORDERS));
    cluster
        .sql("postgres", "CREATE TABLE audit (id bigint, what text)")
        .unwrap();
    let (report, mut durable) = mpsc::unbounded_channel();
    let bound = ByteSize(64 * 1024 * 1024);
    let interval = std::time::Duration::from_millis(1);
    let sink = Box::new(sink(&cluster));
    let (handle, driver) = Driver::new(sink, context("warehouse"), bound, interval, move |sequence| {
        let _ = report.send(sequence);
    });
    let outcome = tokio::spawn(driver.run());
    let orders = orders();
    // Without a key and without a unique index: nothing at the target would stop a row from coming twice.
    let audit = relation("audit", &[("id", 20, "bigint", false), ("what", 25, "text", false)]);
    for sequence in 1..=DELIVERIES {
        send(&handle, delivery(sequence, &orders, &audit)).await;
        if sequence % 15 == 0 {
            // All but the last has ended, so that much must become durable; then the connection breaks in the next.
            while durable.recv().await.unwrap() < sequence - 1 {}
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'rowmill%'";
            cluster.sql("postgres", end).unwrap();
        }
        if sequence == DELIVERIES / 2 {
            cluster.stop_server("immediate").unwrap();
            cluster.start_server().unwrap();
        }
    }
    send(&handle, last(DELIVERIES + 1)).await;
    handle.close();
    assert!(matches!(outcome.await.unwrap(), Outcome::Done));
    assert!(handle.retries() >= 1);
    let expected = DELIVERIES * ROWS;
    for table in ["orders", "audit"] {
        let count = format!("SELECT count(*), count(DISTINCT id) FROM {table}");
        assert_eq!(
            cluster.sql("postgres", &count).unwrap(),
            format!("{expected}|{expected}")
        );
    }
}
