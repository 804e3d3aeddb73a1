//! A copy that is killed in the middle goes on where it was: what is copied isn't read again.

use anyhow::{Result, ensure};
use rowmill::checkpoint::{CopyState, RowsAhead, StateStore};
use rowmill_tests::{Cluster, Host, LONG, free_port, get, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ROWS: u64 = 120_000;
/// Of the other tables.
const OTHER_ROWS: u64 = 1500;
const WORKERS: u64 = 2;
const UNIT_ROWS: u64 = 1000;

const TABLES: &str = "
    CREATE TABLE first (id int PRIMARY KEY, v text, big text);
    CREATE TABLE second (a text COLLATE \"und-x-icu\", b int, v text, PRIMARY KEY (a, b));
    CREATE TABLE keyless (id int, v text);
    ALTER TABLE keyless REPLICA IDENTITY FULL;
    CREATE TABLE large (id bigint PRIMARY KEY, v text, big text);
    ALTER TABLE first ALTER big SET STORAGE EXTERNAL;
    ALTER TABLE large ALTER big SET STORAGE EXTERNAL;
";

/// Tables that are copied soon, and a large one that isn't.
fn source() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    for database in ["source", "target"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {database}"))?;
        cluster.script(database, TABLES)?;
    }
    cluster.script(
        "source",
        &format!(
            "INSERT INTO first SELECT n, 'v', repeat('b', 3000) FROM generate_series(1, 500) n;
             INSERT INTO second SELECT chr(65 + n % 58), n, 'v' FROM generate_series(1, 500) n;
             INSERT INTO keyless SELECT n, 'v' FROM generate_series(1, 500) n;
             INSERT INTO large SELECT n, 'v' || n, CASE WHEN n % 100 = 0 THEN repeat('l', 3000) END
                 FROM generate_series(1, {ROWS}) n;
             CREATE ROLE reader LOGIN REPLICATION;
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
             CREATE PUBLICATION all_of_it FOR TABLE first, second, keyless, large;"
        ),
    )?;
    Ok(cluster)
}

fn pipeline(cluster: &Cluster, port: u16) -> String {
    let source = cluster.url("source").replace("postgres@", "reader@");
    format!(
        "name: shop
console: 127.0.0.1:{port}
source:
  postgres:
    url: {source}
    publication: all_of_it
    snapshot: {{ mode: initial, connections: {WORKERS}, unit_rows: {UNIT_ROWS} }}
routes:
  - {{ tables: ['public.*'], sinks: [target] }}
sinks:
  target: {{ postgres: {{ url: {} }} }}
",
        cluster.url("target"),
    )
}

/// What the console says of a table's copy.
fn copied(port: u16, table: &str) -> Result<(u64, bool)> {
    let status: serde_json::Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
    let copies = status["pipelines"][0]["copies"].as_array().cloned().unwrap_or_default();
    let copy = copies.iter().find(|copy| copy["table"] == format!("public.{table}"));
    Ok(copy.map_or((0, false), |copy| {
        (copy["rows"].as_u64().unwrap_or(0), copy["done"] == true)
    }))
}

fn rows_copied(port: u16) -> Result<u64> {
    let status: serde_json::Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
    Ok(status["pipelines"][0]["rows"]["copied"].as_u64().unwrap_or(0))
}

fn digest(cluster: &Cluster, database: &str) -> Result<String> {
    let of = |table: &str, order: &str| {
        format!("SELECT '{table}', count(*), md5(string_agg(t::text, '|' ORDER BY {order})) FROM {table} t")
    };
    let tables = [
        ("first", "id"),
        ("second", "a, b"),
        ("keyless", "id, v"),
        ("large", "id"),
    ];
    let all: Vec<String> = tables.iter().map(|(table, order)| of(table, order)).collect();
    cluster.sql(database, &all.join(" UNION ALL "))
}

/// Changes of every kind, until told to stop.
fn write(cluster: &Cluster, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Result<()>> {
    let (url, stop) = (cluster.url("source"), Arc::clone(stop));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            for n in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (id, to) = (n * 7919 % ROWS + 1, ROWS + n * 104_729 % ROWS + 1);
                client
                    .batch_execute(&format!(
                        "UPDATE large SET v = 'later {n}' WHERE id = {id};
                         UPDATE large SET id = {to} WHERE id = {id} + 100 AND NOT EXISTS (SELECT FROM large WHERE id = {to});
                         DELETE FROM large WHERE id = {id} + 7;
                         INSERT INTO large VALUES (-{n}, 'new', NULL) ON CONFLICT DO NOTHING;
                         UPDATE first SET v = '{n}' WHERE id = {id} % 500;
                         UPDATE second SET a = chr(65 + {n} % 58) WHERE b = {id} % 500;
                         UPDATE keyless SET v = '{n}' WHERE id = {id} % 500"
                    ))
                    .await?;
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            Ok(())
        })
    })
}

