//! The stream into a Postgres target, through two plugins and without, beside the server's own subscription, which has
//! no transform.
//!
//! Then the first copy of a table, beside `pg_dump | psql` (`dumped`).
//!
//! Both read the same WAL in turn, each into a database of its own in the same target cluster, from the moment at which
//! it is told to start until the last row is there.

use crate::dumped;
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::{Taken, servers_cpu_seconds, wait};
use crate::workplace::{FILTER_AND_MASK, Workplace};
use anyhow::{Context, Result, ensure};
use rowmill_tests::{Cluster, ClusterOptions};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const DATABASE: &str = "postgres";
const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text, email text, phone text, total numeric, \
    note text, at timestamptz); CREATE TABLE done (id int PRIMARY KEY)";

pub struct Options {
    pub rowmill: PathBuf,
    pub pairs: usize,
    /// Changes of each case.
    pub rows: u64,
    /// Its name; all of them where none is given.
    pub case: Option<String>,
}

/// A workload.
struct Case {
    name: &'static str,
    /// How many of the rows are there on both sides before.
    there: u64,
    rows: u64,
    /// The statements of `rows` changes.
    changes: String,
    way: Way,
    /// The least rate beside the subscription, where one is asked for.
    least: Option<f64>,
}

/// How Rowmill takes a case's changes there.
#[derive(Clone, Copy)]
struct Way {
    /// Through a filter and a mask.
    plugins: bool,
    /// Further keys of the sink.
    keys: &'static str,
    /// What the source may take to decode in, for both sides; its own setting unless given.
    memory: Option<&'static str>,
}

impl Way {
    const PLAIN: Self = Self {
        plugins: false,
        keys: "",
        memory: None,
    };
    const THROUGH_PLUGINS: Self = Self {
        plugins: true,
        keys: "",
        memory: None,
    };
}

/// A row's values but for its key.
fn values(n: &str) -> String {
    format!(
        "CASE WHEN {n} % 10 = 0 THEN 'open' ELSE 'paid' END, 'customer' || {n} || '@example.com', \
         '+49 30 ' || lpad({n}::text, 8, '0'), ({n} % 10000) / 100.0, \
         'a note of some forty characters, more or less', '2026-01-01'::timestamptz + {n} * interval '1 s'"
    )
}

fn cases(rows: u64) -> Vec<Case> {
    let insert = |from: &str, to: &str| {
        format!(
            "INSERT INTO orders SELECT n, {} FROM generate_series({from}, {to}) n;",
            values("n")
        )
    };
    let looped = |to: u64, step: u64, body: &str| {
        format!(
            "DO $$ BEGIN FOR i IN 0..{} BY {step} LOOP {body} COMMIT; END LOOP; END $$;",
            to - 1
        )
    };
    let small = rows / 5;
    let (one, each) = (
        insert("1", &rows.to_string()),
        looped(small, 1, &insert("i + 1", "i + 1")),
    );
    let inserts = |name, changes: &str, rows, way, least| Case {
        name,
        there: 0,
        rows,
        changes: changes.to_owned(),
        way,
        least,
    };
    let relaxed = Way {
        plugins: false,
        keys: ", transactions: relaxed",
        memory: None,
    };
    let decoded_in_memory = Way {
        memory: Some("512MB"),
        ..Way::THROUGH_PLUGINS
    };
    vec![
        inserts("inserts in one transaction", &one, rows, Way::PLAIN, None),
        inserts("the same, filter + mask", &one, rows, Way::THROUGH_PLUGINS, Some(1.2)),
        inserts(
            "the same, filter + mask, decoded in memory",
            &one,
            rows,
            decoded_in_memory,
            Some(1.2),
        ),
        inserts("the same, relaxed", &one, rows, relaxed, None),
        inserts("one-row transactions", &each, small, Way::PLAIN, None),
        inserts(
            "one-row transactions, filter + mask",
            &each,
            small,
            Way::THROUGH_PLUGINS,
            Some(1.0),
        ),
        Case {
            name: "updates of 1,000 hot keys",
            there: 1_000,
            rows: rows / 2,
            changes: looped(
                rows / 2,
                100,
                "UPDATE orders SET total = total + 1, status = 'hot' WHERE id BETWEEN i % 1000 + 1 AND i % 1000 + 100;",
            ),
            way: Way::PLAIN,
            least: None,
        },
        Case {
            name: "one-row updates of ten keys",
            there: 10,
            rows: small,
            changes: looped(small, 1, "UPDATE orders SET total = total + 1 WHERE id = i % 10 + 1;"),
            way: Way::PLAIN,
            least: None,
        },
        Case {
            name: "deletes",
            there: rows,
            rows,
            changes: looped(rows, 50_000, "DELETE FROM orders WHERE id BETWEEN i + 1 AND i + 50000;"),
            way: Way::PLAIN,
            least: None,
        },
    ]
}

