//! The stream as lines of JSON in a file, beside `pg_recvlogical -f` with wal2json's format 2.

use crate::orders::{self, DATABASE};
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::{Taken, timed};
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, make_slot, recvlogical};
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::PathBuf;

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub pairs: usize,
}

/// What rowmill does besides; the peer writes every row as it is.
const CASES: [(&str, &str); 2] = [("no plugins", "[]"), ("filter + mask", "[paid-only, mask-pii]")];
const ROWS_PER_TRANSACTION: u64 = 50_000;

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&[])?;
    orders::create(&cluster)?;
    for pair in 0..options.pairs {
        make_slot(&cluster, &format!("peer_{pair}"), "wal2json").context("Debian's postgresql-15-wal2json")?;
    }
    for run in 0..=options.pairs * CASES.len() {
        make_slot(&cluster, &format!("rowmill_{run}"), "pgoutput")?;
    }
    let end = orders::load(&cluster, options.rows, ROWS_PER_TRANSACTION)?;
    let place = Workplace::new(&options.rowmill)?;
    let mut theirs = Side::new("pg_recvlogical, wal2json 2");
    let mut ours = CASES.map(|(name, _)| Side::new(format!("rowmill, {name}, file")));
    // Compiles the plugins.
    once(&place, &cluster, options.pairs * CASES.len(), CASES[1].1)?;
    for pair in 0..options.pairs {
        let file = place.path().join("wal2json.jsonl");
        let slot = format!("peer_{pair}");
        let mut peer = recvlogical(&cluster, &slot, &end, &["format-version=2"], &file);
        let mut taken = timed(&mut peer, &cluster)?;
        taken.bytes = file.metadata()?.len();
        std::fs::remove_file(&file)?;
        println!("pair {pair}: wal2json {:.2} s", taken.seconds);
        theirs.runs.push(taken);
        for (at, (name, plugins)) in CASES.iter().enumerate() {
            let taken = once(&place, &cluster, pair * CASES.len() + at, plugins)?;
            println!("pair {pair}: rowmill, {name} {:.2} s", taken.seconds);
            ours[at].runs.push(taken);
        }
    }
    let mut cases = Vec::new();
    let mut held = Vec::new();
    for side in &ours {
        let compared = compare("file", options.rows, side, &theirs);
        let what = format!("{}, rate beside wal2json", side.name);
        held.push(Floor::new(what, compared.rate, Bound::AtLeast(2.0)));
        cases.push(compared.value);
    }
    store("file", json!({"cases": cases, "floors": floors(&held)}))
}

fn once(place: &Workplace, cluster: &Cluster, run: usize, plugins: &str) -> Result<Taken> {
    let url = cluster.url(DATABASE);
    let name = format!("bench_{run}");
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: bench, slot: rowmill_{run}, snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.orders], plugins: {plugins}, sinks: [lines] }}
sinks:
  lines: {{ file: {{ path: out_{run}/orders.jsonl, rotate: 1024GiB }} }}
"
    );
    std::fs::create_dir(place.path().join(format!("out_{run}")))?;
    let mut taken = timed(place.run(&name, &rest)?.arg("--once"), cluster).with_context(|| place.log(&name))?;
    place.keep_compiled(&name)?;
    let folder = place.path().join(format!("out_{run}"));
    taken.bytes = folder.join("orders.jsonl").metadata()?.len();
    ensure!(taken.bytes > 0, "nothing was written");
    std::fs::remove_dir_all(folder)?;
    Ok(taken)
}