/// Tables that are copied, and the rows of `large` that count.
fn ledger(folder: &Path) -> Result<(Vec<String>, u64)> {
    let store = StateStore::open(&folder.join(".rowmill/shop"), "shop").map_err(anyhow::Error::msg)?;
    let copies = store.copies().map_err(anyhow::Error::msg)?;
    let finished = copies.iter().filter(|copy| copy.state == CopyState::Finished);
    let finished = finished.map(|copy| copy.table.clone()).collect();
    let large = copies.iter().find(|copy| copy.table == "public.large");
    let ranges = large.map(|copy| store.copied_ranges(copy.table_oid)).transpose();
    let ranges = ranges.map_err(anyhow::Error::msg)?.unwrap_or_default();
    Ok((finished, ranges.iter().map(|range| range.rows).sum()))
}

#[test]
fn what_is_copied_is_not_read_again_after_a_kill() {
    let cluster = source().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&cluster, &stop);
    let mut host = Host::run(folder.path(), &pipeline(&cluster, port)).unwrap();
    let half = wait_until("half of the large table is copied", LONG, || {
        host.must_run()?;
        let rows: u64 = cluster.sql("target", "SELECT count(*) FROM large")?.parse()?;
        Ok((rows >= ROWS / 2).then_some(rows))
    });
    let half = half.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    let sent = rows_copied(port).unwrap();
    host.kill().unwrap();

    let (finished, counted) = ledger(folder.path()).unwrap();
    for table in ["first", "second", "keyless"] {
        assert!(finished.contains(&format!("public.{table}")), "{finished:?}");
        cluster
            .sql("source", &format!("REVOKE SELECT ON {table} FROM reader"))
            .unwrap();
    }
    assert!(!finished.contains(&"public.large".to_owned()));
    // No row counts that isn't there; the writers delete about as many as they insert.
    let there: u64 = cluster
        .sql("target", "SELECT count(*) FROM large")
        .unwrap()
        .parse()
        .unwrap();
    assert!(counted <= there + WORKERS * UNIT_ROWS, "{counted} of {there}");
    // What was read and doesn't count: a unit or two of each worker, and keys that were read again; more where the machine is
    // busy. It would be half of the table if nothing counted.
    let lost = sent.saturating_sub(OTHER_ROWS + counted);
    assert!(lost <= ROWS / 10, "{lost}: {counted} of {sent}");

    let mut host = Host::run(folder.path(), &pipeline(&cluster, port)).unwrap();
    let again = wait_until("the large table is copied", LONG, || {
        host.must_run()?;
        let (_, done) = copied(port, "large")?;
        Ok(if done { Some(rows_copied(port)?) } else { None })
    });
    let again = again.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap().unwrap();
    let source = digest(&cluster, "source").unwrap();
    let equal = wait_until("target equals source", LONG, || {
        host.must_run()?;
        let target = digest(&cluster, "target")?;
        ensure!(target == source, "source {source}\ntarget {target}");
        Ok(Some(()))
    });
    equal.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    println!("{half} rows were durable before the kill and {sent} sent; {counted} count; {again} were copied after it");
    assert!(host.log().contains("the copy goes on where it was"));
    // Writers bring rows into what is left, and keys that they change are read again: the more of both, the longer it takes. It
    // would be all of the table if the copy had begun anew.
    assert!(again < ROWS - counted / 2, "{again} rows copied, {counted} were there");
    host.terminate().unwrap();
}

