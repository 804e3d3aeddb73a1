//! Copy and stream under kills: eight writers change five tables in every way while they are copied, and the host is
//! killed at random moments. The target must end as the source, and a file that only grows must show no older value
//! of a key behind a newer one.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{Cluster, Host, Lines, Random, Shop};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WRITERS: u64 = 8;
const TABLES: u64 = 5;
/// Per table and kill, so that the copy lasts.
const ROWS_PER_KILL: u64 = 400;

/// `version` is drawn from a sequence while the key is locked: for each key it only grows, in the order of commits.
fn schema() -> String {
    let table = |n: u64| {
        let identity = if n.is_multiple_of(2) { "FULL" } else { "DEFAULT" };
        format!(
            "CREATE TABLE t{n} (id bigint PRIMARY KEY, version bigint, writer int, note text, big text);
             ALTER TABLE t{n} ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY {identity};"
        )
    };
    let tables: String = (1..=TABLES).map(table).collect();
    format!("CREATE SEQUENCE versions; {tables}")
}

fn pipeline(shop: &Shop) -> String {
    let tables: Vec<String> = (1..=TABLES).map(|n| format!("public.t{n}")).collect();
    let tables = tables.join(", ");
    let routes = format!("routes:\n  - {{ tables: [{tables}], sinks: [warehouse, feed] }}");
    shop.pipeline_of(&tables, &routes)
        .replace("connections: 2, unit_rows: 2000", "connections: 3, unit_rows: 200")
}

/// Changes one key, or moves it. Whoever touches a key has its lock to the end of the transaction, so that versions
/// are drawn in the order of the commits.
fn statement(random: &mut Random, writer: u64, keys: u64) -> String {
    let (table, id, to) = (random.below(TABLES) + 1, random.below(keys) + 1, random.below(keys) + 1);
    let lock = |id: u64| format!("SELECT pg_advisory_xact_lock({table}, {id});");
    let version = "nextval('versions')";
    let big = |random: &mut Random| format!("repeat('{}', {})", random.below(10), 2500 + random.below(4000));
    lock(id)
        + &match random.below(12) {
            0..=2 => {
                let big = if random.below(3) == 0 {
                    big(random)
                } else {
                    "'small'".to_owned()
                };
                format!("INSERT INTO t{table} VALUES ({id}, {version}, {writer}, 'new', {big}) ON CONFLICT DO NOTHING;")
            }
            // A large value is left alone.
            3..=6 => {
                format!("UPDATE t{table} SET version = {version}, writer = {writer}, note = 'changed' WHERE id = {id};")
            }
            7 => format!(
                "UPDATE t{table} SET version = {version}, big = {} WHERE id = {id};",
                big(random)
            ),
            8 | 9 => format!(
                "{} UPDATE t{table} SET id = {to}, version = {version}, writer = {writer} WHERE id = {id}
                 AND NOT EXISTS (SELECT FROM t{table} WHERE id = {to});",
                lock(to)
            ),
            _ => format!("DELETE FROM t{table} WHERE id = {id};"),
        }
}

fn transaction(random: &mut Random, writer: u64, keys: u64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..=random.below(6) {
        let statement = statement(random, writer, keys);
        match random.below(5) {
            0 => sql.push_str(&format!("SAVEPOINT s; {statement} ROLLBACK TO s;")),
            1 => sql.push_str(&format!("SAVEPOINT s; {statement} RELEASE s;")),
            _ => sql.push_str(&statement),
        }
    }
    sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
    sql
}

struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u64>>>,
}

impl Writers {
    fn start(cluster: &Cluster, keys: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |writer: u64| {
            let (stop, url) = (Arc::clone(&stop), cluster.url("source"));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(&url, writer, keys, &stop))
            })
        };
        let threads = (0..WRITERS).map(start).collect();
        Self { stop, threads }
    }

    /// Returns how many transactions there were.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.sum()
    }
}

