//! How long a start takes with one table and with many: the first, which makes slot and publication, and later ones.

use crate::orders::DATABASE;
use crate::report::{median, store};
use crate::timed::{Taken, timed};
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, drop_slot};
use anyhow::{Context, Result};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::PathBuf;

pub struct Options {
    pub rowmill: PathBuf,
    pub tables: u64,
    pub rounds: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&["max_locks_per_transaction=4096"])?;
    let place = Workplace::new(&options.rowmill)?;
    let mut cases = Vec::new();
    println!(
        "{:>8} {:>14} {:>14} {:>12} {:>10}",
        "tables", "first start s", "later start s", "CPU s", "peak MiB"
    );
    // The first of all compiles the plugins.
    make(&cluster, 2)?;
    start(&place, &cluster, 2, "warm_up", true)?;
    for tables in [1, options.tables] {
        make(&cluster, tables)?;
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let name = format!("start_{tables}_{round}");
            first.push(start(&place, &cluster, tables, &name, false)?);
            later.push(start(&place, &cluster, tables, &name, true)?);
        }
        let middle = |runs: &[Taken], of: fn(&Taken) -> f64| median(runs.iter().map(of).collect());
        let (one, two) = (middle(&first, |run| run.seconds), middle(&later, |run| run.seconds));
        let cpu = middle(&later, |run| run.cpu_seconds);
        let peak = middle(&later, |run| run.peak_memory_kib as f64 / 1024.0);
        println!("{tables:>8} {one:>14.3} {two:>14.3} {cpu:>12.3} {peak:>10.1}");
        cases.push(json!({
            "tables": tables, "first_seconds": one, "later_seconds": two, "cpu_seconds": cpu, "peak_memory_mib": peak,
        }));
    }
    store("start", json!({"cases": cases}))
}

fn make(cluster: &Cluster, tables: u64) -> Result<()> {
    cluster.sql(DATABASE, &format!("CREATE SCHEMA many_{tables}"))?;
    println!("making {tables} tables");
    // A transaction per hundred: each holds its locks.
    let make = format!(
        "DO $$ BEGIN FOR t IN 1..{tables} LOOP
           EXECUTE format('CREATE TABLE many_{tables}.t_%s (id bigint PRIMARY KEY, status text, email text, note text)', t);
           IF t % 100 = 0 THEN COMMIT; END IF;
         END LOOP; END $$"
    );
    cluster.sql(DATABASE, &make)?;
    cluster.sql(DATABASE, "ANALYZE")?;
    Ok(())
}

/// From the command to its end with nothing to read; `last` takes the slot and the publication away afterwards.
fn start(place: &Workplace, cluster: &Cluster, tables: u64, name: &str, last: bool) -> Result<Taken> {
    let url = cluster.url(DATABASE);
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", tables: [\"many_{tables}.*\"], snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [\"many_{tables}.*\"], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let taken = timed(place.run(name, &rest)?.arg("--once"), cluster).with_context(|| place.log(name))?;
    place.keep_compiled(name)?;
    if last {
        drop_slot(cluster, &format!("rowmill_{name}"))?;
        cluster.sql(DATABASE, &format!("DROP PUBLICATION rowmill_{name}"))?;
    }
    Ok(taken)
}
