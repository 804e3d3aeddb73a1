//! The client against real servers.

use super::*;
use crate::batch::Lsn;
use crate::postgres::Conninfo;
use bytes::Bytes;
use rowmill_tests::{Cluster, ClusterOptions};
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(30);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "the condition has not come true");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn shop(settings: &[&str]) -> Cluster {
    let options = ClusterOptions {
        settings: settings.iter().map(|line| (*line).to_owned()).collect(),
        hba: vec![],
    };
    let cluster = Cluster::start_with(&options).unwrap();
    cluster
        .sql(
            "postgres",
            "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE PUBLICATION p FOR TABLE orders",
        )
        .unwrap();
    cluster
}

async fn open(cluster: &Cluster) -> (Receiver, watch::Sender<Lsn>) {
    let conninfo = Conninfo::parse(&cluster.url("postgres")).unwrap();
    let mut connection = Connection::connect(&conninfo, "rowmill test").await.unwrap();
    let point = connection.create_logical_slot("s", false, false).await.unwrap();
    let (sender, acks) = watch::channel(Lsn(0));
    let options = ProtocolOptions::choose(connection.server_version());
    let receiver = connection
        .start("s", point, &["p".into()], options, acks)
        .await
        .unwrap();
    (receiver, sender)
}

/// The payload of each XLogData frame; everything must be whole CopyData frames.
fn payloads(mut bytes: Bytes) -> Vec<Bytes> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], b'd');
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize + 1;
        let frame = bytes.split_to(length);
        if frame[5] == b'w' {
            found.push(frame.slice(5 + 25..));
        }
    }
    found
}

/// Receives until so many commits have come; all payloads.
async fn receive_commits(receiver: &mut Receiver, commits: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    let mut seen = 0;
    while seen < commits {
        let new = payloads(in_time(receiver.next()).await.unwrap());
        seen += new.iter().filter(|payload| payload[0] == b'C').count();
        all.extend(new);
    }
    all
}