async fn write(url: &str, writer: u64, keys: u64, stop: &AtomicBool) -> Result<u64> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("SET deadlock_timeout = '20ms'").await?;
    let mut random = Random::new(writer + 1);
    let mut transactions = 0;
    while !stop.load(Ordering::Relaxed) {
        // A deadlock only costs the one transaction.
        match client.batch_execute(&transaction(&mut random, writer, keys)).await {
            Ok(()) => transactions += 1,
            Err(_) => client.batch_execute("ROLLBACK").await?,
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    Ok(transactions)
}

fn digest(shop: &Shop, database: &str) -> Result<String> {
    let of = |n: u64| format!("SELECT {n}, count(*), md5(string_agg(t::text, '|' ORDER BY id)) FROM t{n} t");
    let all: Vec<String> = (1..=TABLES).map(of).collect();
    shop.cluster
        .sql(database, &format!("{} ORDER BY 1", all.join(" UNION ALL ")))
}

fn feed(shop: &Shop) -> PathBuf {
    shop.folder().join("out/feed.jsonl")
}

/// Fails where a key shows an older value behind a newer one, or one that it had before it was deleted.
fn never_goes_back(lines: &Lines) -> Result<()> {
    let mut newest: HashMap<(String, i64), (i64, bool)> = HashMap::new();
    for row in &lines.rows {
        let table = row["table"].as_str().context("table")?;
        let image = |name: &str| {
            let key = (table.to_owned(), row[name]["id"].as_i64()?);
            Some((key, row[name]["version"].as_i64()))
        };
        let (old, new) = (image("old"), image("new"));
        if let Some((key, version)) = old
            && new.as_ref().is_none_or(|(new, _)| *new != key)
        {
            let (last, is_gone) = newest.entry(key).or_default();
            (*last, *is_gone) = (version.unwrap_or(0).max(*last), true);
        }
        if let Some((key, version)) = new {
            let version = version.context("a version")?;
            let (last, is_gone) = newest.entry(key).or_default();
            ensure!(
                version > *last || version == *last && !*is_gone,
                "behind version {last} (gone: {is_gone}): {row}"
            );
            (*last, *is_gone) = (version, false);
        }
    }
    Ok(())
}

/// The file's lines applied in order are the source's tables.
fn replays(shop: &Shop, lines: &Lines) -> Result<()> {
    let mut tables = lines.replay()?;
    for n in 1..=TABLES {
        let rows = shop.source(&format!("SELECT to_jsonb(t) FROM t{n} t ORDER BY id"))?;
        let expected: Vec<Value> = rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let found = tables.remove(&format!("t{n}")).unwrap_or_default();
        ensure!(
            found.len() == expected.len(),
            "t{n}: {} of {} rows",
            found.len(),
            expected.len()
        );
        for (found, expected) in found.into_values().zip(expected) {
            let found = Value::Object(found);
            ensure!(found == expected, "t{n}: source {expected}\nlines {found}");
        }
    }
    Ok(())
}

/// How much of the tables is at the target.
fn percent_copied(shop: &Shop, rows: u64) -> Result<u64> {
    let of = |n: u64| format!("SELECT count(*) FROM t{n} WHERE id <= {rows}");
    let all: Vec<String> = (1..=TABLES).map(of).collect();
    let count = format!("SELECT sum(count)::bigint FROM ({}) counts", all.join(" UNION ALL "));
    let (target, source): (u64, u64) = (shop.target(&count)?.parse()?, shop.source(&count)?.parse()?);
    Ok(target * 100 / source.max(1))
}

fn killed(kills: u64) {
    let shop = Shop::with(&schema()).unwrap();
    let rows = ROWS_PER_KILL * kills;
    for n in 1..=TABLES {
        let fill = format!(
            "INSERT INTO t{n} SELECT n, nextval('versions'), -1, 'old', CASE WHEN n % 10 = 0 THEN repeat('b', 3000) END
             FROM generate_series(1, {rows}) n"
        );
        shop.source(&fill).unwrap();
    }
    // Keys come back often, and lie before, in and behind what is copied just now.
    let writers = Writers::start(&shop.cluster, rows);
    let pipeline = pipeline(&shop);
    let mut random = Random::new(std::process::id().into());
    let mut progress = Vec::new();
    for _ in 0..kills {
        let host = Host::run(shop.folder(), &pipeline).unwrap();
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(2500)));
        host.kill().unwrap();
        progress.push(percent_copied(&shop, rows).unwrap());
    }
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let transactions = writers.stop().unwrap();
    let source = digest(&shop, "source").unwrap();
    shop.wait_for(&mut host, "target equals source", || {
        let target = digest(&shop, "target")?;
        ensure!(target == source, "source {source}\ntarget {target}");
        Ok(true)
    })
    .unwrap();
    shop.wait_for(&mut host, "the file gives the source", || {
        replays(&shop, &Lines::read(&feed(&shop))?)?;
        Ok(true)
    })
    .unwrap();
    host.terminate().unwrap();
    let lines = Lines::read(&feed(&shop)).unwrap();
    lines.streamed_once().unwrap();
    never_goes_back(&lines).unwrap();
    println!(
        "{kills} kills in a copy of {} rows, at {progress:?} %; {transactions} transactions, {} lines",
        rows * TABLES,
        lines.rows.len()
    );
}

/// `ROWMILL_KILLS` says how often; 15 unless given.
#[test]
fn the_target_ends_as_the_source_whenever_the_host_is_killed() {
    let kills = std::env::var("ROWMILL_KILLS").ok();
    killed(kills.map_or(15, |kills| kills.parse().expect("ROWMILL_KILLS is a number")));
}

#[test]
#[ignore = "some minutes"]
fn the_target_ends_as_the_source_after_a_hundred_kills() {
    killed(100);
}