pub fn run(options: &Options) -> Result<()> {
    let source = cluster()?;
    let target = cluster()?;
    let place = Workplace::new(&options.rowmill)?;
    source.sql(DATABASE, TABLE)?;
    source.sql(DATABASE, "CREATE PUBLICATION bench FOR TABLE orders, done")?;
    let mut cases = cases(options.rows);
    let mut copies = true;
    if let Some(only) = &options.case {
        cases.retain(|case| case.name.contains(only.as_str()));
        copies = dumped::NAME.contains(only.as_str());
        ensure!(copies || !cases.is_empty(), "no case has {only} in its name");
    }
    let (mut results, mut held) = (Vec::new(), Vec::new());
    for case in &cases {
        let fill = format!(
            "TRUNCATE orders, done; INSERT INTO orders SELECT n, {} FROM generate_series(1, {}) n; ANALYZE orders",
            values("n"),
            case.there
        );
        source.script(DATABASE, &fill)?;
        for pair in 0..options.pairs {
            for side in ["peer", "rowmill"] {
                source.sql(
                    DATABASE,
                    &format!("SELECT pg_create_logical_replication_slot('{side}_{pair}', 'pgoutput')"),
                )?;
            }
        }
        source.script(DATABASE, &case.changes)?;
        source.script(DATABASE, "INSERT INTO done VALUES (1); CHECKPOINT")?;
        let (mut ours, mut theirs) = (Side::new("rowmill"), Side::new("subscription"));
        for pair in 0..options.pairs {
            for (side, of_side) in [("peer", &mut theirs), ("rowmill", &mut ours)] {
                let database = format!("{side}_{pair}");
                target.sql(DATABASE, &format!("CREATE DATABASE {database}"))?;
                target.script(&database, TABLE)?;
                target.script(&database, &fill)?;
                target.sql(DATABASE, "CHECKPOINT")?;
                of_side.runs.push(match side {
                    "peer" => peer(case.way, (&source, &target), &database)?,
                    _ => rowmill(&place, case.way, (&source, &target), &database)?,
                });
                target.sql(DATABASE, &format!("DROP DATABASE {database} WITH (FORCE)"))?;
                source.sql(DATABASE, &format!("SELECT pg_drop_replication_slot('{database}')"))?;
            }
        }
        let compared = compare(case.name, case.rows, &ours, &theirs);
        results.push(compared.value);
        held.extend(case.least.map(|least| {
            let what = format!("into Postgres, {}, rate beside the subscription", case.name);
            Floor::new(what, compared.rate, Bound::AtLeast(least))
        }));
    }
    if copies {
        let (copied, of_copies) = dumped::run(
            &options.rowmill,
            (&source, &target),
            2 * options.rows,
            options.pairs,
            &values("n"),
        )?;
        results.extend(copied);
        held.extend(of_copies);
    }
    store("postgres", json!({ "cases": results, "floors": floors(&held) }))
}

