//! An audit trail: what is said behind the rows that it is of, and changes that another one is in the place of.

use super::*;

const POSITION: &str = "SELECT lsn FROM rowmill.positions";
const TOLD: &str = "SELECT primary_key, context FROM changes ORDER BY position, ordinal";

fn config(cluster: &Cluster) -> config::PostgresSink {
    config::PostgresSink {
        audit: Some(config::Audit {
            schema: "public".to_owned(),
            table: "changes".to_owned(),
            context: config::ContextRule::First,
            indexes: false,
        }),
        ..sink_to(cluster.url("postgres"))
    }
}

async fn open_trail(cluster: &Cluster, context: &SinkContext) -> PostgresSink {
    let mut sink = PostgresSink::new(&config(cluster));
    sink.open(context).await.unwrap();
    sink
}

fn row(id: &str) -> [Value<'_>; 3] {
    [text(id), text("a"), NULL]
}

/// Messages come beside the rows.
fn with_messages(mut delivery: Delivery) -> Delivery {
    let (messages, rows) = delivery.rows.iter().copied().partition(|row| row.op == Op::Message);
    delivery.rows = rows;
    Arc::make_mut(&mut delivery.batch).message_rows = messages;
    delivery
}

/// A large transaction of two deliveries, which says in its second who did it.
async fn begin_large(sink: &mut PostgresSink) -> Builder {
    let first = Builder::new()
        .transaction(0x10, Part::First)
        .insert(&orders(), &row("1"));
    sink.write(&first.delivery(1)).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 0, "it goes on");
    Builder::new()
        .transaction(0x10, Part::Last)
        .message("_bemi", br#"{"user": 7}"#)
        .insert(&orders(), &row("2"))
}

// On threads of its own the connection of a dropped sink ends while the test waits for psql.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_late_is_committed_with_its_transaction() {
    let cluster = target("SELECT 1");
    let mut sink = open_trail(&cluster, &context("trail")).await;
    let large = begin_large(&mut sink).await;
    // Another large one begins in the same delivery: the first is committed, and this one never is.
    let both = large.transaction(0x20, Part::First).insert(&orders(), &row("3"));
    sink.write(&with_messages(both.delivery(2))).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 1);
    drop(sink);
    assert_eq!(cluster.sql("postgres", POSITION).unwrap(), "0/18");
    assert_eq!(
        cluster.sql("postgres", TOLD).unwrap(),
        "1|{\"user\": 7}\n2|{\"user\": 7}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_late_is_committed_before_a_transaction_that_is_refused() {
    let cluster = target("SELECT 1");
    let mut sink = open_trail(&cluster, &context("trail")).await;
    let check = "ALTER TABLE changes ADD CHECK (primary_key <> '3')";
    cluster.sql("postgres", check).unwrap();
    let large = begin_large(&mut sink).await;
    let both = large.transaction(0x20, Part::Whole).insert(&orders(), &row("3"));
    let refused = problem(applied(&mut sink, &with_messages(both.delivery(2))).await);
    assert_eq!(refused.code, "E0410");
    drop(sink);
    assert_eq!(cluster.sql("postgres", POSITION).unwrap(), "0/18");
    assert_eq!(
        cluster.sql("postgres", TOLD).unwrap(),
        "1|{\"user\": 7}\n2|{\"user\": 7}"
    );
}

/// One change of the transaction with this id.
fn change(xid: u32, id: &str) -> Delivery {
    let builder = Builder::new()
        .transaction(0x8, Part::Whole)
        .insert(&orders(), &row("0"))
        .transaction(0x10, Part::Whole)
        .insert(&orders(), &row(id));
    let mut delivery = builder.delivery(1);
    Arc::make_mut(&mut delivery.batch).transactions[1].xid = xid;
    delivery
}

#[tokio::test]
async fn a_change_whose_place_another_ones_has_is_told_and_one_that_comes_again_is_not() {
    let cluster = target("SELECT 1");
    let mut sink = open_trail(&cluster, &context("trail")).await;
    deliver(&mut sink, &change(741, "1")).await;
    // By another sink, which has no position.
    let mut again = open_trail(&cluster, &context("again")).await;
    deliver(&mut again, &change(741, "1")).await;
    let other_cluster = SinkContext {
        pipeline: "elsewhere".to_owned(),
        system_identifier: 1,
        ..context("trail")
    };
    let mut elsewhere = open_trail(&cluster, &other_cluster).await;
    let taken = problem(applied(&mut elsewhere, &change(742, "1")).await);
    assert_eq!(taken.code, "E0444");
    assert!(taken.cause.unwrap().contains("row 1:10:0:0"), "the row is named");
    let told = "SELECT primary_key, transaction_id FROM changes ORDER BY position";
    assert_eq!(cluster.sql("postgres", told).unwrap(), "0|741\n1|741");
}
