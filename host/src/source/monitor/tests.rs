use super::*;
use crate::source::testing::connect;
use rowmill_tests::Cluster;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// A consumer whose slot is in use, ended with the value.
struct Consumer(Child);

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Consumer {
    async fn start(cluster: &Cluster, slot: &str) -> Self {
        let child = Command::new("pg_recvlogical")
            .args([
                "--start",
                "--no-loop",
                "-f",
                "/dev/null",
                "-S",
                slot,
                "-d",
                &cluster.url("postgres"),
            ])
            .args(["-o", "proto_version=1", "-o", "publication_names=p"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let consumer = Self(child);
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        cluster.wait_sql("postgres", streams, "1").unwrap();
        consumer
    }

    /// Stops the process where it stands: it reads nothing and confirms nothing.
    fn freeze(&self) {
        let status = Command::new("kill")
            .args(["-STOP", &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

fn make_slot(cluster: &Cluster) {
    cluster
        .sql(
            "postgres",
            "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t",
        )
        .unwrap();
    cluster
        .sql("postgres", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        .unwrap();
}

#[tokio::test]
async fn s15_a_shutdown_is_noticed_at_once_while_a_frozen_consumer_holds_it_up() {
    // Without a timeout for senders, the frozen one holds the shutdown up for as long as it lives.
    let options = rowmill_tests::ClusterOptions {
        settings: vec!["wal_sender_timeout=0".into()],
        ..Default::default()
    };
    let cluster = Arc::new(Cluster::start_with(&options).unwrap());
    make_slot(&cluster);
    let consumer = Consumer::start(&cluster, "s").await;
    consumer.freeze();
    cluster.sql("postgres", "INSERT INTO t VALUES (1)").unwrap();

    let (report, mut reports) = watch::channel(SlotHealth::default());
    let client = connect(&cluster, "postgres", "postgres").await;
    let watching = tokio::spawn(async move { watch(&client, until_closed(&client), "s", &report).await });
    reports.wait_for(|health| health.active).await.unwrap();

    let stopping = {
        let cluster = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || cluster.stop_server("fast"))
    };
    let begun = Instant::now();
    let ended = watching.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(
        matches!(ended, Ended::ServerShutdown(_) | Ended::ConnectionLost),
        "{ended:?}"
    );
    assert!(!stopping.is_finished(), "the server waits for its walsender");
    // What the runtime does with its own replication connection.
    drop(consumer);
    stopping.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn s18_the_slot_is_reported_as_it_falls_behind_and_is_dropped() {
    let cluster = Cluster::start().unwrap();
    make_slot(&cluster);
    let (report, mut reports) = watch::channel(SlotHealth::default());
    let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), tokio_postgres::NoTls)
        .await
        .unwrap();
    let watching = tokio::spawn(async move {
        // The connection is driven by the watch itself.
        watch_every(&client, connection, "s", &report, Duration::from_millis(50)).await
    });
    let first = reports.wait_for(|health| health.present).await.unwrap().clone();
    assert_eq!(first.wal_status.as_deref(), Some("reserved"));
    assert_eq!(first.safe_wal_size, None, "no limit");
    assert!(!first.active && first.confirmed_flush_lsn.is_some());

    for statement in [
        "INSERT INTO t SELECT generate_series(1, 20000)",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'",
        "SELECT pg_reload_conf()",
    ] {
        cluster.sql("postgres", statement).unwrap();
    }
    let behind = |health: &SlotHealth| health.retained > Some(1 << 20) && health.safe_wal_size.is_some();
    let later = reports.wait_for(behind).await.unwrap().clone();
    assert!(later.wal_lsn > first.wal_lsn && later.polls > first.polls);

    cluster.sql("postgres", "SELECT pg_drop_replication_slot('s')").unwrap();
    reports.wait_for(|health| !health.present).await.unwrap();

    cluster
        .sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
        .unwrap();
    let ended = watching.await.unwrap();
    assert!(
        matches!(ended, Ended::ServerShutdown(_) | Ended::ConnectionLost),
        "{ended:?}"
    );
}

#[tokio::test]
async fn the_watch_ends_with_its_listener() {
    let cluster = Cluster::start().unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let (report, reports) = watch::channel(SlotHealth::default());
    drop(reports);
    assert_eq!(
        watch(&client, until_closed(&client), "s", &report).await,
        Ended::Unwatched
    );
}