fn cluster() -> Result<Cluster> {
    let settings = [
        "max_replication_slots=60",
        "max_wal_senders=20",
        "shared_buffers=512MB",
        "max_wal_size=8GB",
        "autovacuum=off",
        // Else a second subscription waits 5 s for its worker.
        "wal_retrieve_retry_interval=10ms",
    ];
    let settings = settings.iter().map(ToString::to_string).collect();
    Cluster::start_with(&ClusterOptions { settings, hba: vec![] })
}

/// Waits in the target until the last change is there.
fn arrived(target: &Cluster, database: &str) -> Result<()> {
    let wait = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM done) LOOP PERFORM pg_sleep(0.005); COMMIT; END LOOP; END $$";
    target.sql(database, wait)?;
    Ok(())
}

fn peer(way: Way, (source, target): (&Cluster, &Cluster), database: &str) -> Result<Taken> {
    let options = way.memory.map_or_else(String::new, |memory| {
        format!(" options=''-c logical_decoding_work_mem={memory}''")
    });
    target.sql(
        database,
        &format!(
            "CREATE SUBSCRIPTION {database} CONNECTION 'host=127.0.0.1 user=postgres port={} dbname={DATABASE}{options}'
             PUBLICATION bench WITH (create_slot = false, slot_name = '{database}', copy_data = false, enabled = false)",
            source.port()
        ),
    )?;
    let before = servers_cpu_seconds((source, target))?;
    let started = Instant::now();
    target.sql(database, &format!("ALTER SUBSCRIPTION {database} ENABLE"))?;
    arrived(target, database)?;
    let taken = Taken {
        seconds: started.elapsed().as_secs_f64(),
        server_cpu_seconds: servers_cpu_seconds((source, target))? - before,
        ..Taken::default()
    };
    target.script(
        database,
        &format!(
            "ALTER SUBSCRIPTION {database} DISABLE; ALTER SUBSCRIPTION {database} SET (slot_name = NONE);
             DROP SUBSCRIPTION {database}"
        ),
    )?;
    // The walsender lets go of the slot once it has seen that its client has.
    let free = format!(
        "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{database}' AND active)
         LOOP PERFORM pg_sleep(0.02); COMMIT; END LOOP; END $$"
    );
    source.sql(DATABASE, &free)?;
    Ok(taken)
}

fn rowmill(place: &Workplace, way: Way, (source, target): (&Cluster, &Cluster), database: &str) -> Result<Taken> {
    let mut command = place.run(database, &pipeline(source, target, database, way))?;
    let before = servers_cpu_seconds((source, target))?;
    let started = Instant::now();
    let child = command.arg("--once").spawn()?;
    arrived(target, database)?;
    let seconds = started.elapsed().as_secs_f64();
    let server_cpu_seconds = servers_cpu_seconds((source, target))? - before;
    let process = wait(child).with_context(|| place.log(database))?;
    place.keep_compiled(database)?;
    std::fs::remove_dir_all(place.path().join(format!("state_{database}")))?;
    Ok(Taken {
        seconds,
        server_cpu_seconds,
        ..process
    })
}

fn pipeline(source: &Cluster, target: &Cluster, slot: &str, way: Way) -> String {
    let (defined, named) = match way.plugins {
        true => (FILTER_AND_MASK, ", plugins: [paid-only, mask-pii]"),
        false => ("", ""),
    };
    let memory = way.memory.map_or_else(String::new, |memory| {
        format!(", decoding_memory: {}", memory.replace("MB", "MiB"))
    });
    format!(
        "source:
  postgres: {{ url: \"{}\", publication: bench, slot: {slot}, snapshot: never{memory} }}
{defined}routes:
  - {{ tables: [public.orders]{named}, sinks: [target] }}
  - {{ tables: [public.done], sinks: [target] }}
sinks: {{ target: {{ postgres: {{ url: \"{}\"{} }} }} }}
",
        source.url(DATABASE),
        target.url(slot),
        way.keys
    )
}
