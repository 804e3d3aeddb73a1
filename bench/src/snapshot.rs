//! The copy of one table through two plugins into `discard`, beside `psql`'s `\copy` of it to /dev/null: keys in the
//! order of the heap, and random ones; with one connection, two, and as many as are the default.

use crate::orders::DATABASE;
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::{Taken, timed};
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, drop_slot, program};
use anyhow::{Context, Result};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub pairs: usize,
}

/// A table, and what its key is made of.
const TABLES: [(&str, &str, &str); 2] = [("in_order", "bigint", "n"), ("at_random", "uuid", "md5(n::text)::uuid")];
/// Connections, and the least rate beside `\copy`; the last is the default.
const CONNECTIONS: [(usize, Option<f64>); 3] = [(1, Some(0.8)), (2, Some(1.2)), (4, None)];

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&[])?;
    let place = Workplace::new(&options.rowmill)?;
    for (table, kind, key) in TABLES {
        load(&cluster, table, kind, key, options.rows)?;
    }
    let mut cases = Vec::new();
    let mut held = Vec::new();
    // Compiles the plugins, and reads the table once.
    copied(&place, &cluster, TABLES[0].0, 2, options.pairs)?;
    for (table, kind, _) in TABLES {
        let mut theirs = Side::new("\\copy to /dev/null");
        let mut ours = CONNECTIONS.map(|(connections, _)| Side::new(format!("rowmill, {connections} connections")));
        for pair in 0..options.pairs {
            theirs.runs.push(timed(&mut peer(&cluster, table), &cluster)?);
            print!("{table}, pair {pair}: \\copy {:.2} s", theirs.runs[pair].seconds);
            for (at, (connections, _)) in CONNECTIONS.iter().enumerate() {
                let taken = copied(&place, &cluster, table, *connections, pair)?;
                print!(", {connections} connections {:.2} s", taken.seconds);
                ours[at].runs.push(taken);
            }
            println!();
        }
        for (side, (connections, least)) in ours.iter().zip(CONNECTIONS) {
            let compared = compare(&format!("{table} ({kind} key)"), options.rows, side, &theirs);
            if let Some(least) = least {
                let what = format!("snapshot {table}, {connections} connections, rate beside \\copy");
                held.push(Floor::new(what, compared.rate, Bound::AtLeast(least)));
            }
            cases.push(compared.value);
        }
    }
    store("snapshot", json!({"cases": cases, "floors": floors(&held)}))
}

fn load(cluster: &Cluster, table: &str, kind: &str, key: &str, rows: u64) -> Result<()> {
    println!("loading {rows} rows into {table}");
    cluster.script(
        DATABASE,
        &format!(
            "CREATE TABLE {table} (id {kind} NOT NULL, status text, email text, phone text, total numeric, note text,
               at timestamptz);
             INSERT INTO {table} SELECT {key}, CASE WHEN n % 10 = 0 THEN 'open' ELSE 'paid' END,
               'customer' || n || '@example.com', '+49 30 ' || lpad(n::text, 8, '0'), (n % 10000) / 100.0,
               'a note of some forty characters, more or less', '2026-01-01'::timestamptz + n * interval '1 s'
               FROM generate_series(1, {rows}) n;
             ALTER TABLE {table} ADD PRIMARY KEY (id);
             VACUUM (ANALYZE) {table};
             CHECKPOINT;"
        ),
    )
}

fn peer(cluster: &Cluster, table: &str) -> Command {
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-q", "-d", &cluster.url(DATABASE), "-c"]);
    command
        .arg(format!("\\copy {table} to /dev/null"))
        .stdout(Stdio::null());
    command
}

fn copied(place: &Workplace, cluster: &Cluster, table: &str, connections: usize, pair: usize) -> Result<Taken> {
    let url = cluster.url(DATABASE);
    let name = format!("{table}_{connections}_{pair}");
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", tables: [public.{table}], snapshot: {{ mode: initial, connections: {connections} }} }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.{table}], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let taken = timed(place.run(&name, &rest)?.arg("--once"), cluster).with_context(|| place.log(&name))?;
    place.keep_compiled(&name)?;
    drop_slot(cluster, &format!("rowmill_{name}"))?;
    cluster.sql(DATABASE, &format!("DROP PUBLICATION rowmill_{name}"))?;
    Ok(taken)
}
