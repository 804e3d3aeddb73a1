//! Target transactions in which something has failed that the sink didn't notice: their COMMIT is none.

use super::*;

/// What fails in the open target transaction, behind the sink's back.
async fn fail(sink: &PostgresSink, connection: usize) {
    let client = sink.session.as_ref().unwrap().clients()[connection];
    client.batch_execute("SELECT 1 / 0").await.unwrap_err();
}

/// Enough bytes to be applied at once, and not to be committed.
fn rows_of(builder: Builder, orders: &Arc<Relation>, op: Op) -> Builder {
    let long = "x".repeat(100_000);
    (0..60).fold(builder, |builder, id| {
        let id = id.to_string();
        builder.row(op, orders, Some(&[text(&id), text(&long), text(&id)]), None)
    })
}

/// Nothing is known of such a table that would be asked for at the end: each change has a statement of its own.
const WATCHED: &str = "
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER see AFTER TRUNCATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION see();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER see;";

/// `fails` is the connection on which it does, `table` where the rows go.
async fn nothing_is_lost(
    config: config::PostgresSink,
    (cluster, table): (&Cluster, &str),
    delivery: Delivery,
    fails: usize,
) {
    let count = format!("SELECT count(*) FROM {table}");
    let mut sink = PostgresSink::new(&config);
    let before = sink.open(&context("warehouse")).await.unwrap();
    sink.write(&delivery).await.unwrap();
    fail(&sink, fails).await;
    let flushed = sink.flush().await;
    assert!(matches!(flushed, Err(SinkError::Transient(_))), "{flushed:?}");
    // Of several connections each commits its own share.
    assert_ne!(cluster.sql("postgres", &count).unwrap(), "60");
    // It comes again, as the driver sends it.
    assert_eq!(sink.open(&context("warehouse")).await.unwrap(), before);
    deliver(&mut sink, &delivery).await;
    assert_eq!(cluster.sql("postgres", &count).unwrap(), "60");
}

#[tokio::test]
async fn copied_rows_are_not_durable_by_a_commit_that_was_none() {
    let cluster = Cluster::start().unwrap();
    cluster
        .script("postgres", &format!("{CREATE_ORDERS}; {WATCHED}"))
        .unwrap();
    let copied = rows_of(Builder::new().copy(0x10, 1), &orders(), Op::Read).delivery(1);
    nothing_is_lost(sink_to(cluster.url("postgres")), (&cluster, "orders"), copied, 0).await;
}

#[tokio::test]
async fn neither_are_streamed_ones_and_the_target_is_tried_again() {
    let cluster = Cluster::start().unwrap();
    cluster
        .script("postgres", &format!("{CREATE_ORDERS}; {WATCHED}"))
        .unwrap();
    let streamed = Builder::new().transaction(0x10, Part::Whole);
    let streamed = rows_of(streamed, &orders(), Op::Insert).delivery(1);
    nothing_is_lost(sink_to(cluster.url("postgres")), (&cluster, "orders"), streamed, 0).await;
}

#[tokio::test]
async fn neither_is_a_share_of_several_connections() {
    for fails in [0, 1] {
        let cluster = target(CREATE_ORDERS);
        let config = config::PostgresSink {
            relaxed: Some(2),
            ..sink_to(cluster.url("postgres"))
        };
        let streamed = Builder::new().transaction(0x10, Part::Whole);
        let streamed = rows_of(streamed, &orders(), Op::Insert).delivery(1);
        nothing_is_lost(config, (&cluster, "orders"), streamed, fails).await;
    }
}

#[tokio::test]
async fn neither_is_a_trail() {
    let cluster = target("SELECT 1");
    let config = config::PostgresSink {
        audit: Some(config::Audit {
            schema: "public".to_owned(),
            table: "changes".to_owned(),
            context: config::ContextRule::First,
            indexes: false,
        }),
        ..sink_to(cluster.url("postgres"))
    };
    let streamed = Builder::new().transaction(0x10, Part::Whole);
    let streamed = rows_of(streamed, &orders(), Op::Insert).delivery(1);
    nothing_is_lost(config, (&cluster, "changes"), streamed, 0).await;
}
