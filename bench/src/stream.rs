//! The stream over TCP through two plugins into `discard`, beside `pg_recvlogical` to /dev/null.

use crate::orders::{self, DATABASE};
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::timed;
use crate::workplace::{FILTER_AND_MASK, PGOUTPUT, Workplace, cluster, make_slot, recvlogical};
use anyhow::{Context, Result};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub transaction: u64,
    pub pairs: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&[])?;
    orders::create(&cluster)?;
    // All slots before the first row, so that every run reads the same WAL.
    for pair in 0..=options.pairs {
        for side in ["peer", "rowmill"] {
            make_slot(&cluster, &format!("{side}_{pair}"), "pgoutput")?;
        }
    }
    let end = orders::load(&cluster, options.rows, options.transaction)?;
    let place = Workplace::new(&options.rowmill)?;
    let mut ours = Side::new("rowmill, filter + mask, discard");
    let mut theirs = Side::new("pg_recvlogical to /dev/null");
    let last = options.pairs;
    timed(&mut rowmill(&place, &cluster, last)?, &cluster).with_context(|| place.log(&format!("bench_{last}")))?;
    place.keep_compiled(&format!("bench_{last}"))?;
    for pair in 0..options.pairs {
        let slot = format!("peer_{pair}");
        let mut peer = recvlogical(&cluster, &slot, &end, &PGOUTPUT, Path::new("/dev/null"));
        theirs.runs.push(timed(&mut peer, &cluster)?);
        ours.runs.push(timed(&mut rowmill(&place, &cluster, pair)?, &cluster)?);
        let (our, their) = (ours.runs[pair], theirs.runs[pair]);
        println!(
            "pair {pair}: rowmill {:.2} s, pg_recvlogical {:.2} s",
            our.seconds, their.seconds
        );
    }
    let compared = compare("stream", options.rows, &ours, &theirs);
    let cpu = ours.cpu_per_million(options.rows);
    let floors = floors(&[
        Floor::new("stream, rate beside pg_recvlogical", compared.rate, Bound::AtLeast(2.0)),
        Floor::new("stream, CPU s of the host per million rows", cpu, Bound::AtMost(0.8)),
    ]);
    let about = json!({"cases": [compared.value], "floors": floors, "rows_per_transaction": options.transaction});
    store("stream", about)
}

fn rowmill(place: &Workplace, cluster: &Cluster, pair: usize) -> Result<Command> {
    let url = cluster.url(DATABASE);
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: bench, slot: rowmill_{pair}, snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.orders], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let mut command = place.run(&format!("bench_{pair}"), &rest)?;
    command.arg("--once");
    Ok(command)
}
