//! Peak memory beside that of a run over 1,000 rows: one huge transaction, many tables, huge rows.

use crate::orders::DATABASE;
use crate::report::{Bound, Floor, floors, store};
use crate::timed::{Taken, timed};
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, drop_slot, make_slot};
use anyhow::{Context, Result};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::PathBuf;

pub struct Options {
    pub rowmill: PathBuf,
    /// Of the huge transaction.
    pub rows: u64,
    pub tables: u64,
    /// Of a row.
    pub megabytes: u64,
}

/// What a run may take more than the one of 1,000 rows, save for the row itself.
const MORE_MAX_MIB: f64 = 100.0;
const HUGE_ROWS: u64 = 5;

/// What is streamed; how much of it one row is.
struct Case {
    name: String,
    schema: &'static str,
    make: String,
    fill: String,
    row_mib: f64,
    /// More settings of the source.
    source: &'static str,
}

/// Ten million rows take some 1.5 GB on the host's disk until they are committed, of the 4 GiB that they may by default.
const STREAMED: &str = ", stream_transactions: true";

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&["max_locks_per_transaction=4096", "max_wal_size=32GB"])?;
    let place = Workplace::new(&options.rowmill)?;
    let mut idle_mib = f64::NAN;
    let (mut told, mut held) = (Vec::new(), Vec::new());
    println!("{:<36} {:>10} {:>10} {:>10}", "case", "peak MiB", "more", "seconds");
    // Compiling takes memory of its own.
    streamed(&place, &cluster, &few("warm_up"))?;
    for case in cases(options) {
        let taken = streamed(&place, &cluster, &case)?;
        let peak = taken.peak_memory_kib as f64 / 1024.0;
        if idle_mib.is_nan() {
            idle_mib = peak;
        }
        let more = peak - idle_mib;
        println!("{:<36} {peak:>10.1} {more:>10.1} {:>10.2}", case.name, taken.seconds);
        told.push(json!({
            "case": case.name, "peak_memory_mib": peak, "more_mib": more, "row_mib": case.row_mib,
            "seconds": taken.seconds,
        }));
        if case.schema != "few" {
            let what = format!("peak memory, {}, MiB over 1,000 rows", case.name);
            held.push(Floor::new(what, more - case.row_mib, Bound::AtMost(MORE_MAX_MIB)));
        }
    }
    store("memory", json!({"cases": told, "floors": floors(&held)}))
}

fn table(schema: &str) -> String {
    format!("CREATE TABLE {schema}.t (id bigint PRIMARY KEY, status text, email text, note text);")
}

fn rows(schema: &str, rows: u64) -> String {
    format!(
        "INSERT INTO {schema}.t SELECT n, 'paid', 'customer' || n || '@example.com',
         'a note of some forty characters, more or less' FROM generate_series(1, {rows}) n;"
    )
}

fn few(schema: &'static str) -> Case {
    Case {
        name: "1,000 rows".to_owned(),
        schema,
        make: table(schema),
        fill: rows(schema, 1_000),
        row_mib: 0.0,
        source: "",
    }
}

fn cases(options: &Options) -> Vec<Case> {
    let tables = options.tables;
    vec![
        few("few"),
        Case {
            name: format!("a transaction of {} rows", options.rows),
            schema: "long",
            make: table("long"),
            fill: rows("long", options.rows),
            row_mib: 0.0,
            source: "",
        },
        Case {
            name: format!("a transaction of {} rows, streamed", options.rows),
            schema: "parts",
            make: table("parts"),
            fill: rows("parts", options.rows),
            row_mib: 0.0,
            source: STREAMED,
        },
        Case {
            name: format!("{tables} tables"),
            schema: "many",
            make: format!(
                "DO $$ BEGIN FOR t IN 1..{tables} LOOP
                   EXECUTE format('CREATE TABLE many.t_%s (id bigint PRIMARY KEY, status text, email text, note text)', t);
                   IF t % 100 = 0 THEN COMMIT; END IF;
                 END LOOP; END $$;"
            ),
            fill: format!(
                "DO $$ BEGIN FOR t IN 1..{tables} LOOP
                   EXECUTE format('INSERT INTO many.t_%s SELECT n, ''paid'', ''a@example.com'', ''note''
                     FROM generate_series(1, 10) n', t);
                   IF t % 100 = 0 THEN COMMIT; END IF;
                 END LOOP; END $$;"
            ),
            row_mib: 0.0,
            source: "",
        },
        Case {
            name: format!("rows of {} MB", options.megabytes),
            schema: "huge",
            make: table("huge"),
            fill: format!(
                "DO $$ BEGIN FOR n IN 1..{HUGE_ROWS} LOOP
                   INSERT INTO huge.t VALUES (n, 'paid', 'a@example.com', repeat('x', {} * 1000000)); COMMIT;
                 END LOOP; END $$;",
                options.megabytes
            ),
            row_mib: options.megabytes as f64 * 1e6 / f64::from(1 << 20),
            source: "",
        },
    ]
}

fn streamed(place: &Workplace, cluster: &Cluster, case: &Case) -> Result<Taken> {
    let schema = case.schema;
    cluster.sql(DATABASE, &format!("CREATE SCHEMA {schema}"))?;
    cluster.script(DATABASE, &case.make)?;
    cluster.sql(
        DATABASE,
        &format!("CREATE PUBLICATION {schema} FOR TABLES IN SCHEMA {schema}"),
    )?;
    make_slot(cluster, schema, "pgoutput")?;
    cluster.script(DATABASE, &case.fill)?;
    let (url, source) = (cluster.url(DATABASE), case.source);
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: {schema}, slot: {schema}, snapshot: never{source} }}
{FILTER_AND_MASK}routes:
  - {{ tables: [\"{schema}.*\"], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let taken = timed(place.run(schema, &rest)?.arg("--once"), cluster).with_context(|| place.log(schema))?;
    place.keep_compiled(schema)?;
    drop_slot(cluster, schema)?;
    Ok(taken)
}
