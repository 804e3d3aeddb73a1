use super::*;
use crate::sink::driver::without_known;

fn delivery(sequence: u64, commit_lsn: u64, part: Part, ids: &[&str]) -> Delivery {
    delivery_of(&orders(), sequence, commit_lsn, part, ids)
}

fn delivery_of(orders: &Arc<Relation>, sequence: u64, commit_lsn: u64, part: Part, ids: &[&str]) -> Delivery {
    let mut builder = Builder::new().transaction(commit_lsn, part);
    for id in ids {
        builder = builder.insert(orders, &[text(id), text("a"), NULL]);
    }
    builder.delivery(sequence)
}

fn ids(cluster: &Cluster) -> String {
    cluster
        .sql("postgres", "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders")
        .unwrap()
}

#[tokio::test]
async fn rows_and_position_come_together_or_not_at_all() {
    let cluster = target(CREATE_ORDERS);
    let mut crashing = sink(&cluster);
    assert_eq!(crashing.open(&context("warehouse")).await.unwrap(), None);
    deliver(&mut crashing, &delivery(1, 0x10, Part::Whole, &["1"])).await;
    crashing.write(&delivery(2, 0x20, Part::First, &["2"])).await.unwrap();
    assert_eq!(crashing.flush().await.unwrap(), 1);
    drop(crashing);

    let mut again = sink(&cluster);
    assert_eq!(
        again.open(&context("warehouse")).await.unwrap(),
        Some(Lsn(0x10 + COMMIT_BYTES))
    );
    assert_eq!(ids(&cluster), "1");
    deliver(&mut again, &delivery(1, 0x20, Part::Whole, &["2"])).await;
    again.close().await.unwrap();
    assert_eq!(ids(&cluster), "1,2");
    let stored = cluster
        .sql("postgres", "SELECT pipeline, sink, slot, lsn FROM rowmill.positions")
        .unwrap();
    assert_eq!(stored, "shop|warehouse|rowmill_shop|0/28");
}

#[tokio::test]
async fn the_position_never_goes_back() {
    let cluster = target(CREATE_ORDERS);
    let mut before = open(&cluster).await;
    deliver(&mut before, &delivery(1, 0x50, Part::Whole, &["5"])).await;
    drop(before);

    // Another sink is behind: what is here comes again, without its rows, and a copied row between.
    let mut again = sink(&cluster);
    let position = again.open(&context("warehouse")).await.unwrap();
    let known = without_known(&delivery(1, 0x20, Part::Whole, &["2"]), position.unwrap()).unwrap();
    assert!(known.rows.is_empty());
    again.write(&known).await.unwrap();
    let row = [text("7"), text("a"), NULL];
    let unit = Builder::new().copy(0x28, 1).row(Op::Read, &orders(), Some(&row), None);
    deliver(&mut again, &unit.delivery(2)).await;
    drop(again);
    assert_eq!(ids(&cluster), "5,7");
    let after = sink(&cluster).open(&context("warehouse")).await.unwrap();
    assert_eq!(after, position, "else what is here would be applied once more");
}

#[tokio::test]
async fn a_large_transaction_is_seen_whole_and_holds_nothing_back() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    sink.write(&delivery(1, 0x10, Part::Whole, &["1"])).await.unwrap();
    sink.write(&delivery(2, 0x20, Part::First, &["2"])).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 1);
    sink.write(&delivery(3, 0x20, Part::Middle, &["3"])).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 1);
    assert_eq!(ids(&cluster), "1");
    sink.write(&delivery(4, 0x20, Part::Last, &["4"])).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 4);
    assert_eq!(ids(&cluster), "1,2,3,4");
}

/// What is applied together counts as it was delivered: up to the one in which the transaction begins that goes on.
#[tokio::test]
async fn deliveries_that_are_applied_together_become_durable_one_by_one() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    let orders = orders();
    let delivery = |sequence, commit_lsn, part, id| delivery_of(&orders, sequence, commit_lsn, part, &[id]);
    sink.write(&delivery(1, 0x10, Part::Whole, "1")).await.unwrap();
    sink.write(&delivery(2, 0x20, Part::First, "2")).await.unwrap();
    sink.write(&delivery(3, 0x20, Part::Middle, "3")).await.unwrap();
    sink.write(&delivery(4, 0x20, Part::Last, "4")).await.unwrap();
    sink.write(&delivery(5, 0x30, Part::Whole, "5")).await.unwrap();
    sink.write(&delivery(6, 0x40, Part::First, "6")).await.unwrap();
    sink.write(&delivery(7, 0x40, Part::Middle, "7")).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 5);
    assert_eq!(ids(&cluster), "1,2,3,4,5");
    let position = "SELECT lsn FROM rowmill.positions";
    assert_eq!(cluster.sql("postgres", position).unwrap(), "0/38");
    sink.write(&delivery(8, 0x40, Part::Last, "8")).await.unwrap();
    assert_eq!(sink.flush().await.unwrap(), 8);
    assert_eq!(ids(&cluster), "1,2,3,4,5,6,7,8");
}

