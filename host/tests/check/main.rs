//! What is refused, by `check` and by `run`, on real servers: with its code, its exit code, and nothing changed.

mod given;

use given::{Given, LONG, SCHEMA, cluster, command, left_on, nothing, refused, rowmill, text};
use rowmill_tests::{Cluster, ClusterOptions, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn what_the_database_lacks_is_refused_and_nothing_is_changed() {
    let cluster = cluster();
    let good = || Given::good(&cluster);
    let sql = |statement: &str| cluster.sql("shop", statement).unwrap();

    refused(
        &cluster,
        &Given {
            table: "public.nowhere",
            ..good()
        },
        "E0210",
        3,
        nothing,
    );
    refused(
        &cluster,
        &Given {
            table: "public.keyless",
            ..good()
        },
        "E0211",
        3,
        nothing,
    );
    sql("UPDATE keyless SET id = 2");
    let plain = cluster.url("shop").replace("postgres@", "plain@");
    refused(&cluster, &Given { url: plain, ..good() }, "E0204", 3, nothing);
    let pooler = "postgresql://app@db-pooler.example.com/shop".to_owned();
    refused(&cluster, &Given { url: pooler, ..good() }, "E0205", 3, nothing);

    sql("SELECT pg_create_physical_replication_slot('rowmill_shop')");
    refused(&cluster, &good(), "E0219", 3, nothing);
    sql("SELECT pg_drop_replication_slot('rowmill_shop')");
    let create = "SELECT pg_create_logical_replication_slot('rowmill_shop', 'pgoutput')";
    cluster.sql("other", create).unwrap();
    refused(&cluster, &good(), "E0217", 3, nothing);
    cluster
        .sql("other", "SELECT pg_drop_replication_slot('rowmill_shop')")
        .unwrap();
    sql("SELECT pg_create_physical_replication_slot('a'), pg_create_physical_replication_slot('b')");
    refused(&cluster, &good(), "E0208", 3, nothing);
    sql("SELECT pg_drop_replication_slot('a'), pg_drop_replication_slot('b')");

    sql(create);
    let mut consumer = Consumer::start(&cluster);
    wait_until("the other consumer streams", LONG, || {
        let active = sql("SELECT active FROM pg_replication_slots");
        Ok((active == "t").then_some(()))
    })
    .unwrap();
    refused(&cluster, &good(), "E0220", 3, nothing);
    consumer.0.kill().unwrap();
    consumer.0.wait().unwrap();
}

/// Another program that streams from our slot.
struct Consumer(Child);

impl Consumer {
    fn start(cluster: &Cluster) -> Self {
        let port = cluster.port().to_string();
        let child = Command::new("pg_recvlogical")
            .args(["-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-p", &port])
            .args(["--slot", "rowmill_shop", "--start", "-f", "/dev/null"])
            .args(["-o", "proto_version=1", "-o", "publication_names=existing"])
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn bad_plugins_and_targets_are_refused_and_nothing_is_changed() {
    let cluster = cluster();
    let plugin = Given {
        plugins: "plugins: { mine: { module: mine.wasm } }",
        route: ", plugins: [mine]",
        ..Given::good(&cluster)
    };
    // A path that leads nowhere is the file's own mistake.
    refused(&cluster, &plugin, "E0110", 2, nothing);
    refused(&cluster, &plugin, "E0301", 5, |folder| {
        std::fs::write(folder.join("mine.wasm"), "#!/bin/sh\n").unwrap();
    });
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/hostile/foreign_import.wat");
    let hostile = std::fs::read_to_string(hostile).unwrap();
    let put = |folder: &Path, wat: &str| std::fs::write(folder.join("mine.wasm"), wat::parse_str(wat).unwrap());
    refused(&cluster, &plugin, "E0304", 5, |folder| put(folder, &hostile).unwrap());
    let import = "(import \"env\" \"open_file\" (func (param i32 i32) (result i32)))";
    let other_abi = hostile.replace(import, "").replace("0x10000)", "0x20000)");
    refused(&cluster, &plugin, "E0302", 5, |folder| put(folder, &other_abi).unwrap());

    let target = |url: String| Given {
        sink: format!("{{ postgres: {{ url: '{url}' }} }}"),
        ..Given::good(&cluster)
    };
    refused(&cluster, &target(cluster.url("target")), "E0402", 6, nothing);
    cluster
        .sql("target", "CREATE TABLE orders (id int PRIMARY KEY, email text)")
        .unwrap();
    refused(&cluster, &target(cluster.url("target")), "E0403", 6, nothing);
    cluster
        .sql("target", "ALTER TABLE orders ADD ssn text, DROP CONSTRAINT orders_pkey")
        .unwrap();
    refused(&cluster, &target(cluster.url("target")), "E0404", 6, nothing);
    refused(&cluster, &target(cluster.url("nowhere")), "E0255", 6, nothing);
    let file = Given {
        sink: "{ file: { path: in_the_way/orders.jsonl } }".to_owned(),
        ..Given::good(&cluster)
    };
    refused(&cluster, &file, "E0424", 6, |folder| {
        std::fs::write(folder.join("in_the_way"), "a file").unwrap();
    });
    let column = Given {
        route: ", columns: [id, mail]",
        ..Given::good(&cluster)
    };
    refused(&cluster, &column, "E0702", 2, nothing);
}

/// A row whose large value doesn't change can't be judged by it.
#[test]
fn a_filter_that_reads_what_updates_leave_out_is_named_with_its_columns() {
    let cluster = cluster();
    let sql = |statement: &str| cluster.sql("shop", statement).unwrap();
    sql("CREATE TABLE parcels (id int PRIMARY KEY, status text, note text)");
    let given = Given {
        table: "public.parcels",
        plugins: "plugins: { paid: { module: paid_only.wasm } }",
        route: ", plugins: [paid]",
        ..Given::good(&cluster)
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), given.yaml()).unwrap();
    let module = rowmill_tests::plugin("paid_only").unwrap();
    std::fs::copy(module, folder.path().join("paid_only.wasm")).unwrap();
    let warned = || {
        let output = rowmill(folder.path(), &["check", "--output", "json"]);
        let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let notices = checked["notices"].as_array().unwrap().clone();
        let is_it = |notice: &serde_json::Value| notice["code"] == "E0238" && notice["level"] == "warning";
        notices.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    let said = warned();
    assert_eq!(said.len(), 1, "{said:?}");
    let part = |name: &str| said[0][name].as_str().unwrap();
    let headline = part("headline");
    assert!(
        headline.starts_with("filter paid reads") && headline.contains("public.parcels"),
        "{headline}"
    );
    assert!(part("detail").starts_with("status: "), "{said:?}");
    assert_eq!(part("help"), "ALTER TABLE public.parcels REPLICA IDENTITY FULL;");

    sql(part("help"));
    assert!(warned().is_empty());
    sql("ALTER TABLE parcels REPLICA IDENTITY DEFAULT; ALTER TABLE parcels ALTER status SET STORAGE PLAIN");
    assert!(warned().is_empty());
}

#[test]
fn a_server_that_logs_too_little_is_refused() {
    let options = ClusterOptions {
        settings: vec!["wal_level=replica".to_owned()],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_with(&options).unwrap();
    cluster.sql("postgres", "CREATE DATABASE shop").unwrap();
    cluster.script("shop", SCHEMA).unwrap();
    refused(&cluster, &Given::good(&cluster), "E0202", 3, nothing);
}

/// `rowmill run` in the background.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_good_pipeline_is_checked_run_measured_and_removed() {
    let cluster = cluster();
    cluster
        .sql("target", "CREATE TABLE orders (id int PRIMARY KEY, email text)")
        .unwrap();
    let before = left_on(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let console = listener.local_addr().unwrap();
    drop(listener);
    let given = Given {
        route: ", columns: [id, email]",
        sink: format!("{{ postgres: {{ url: '{}' }} }}", cluster.url("target")),
        ..Given::good(&cluster)
    };
    let yaml = given.yaml().replace("console: off", &format!("console: {console}"));
    std::fs::write(at.join("pipeline.yaml"), yaml).unwrap();
    let ok = |arguments: &[&str]| {
        let output = rowmill(at, arguments);
        assert!(
            output.status.success(),
            "{arguments:?} {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    };

    let checked = ok(&["check", "--sample", "2"]);
    assert!(checked.contains("\"email\":\"c1@example.com\""), "{checked}");
    assert!(!checked.contains("ssn") && !checked.contains("secret"), "{checked}");
    assert_eq!(before, left_on(&cluster), "check changed a server");

    let child = command(at, &["run"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut running = Running(child.unwrap());
    let metrics = || get(console);
    wait_until("the copy is delivered and counted", LONG, || {
        let text = metrics();
        let all = [
            "rowmill_rows_copied_total{pipeline=\"shop\"} 5",
            "rowmill_rows_delivered_total{pipeline=\"shop\",sink=\"out\"} 5",
            "rowmill_ready{pipeline=\"shop\"} 1",
        ];
        anyhow::ensure!(all.iter().all(|line| text.contains(line)), "{text}");
        Ok(Some(()))
    })
    .unwrap();
    for name in [
        "rows_received",
        "transactions_received",
        "lag_bytes",
        "lsn_acknowledged",
        "sink_queue_bytes",
    ] {
        assert!(get(console).contains(&format!("rowmill_{name}")), "{name}");
    }

    // Our own stream is in nobody's way, and nobody takes the ground from under it.
    ok(&["check"]);
    let refused = rowmill(at, &["remove"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("E0501"));
    let slots = ok(&["slot", "list"]);
    assert!(
        slots.starts_with("rowmill_shop: of this pipeline, used by PID "),
        "{slots}"
    );
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    wait_until("the server lets go of the slot", LONG, || {
        let active = cluster.sql("shop", "SELECT active FROM pg_replication_slots")?;
        Ok((active == "f").then_some(()))
    })
    .unwrap();

    let with_it = left_on(&cluster);
    let planned = ok(&["remove", "--dry-run"]);
    for what in [
        "pg_drop_replication_slot",
        "DROP PUBLICATION",
        "DELETE FROM rowmill.positions",
        "state.redb",
    ] {
        assert!(planned.contains(what), "{planned}");
    }
    assert_eq!(with_it, left_on(&cluster));
    ok(&["remove"]);
    assert!(!at.join(".rowmill/shop/state.redb").exists());
    assert_eq!(
        cluster.sql("target", "SELECT count(*) FROM rowmill.positions").unwrap(),
        "0"
    );
    cluster.sql("target", "DROP SCHEMA rowmill CASCADE").unwrap();
    assert_eq!(before, left_on(&cluster), "something was left");
    assert_eq!(ok(&["remove"]).trim(), "there is nothing to remove");

    cluster
        .sql("shop", "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
        .unwrap();
    cluster
        .sql(
            "other",
            "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')",
        )
        .unwrap();
    assert_eq!(rowmill(at, &["slot", "drop", "theirs"]).status.code(), Some(3));
    ok(&["slot", "drop", "mine"]);
    assert_eq!(
        cluster
            .sql("shop", "SELECT slot_name FROM pg_replication_slots")
            .unwrap(),
        "theirs"
    );
}

/// The text of /metrics.
fn get(console: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut answer = String::new();
    let asked = std::net::TcpStream::connect(console).and_then(|mut stream| {
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    // Not listening yet is an empty answer.
    let _ = asked;
    answer
}