fn holds(payload: &[u8], text: &str) -> bool {
    payload.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_server_tells_who_it_is() {
    let cluster = Cluster::start().unwrap();
    let conninfo = Conninfo::parse(&cluster.url("postgres")).unwrap();
    let mut connection = Connection::connect(&conninfo, "rowmill test").await.unwrap();
    let number: u32 = cluster
        .sql("postgres", "SHOW server_version_num")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(connection.server_version(), number);
    let identity = connection.identify_system().await.unwrap();
    let system = cluster
        .sql("postgres", "SELECT system_identifier FROM pg_control_system()")
        .unwrap();
    assert_eq!(identity.system_identifier.to_string(), system);
    assert_eq!((identity.timeline, identity.database.as_deref()), (1, Some("postgres")));
    let sql = format!(
        "SELECT application_name, NULL FROM pg_stat_activity WHERE pid = {}",
        connection.backend_pid()
    );
    let rows = connection.simple_query(&sql).await.unwrap();
    assert_eq!(rows, [[Some("rowmill test".to_owned()), None]]);
    // An error leaves the connection usable.
    let error = connection.simple_query("SELECT * FROM nowhere").await.unwrap_err();
    assert_eq!(error.sqlstate, "42P01");
    assert_eq!(
        connection.simple_query("SHOW DateStyle").await.unwrap()[0][0].as_deref(),
        Some("ISO, MDY")
    );
    let (_sender, acks) = watch::channel(Lsn(0));
    let missing = connection
        .start("nope", Lsn(0), &["p".into()], ProtocolOptions::choose(number), acks)
        .await;
    assert_eq!(missing.err().unwrap().sqlstate, "42704");
}

#[tokio::test]
async fn committed_rows_arrive_and_rolled_back_ones_do_not() {
    let cluster = shop(&[]);
    let (mut receiver, _acks) = open(&cluster).await;
    cluster
        .sql("postgres", "BEGIN; INSERT INTO orders VALUES (1, 'never'); ROLLBACK")
        .unwrap();
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (2, 'blue socks')")
        .unwrap();
    // Larger than any buffer.
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (3, repeat('x', 5000000))")
        .unwrap();
    let all = receive_commits(&mut receiver, 2).await;
    assert!(
        all.iter()
            .any(|payload| payload[0] == b'I' && holds(payload, "blue socks"))
    );
    assert!(
        all.iter()
            .any(|payload| payload[0] == b'I' && payload.len() > 5_000_000)
    );
    assert!(!all.iter().any(|payload| holds(payload, "never")));
    receiver.finish().await.unwrap();
    let active = || {
        cluster
            .sql("postgres", "SELECT active FROM pg_replication_slots")
            .unwrap()
    };
    wait_until(|| active() == "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_moves_confirmed_flush() {
    let cluster = shop(&[]);
    let (mut receiver, acks) = open(&cluster).await;
    cluster.sql("postgres", "INSERT INTO orders VALUES (1, 'a')").unwrap();
    let all = receive_commits(&mut receiver, 1).await;
    let commit = all.iter().find(|payload| payload[0] == b'C').unwrap();
    let end = Lsn(u64::from_be_bytes(commit[10..18].try_into().unwrap()));
    acks.send(end).unwrap();
    let tending = tokio::spawn(async move { receiver.tend().await });
    let confirmed = || {
        cluster
            .sql("postgres", "SELECT confirmed_flush_lsn FROM pg_replication_slots")
            .unwrap()
    };
    wait_until(|| confirmed() == end.to_string());
    tending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_behind_does_not_cost_the_connection() {
    let cluster = shop(&["wal_sender_timeout=2s"]);
    let (mut receiver, _acks) = open(&cluster).await;
    // More than the sockets' buffers hold, so that the server waits for us.
    cluster
        .sql(
            "postgres",
            "INSERT INTO orders SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g",
        )
        .unwrap();
    let walsender = || {
        let sql = "SELECT pid FROM pg_stat_replication WHERE now() - backend_start > '6 s'";
        cluster.sql("postgres", sql).unwrap()
    };
    let backend = cluster.sql("postgres", "SELECT pid FROM pg_stat_replication").unwrap();
    let start = Instant::now();
    loop {
        tokio::select! {
            error = receiver.tend() => panic!("{error}"),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        if walsender() == backend {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the walsender is gone");
    }
    let all = receive_commits(&mut receiver, 1).await;
    assert_eq!(all.iter().filter(|payload| payload[0] == b'I').count(), 20_000);
}

#[tokio::test]
async fn dropped_calls_lose_nothing_and_the_last_acknowledgement_arrives() {
    const ROWS: usize = 50_000;
    let cluster = shop(&[]);
    let (mut receiver, acks) = open(&cluster).await;
    let sql = format!("INSERT INTO orders SELECT g, 'row number ' || g FROM generate_series(1, {ROWS}) g");
    cluster.sql("postgres", &sql).unwrap();
    let start = Instant::now();
    let (mut rows, mut end) = (0, None);
    while end.is_none() {
        assert!(start.elapsed() < PATIENCE, "{rows} rows");
        let _ = tokio::time::timeout(Duration::from_micros(100), receiver.tend()).await;
        let Ok(bytes) = tokio::time::timeout(Duration::from_micros(300), receiver.next()).await else {
            continue;
        };
        for payload in payloads(bytes.unwrap()) {
            rows += usize::from(payload[0] == b'I');
            if payload[0] == b'C' {
                end = Some(Lsn(u64::from_be_bytes(payload[10..18].try_into().unwrap())));
            }
        }
    }
    assert_eq!(rows, ROWS);
    acks.send(end.unwrap()).unwrap();
    receiver.finish().await.unwrap();
    let confirmed = cluster
        .sql("postgres", "SELECT confirmed_flush_lsn FROM pg_replication_slots")
        .unwrap();
    assert_eq!(confirmed, end.unwrap().to_string());
}

#[tokio::test]
async fn a_terminated_walsender_is_a_transient_error() {
    let cluster = shop(&[]);
    let (mut receiver, _acks) = open(&cluster).await;
    cluster
        .sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        .unwrap();
    let error = loop {
        if let Err(error) = in_time(receiver.next()).await {
            break error;
        }
    };
    assert!(error.is_transient());
    assert_eq!(error.sqlstate(), Some("57P01"));
}

#[tokio::test]
async fn a_server_that_shuts_down_lets_go_of_us() {
    let cluster = shop(&[]);
    let (mut receiver, acks) = open(&cluster).await;
    let stopping = std::thread::spawn(move || cluster.stop_server("fast"));
    let error = loop {
        match in_time(receiver.next()).await {
            Ok(_) => {
                // Everything is durable at once: nothing holds the shutdown up.
                acks.send_if_modified(|ack| std::mem::replace(ack, receiver.received()) != receiver.received());
            }
            Err(error) => break error,
        }
    };
    assert!(error.is_transient(), "{error}");
    drop(receiver);
    stopping.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_noticed() {
    let cluster = shop(&[]);
    let (mut receiver, _acks) = open(&cluster).await;
    receiver.set_idle_limit(Duration::from_secs(1));
    let backend = cluster.sql("postgres", "SELECT pid FROM pg_stat_replication").unwrap();
    let signal = |name: &str| {
        assert!(
            std::process::Command::new("kill")
                .args([name, &backend])
                .status()
                .unwrap()
                .success()
        )
    };
    signal("-STOP");
    let error = loop {
        if let Err(error) = in_time(receiver.next()).await {
            break error;
        }
    };
    signal("-CONT");
    assert!(
        matches!(error, ReceiveError::Transient(TransientCause::Idle(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_quiet_server_is_not_taken_for_dead() {
    let cluster = shop(&["wal_sender_timeout=2s"]);
    let (mut receiver, _acks) = open(&cluster).await;
    receiver.set_idle_limit(Duration::from_secs(2));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let _ = tokio::time::timeout(Duration::from_millis(500), async { receiver.next().await.unwrap() }).await;
    }
}

#[tokio::test]
async fn a_unix_socket_streams_too() {
    let cluster = shop(&[]);
    let text = format!(
        "host={} port={} user=postgres dbname=postgres",
        cluster.socket_dir().display(),
        cluster.port()
    );
    let conninfo = Conninfo::parse(&text).unwrap();
    let mut connection = Connection::connect(&conninfo, "rowmill test").await.unwrap();
    let point = connection.create_logical_slot("s", false, false).await.unwrap();
    let options = ProtocolOptions::choose(connection.server_version());
    let (_sender, acks) = watch::channel(Lsn(0));
    let mut receiver = connection
        .start("s", point, &["p".into()], options, acks)
        .await
        .unwrap();
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (1, 'over the socket')")
        .unwrap();
    let all = receive_commits(&mut receiver, 1).await;
    assert!(all.iter().any(|payload| holds(payload, "over the socket")));
}