/// VACUUM FULL while nobody copies, of which no change tells: rows that are yet to be copied lie in blocks that count.
#[test]
fn a_copy_begins_anew_where_its_table_was_rewritten_meanwhile() {
    let cluster = source().unwrap();
    let delete = format!("DELETE FROM large WHERE id <= {}", ROWS / 2);
    cluster.sql("source", &delete).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let paced = format!("unit_rows: {UNIT_ROWS}, rows_per_second: 5000");
    let pipeline = pipeline(&cluster, port).replace(&format!("unit_rows: {UNIT_ROWS}"), &paced);
    for part in 1.. {
        let mut host = Host::run(folder.path(), &pipeline).unwrap();
        wait_until("a part of the large table is copied", LONG, || {
            host.must_run()?;
            let rows: u64 = cluster.sql("target", "SELECT count(*) FROM large")?.parse()?;
            Ok((rows >= part * ROWS / 12).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
        host.kill().unwrap();
        let (finished, counted) = ledger(folder.path()).unwrap();
        assert!(!finished.contains(&"public.large".to_owned()), "{finished:?}");
        // What was durable may not be entered yet.
        if counted > 0 {
            break;
        }
    }

    cluster.sql("source", "VACUUM FULL large").unwrap();
    let unpaced = pipeline.replace(", rows_per_second: 5000", "");
    let mut host = Host::run(folder.path(), &unpaced).unwrap();
    wait_until("the large table is copied", LONG, || {
        host.must_run()?;
        Ok(copied(port, "large")?.1.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    let source = digest(&cluster, "source").unwrap();
    wait_until("target equals source", LONG, || {
        host.must_run()?;
        let target = digest(&cluster, "target")?;
        ensure!(target == source, "source {source}\ntarget {target}");
        Ok(Some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    assert!(host.log().contains("the copy starts over"), "{}", host.log());
    host.terminate().unwrap();
}

fn copy(port: u16) -> Result<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
    Ok(status["pipelines"][0]["copy"].clone())
}

/// 4,000 rows at 1,000 in a second: it takes its time, can be paused, and says how far it is.
#[test]
fn a_copy_is_paced_paused_and_shown() {
    let cluster = source().unwrap();
    for table in ["first", "second", "keyless"] {
        cluster.sql("source", &format!("TRUNCATE {table}")).unwrap();
    }
    cluster.sql("source", "DELETE FROM large WHERE id > 4000").unwrap();
    cluster.sql("source", "VACUUM ANALYZE large").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let pipeline = pipeline(&cluster, port).replace("unit_rows: 1000", "unit_rows: 200, rows_per_second: 1000");
    let begun = std::time::Instant::now();
    let mut host = Host::run(folder.path(), &pipeline).unwrap();
    wait_until("the copy is under way", LONG, || {
        host.must_run()?;
        Ok((copy(port)?["rows"].as_u64() >= Some(400)).then_some(()))
    })
    .unwrap();

    let (said, _) = Host::verb_of(folder.path(), &["copy", "pause"], 0).unwrap();
    assert!(said.starts_with("copy paused: "), "{said}");
    let paused = copy(port).unwrap();
    assert_eq!(
        (&paused["paused"], &paused["eta_seconds"]),
        (&true.into(), &serde_json::Value::Null)
    );
    // The stream goes on: this row is none of the copy's, and comes behind what had been read.
    cluster
        .sql("source", "INSERT INTO first VALUES (1, 'streamed', NULL)")
        .unwrap();
    wait_until("a row comes beside the paused copy", LONG, || {
        Ok((cluster.sql("target", "SELECT count(*) FROM first")? == "1").then_some(()))
    })
    .unwrap();
    let rows = |copy: &serde_json::Value| copy["rows"].as_u64().unwrap();
    let at_most = rows(&paused) + WORKERS * 200;
    let metrics = get(port, "/metrics").unwrap().1;
    assert!(
        metrics.contains("rowmill_copy_rows_estimated{pipeline=\"shop\"}"),
        "{metrics}"
    );
    assert!(rows(&copy(port).unwrap()) <= at_most && at_most < 4000);

    Host::verb_of(folder.path(), &["copy", "resume"], 0).unwrap();
    let mut etas = 0;
    wait_until("the copy is through", LONG, || {
        host.must_run()?;
        let copy = copy(port)?;
        ensure!(copy["rows_estimated"].as_u64() >= Some(4000), "{copy}");
        etas += u64::from(copy["eta_seconds"].as_u64() > Some(0));
        Ok((rows(&copy) >= 4000).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    assert!(begun.elapsed().as_millis() > 3500, "{:?}", begun.elapsed());
    assert!(etas > 0, "it said how long it would take");
    host.terminate().unwrap();
}

/// Rows are ahead when the host is killed, and then the table gets another key. Nothing can be read again by the key of
/// before, and changes from before lack a part of the one of now.
#[test]
fn rows_ahead_of_a_table_whose_key_is_another_by_now_are_let_go_of() {
    let cluster = Cluster::start().unwrap();
    let table = "CREATE TABLE sites (id text PRIMARY KEY, region int NOT NULL, v text)";
    for database in ["source", "target"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        cluster.sql(database, table).unwrap();
    }
    let sql = |sql: &str| cluster.sql("source", sql).unwrap();
    sql("INSERT INTO sites SELECT n::text, n % 7 + 1, 'v' FROM generate_series(1, 500) n");
    let folder = tempfile::tempdir().unwrap();
    let pipeline = format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [public.sites] }} }}
routes: [{{ tables: [public.sites], sinks: [target] }}]
sinks: {{ target: {{ postgres: {{ url: {} }} }} }}
",
        cluster.url("source"),
        cluster.url("target")
    );
    // It is planned, and the host is killed before anything of it counts.
    let mut host = Host::run_to(folder.path(), &pipeline, "after_receive", 1).unwrap();
    host.wait(LONG).unwrap();
    sql("UPDATE sites SET v = 'later' WHERE id = '2'");
    let store = StateStore::open(&folder.path().join(".rowmill/shop"), "shop").unwrap();
    let copy = store.copies().unwrap().remove(0);
    assert_eq!(copy.state, CopyState::Planned);
    let ahead = RowsAhead {
        table_oid: copy.table_oid,
        snapshot: sql("SELECT pg_current_snapshot()"),
        finish: sql("SELECT pg_current_wal_insert_lsn()").parse().unwrap(),
        keys: vec![[&1_u32.to_le_bytes()[..], b"2"].concat().into()],
        repair: true,
    };
    store.add_ahead(&[ahead]).unwrap();
    drop(store);
    // Of the first, the stream has what the key was.
    sql("DELETE FROM sites WHERE id = '1'");
    for database in ["source", "target"] {
        let altered = "ALTER TABLE sites DROP CONSTRAINT sites_pkey, ADD PRIMARY KEY (region, id)";
        cluster.sql(database, altered).unwrap();
    }
    // What comes from before is found by that.
    cluster.sql("target", "ALTER TABLE sites ADD UNIQUE (id)").unwrap();
    let mut host = Host::run(folder.path(), &pipeline).unwrap();
    let digest = "SELECT count(*), md5(string_agg(s::text, '|' ORDER BY id)) FROM sites s";
    let source = sql(digest);
    let arrived = wait_until("target equals source", LONG, || {
        host.must_run()?;
        let found = cluster.sql("target", digest)?;
        ensure!(found == source, "source {source}, target {found}");
        Ok(Some(()))
    });
    arrived.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    host.terminate().unwrap();
}
