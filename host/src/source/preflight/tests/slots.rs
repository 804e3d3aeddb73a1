//! Slots that are there already, and are of no use as they are.

use super::*;
use std::process::{Command, Stdio};

#[tokio::test]
async fn s20_slots_of_another_database_plugin_or_kind_are_refused() {
    let Stage { cluster, client, .. } = &Stage::new().await;
    cluster.sql("postgres", "CREATE DATABASE other").unwrap();
    let make = |database: &str, sql: &str| cluster.sql(database, sql).unwrap();
    make(
        "other",
        "SELECT pg_create_logical_replication_slot('of_other', 'pgoutput')",
    );
    make(
        "postgres",
        "SELECT pg_create_logical_replication_slot('testing', 'test_decoding')",
    );
    make("postgres", "SELECT pg_create_physical_replication_slot('physical')");
    make(
        "postgres",
        "SELECT pg_create_logical_replication_slot('two', 'pgoutput', false, true)",
    );
    let before = fingerprint(cluster, "postgres");
    let names = patterns(&["public.orders"]);
    for (slot, code, cause) in [
        ("of_other", codes::SLOT_DATABASE, "\"other\""),
        ("testing", codes::SLOT_PLUGIN, "test_decoding"),
        ("physical", codes::SLOT_PHYSICAL, "\"physical\""),
    ] {
        let report = run(
            client,
            &Request {
                slot,
                ..request(&names)
            },
        )
        .await
        .unwrap();
        assert_eq!(codes_of(&report), [code]);
        let found = problem(&report, code);
        assert!(found.headline.contains(&format!("`{slot}`")));
        assert!(found.cause.as_ref().unwrap().contains(cause), "{found:?}");
    }
    let report = run(
        client,
        &Request {
            slot: "two",
            ..request(&names)
        },
    )
    .await
    .unwrap();
    assert_eq!(codes_of(&report), [codes::SLOT_TWO_PHASE]);
    assert!(problem(&report, codes::SLOT_TWO_PHASE).headline.contains("`two`"));
    let asks = Request {
        slot: "two",
        two_phase: true,
        ..request(&names)
    };
    let report = run(client, &asks).await.unwrap();
    assert!(report.problems.is_empty() && report.slot.as_ref().unwrap().two_phase);
    make(
        "postgres",
        "SELECT pg_create_logical_replication_slot('one', 'pgoutput')",
    );
    let report = run(client, &Request { slot: "one", ..asks }).await.unwrap();
    // From its first stream on it hands over what is prepared.
    assert!(report.problems.is_empty() && !report.slot.as_ref().unwrap().two_phase);
    make("postgres", "SELECT pg_drop_replication_slot('one')");
    assert_eq!(fingerprint(cluster, "postgres"), before);
}

#[tokio::test]
async fn s19_who_has_the_slot_is_named() {
    let Stage { cluster, client, .. } = &Stage::new().await;
    cluster
        .sql(
            "postgres",
            "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')",
        )
        .unwrap();
    let mut child = Command::new("pg_recvlogical")
        .args([
            "--start",
            "--no-loop",
            "-f",
            "/dev/null",
            "-S",
            "taken",
            "-d",
            &cluster.url("postgres"),
        ])
        .args(["-o", "proto_version=1", "-o", "publication_names=mine"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let names = patterns(&["public.orders"]);
    let with = Request {
        slot: "taken",
        ..request(&names)
    };
    let is_taken = "SELECT active FROM pg_replication_slots WHERE slot_name = 'taken'";
    cluster.wait_sql("postgres", is_taken, "t").unwrap();
    let report = run(client, &with).await.unwrap();
    let found = problem(&report, codes::SLOT_ACTIVE);
    let pid = report.slot.as_ref().unwrap().active.as_ref().unwrap().pid;
    let cause = found.cause.as_deref().unwrap();
    for part in [
        format!("PID {pid}"),
        "client 127.0.0.1".into(),
        "application_name `pg_recvlogical`".into(),
    ] {
        assert!(cause.contains(&part), "{cause}");
    }
    assert!(found.help.contains(&format!("pg_terminate_backend({pid})")));
    let dropped = crate::source::slot::drop(client, "taken").await.unwrap_err();
    assert_eq!(dropped.code, codes::SLOT_ACTIVE);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn s17_a_slot_is_warned_of_before_it_is_lost_and_refused_then() {
    let Stage { cluster, client, .. } = &Stage::new().await;
    let sql = |sql: &str| cluster.sql("postgres", sql).unwrap();
    sql("SELECT pg_create_logical_replication_slot('rowmill_shop', 'pgoutput')");
    sql("ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'");
    sql("SELECT pg_reload_conf()");
    let advance = || {
        sql("CREATE TABLE IF NOT EXISTS filler (id int)");
        sql("INSERT INTO filler VALUES (1)");
        sql("SELECT pg_switch_wal()");
        sql("CHECKPOINT");
    };
    let names = patterns(&["public.orders"]);
    let mut warned = false;
    // A segment of 16 MiB with each turn.
    let mut turns = 0..20;
    let report = loop {
        assert!(turns.next().is_some(), "it isn't lost");
        let report = run(client, &request(&names)).await.unwrap();
        warned |= report.notices.iter().any(|notice| notice.code == codes::SLOT_AT_RISK);
        if !report.problems.is_empty() {
            break report;
        }
        advance();
    };
    assert!(warned, "said before it happened");
    let found = problem(&report, codes::SLOT_LOST);
    assert_eq!((found.exit, report.exit()), (Exit::Gap, Some(Exit::Gap)));
    assert_eq!(found.headline, "replication slot `rowmill_shop` is lost");
    assert!(
        found
            .help
            .starts_with("`rowmill remove`, empty the tables at the targets")
    );
    assert!(
        found.cause.as_ref().unwrap().contains("max_slot_wal_keep_size is 32MB"),
        "{found:?}"
    );
}