#[tokio::test]
async fn a_delivery_without_rows_needs_no_commit() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    let progress = sink.write(&delivery(7, 0x10, Part::Whole, &[])).await.unwrap();
    assert_eq!(progress, Progress::Durable(7));
}

#[tokio::test]
async fn a_lost_connection_is_transient_and_its_successor_goes_on() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    deliver(&mut sink, &delivery(1, 0x10, Part::Whole, &["1"])).await;
    sink.write(&delivery(2, 0x20, Part::Whole, &["2"])).await.unwrap();
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowmill shop warehouse'";
    cluster.sql("postgres", end).unwrap();
    let error = sink.flush().await.unwrap_err();
    assert!(matches!(error, SinkError::Transient(_)), "{error}");
    assert_eq!(sink.open(&context("warehouse")).await.unwrap(), Some(Lsn(0x18)));
    deliver(&mut sink, &delivery(2, 0x20, Part::Whole, &["2"])).await;
    assert_eq!(ids(&cluster), "1,2");
}

#[tokio::test]
async fn a_stopped_server_is_transient_until_it_is_back() {
    let cluster = target(CREATE_ORDERS);
    cluster.stop_server("fast").unwrap();
    let mut sink = sink(&cluster);
    let error = sink.open(&context("warehouse")).await.unwrap_err();
    assert!(matches!(error, SinkError::Transient(_)), "{error}");
    cluster.start_server().unwrap();
    assert_eq!(sink.open(&context("warehouse")).await.unwrap(), None);
}

#[tokio::test]
async fn a_second_host_is_refused() {
    let cluster = target(CREATE_ORDERS);
    let _first = open(&cluster).await;
    let refused = problem(sink(&cluster).open(&context("warehouse")).await);
    assert_eq!(refused.code, "E0405");
    sink(&cluster).open(&context("other")).await.unwrap();
}

/// What others of the target's sessions don't wait for is no matter of ours; more than `on` is somebody's wish.
#[tokio::test]
async fn a_session_waits_for_the_targets_disk_whatever_its_settings_say() {
    let cluster = target(CREATE_ORDERS);
    for (setting, expected) in [
        ("off", "on"),
        ("on", "on"),
        ("local", "local"),
        ("remote_apply", "remote_apply"),
    ] {
        cluster
            .sql(
                "postgres",
                &format!("ALTER ROLE postgres SET synchronous_commit = {setting}"),
            )
            .unwrap();
        let config = config::PostgresSink {
            relaxed: Some(2),
            ..sink_to(cluster.url("postgres"))
        };
        let mut sink = PostgresSink::new(&config);
        sink.open(&context(setting)).await.unwrap();
        let clients = sink.session.as_ref().unwrap().clients();
        assert_eq!(clients.len(), 2);
        for client in clients {
            let found = client.query_one("SHOW synchronous_commit", &[]).await.unwrap();
            assert_eq!(found.get::<_, &str>(0), expected);
        }
    }
}

/// What the stream doesn't bring again is counted by its commits, also in a table that was made before that was.
#[tokio::test]
async fn commits_of_copied_rows_are_counted_and_those_of_the_stream_are_not() {
    let cluster = target(CREATE_ORDERS);
    let mut sink = open(&cluster).await;
    let orders = orders();
    let counted = || {
        let sql = "SELECT unstreamed, lsn FROM rowmill.positions";
        cluster.sql("postgres", sql).unwrap()
    };
    let unit = |sequence: u64, number| {
        let id = sequence.to_string();
        let row = [text(&id), text("copied"), NULL];
        let builder = Builder::new()
            .copy(0x10, number)
            .row(Op::Read, &orders, Some(&row), None);
        builder.delivery(sequence)
    };
    deliver(&mut sink, &unit(1, 1)).await;
    assert_eq!(counted(), "1|");
    deliver(&mut sink, &delivery(2, 0x10, Part::Whole, &["2"])).await;
    assert_eq!(counted(), "1|0/18");
    deliver(&mut sink, &unit(3, 2)).await;
    assert_eq!(counted(), "2|0/18");

    let older = "ALTER TABLE rowmill.positions DROP COLUMN unstreamed";
    cluster.sql("postgres", older).unwrap();
    sink.open(&context("warehouse")).await.unwrap();
    assert_eq!(counted(), "0|0/18");
    deliver(&mut sink, &unit(4, 3)).await;
    assert_eq!(counted(), "1|0/18");
    sink.open(&context("warehouse")).await.unwrap();
    deliver(&mut sink, &unit(5, 4)).await;
    assert_eq!(counted(), "2|0/18", "it goes on from what it finds");
    assert_eq!(ids(&cluster), "1,2,3,4,5");
}
