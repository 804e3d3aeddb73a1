//! The stream over TCP through two plugins into `discard`, beside `pg_recvlogical` to /dev/null.

use crate::orders::{self, DATABASE};
use crate::report::{Side, report};
use crate::timed::{Taken, timed};
use anyhow::Result;
use rowmill_tests::{Cluster, ClusterOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub transaction: u64,
    pub pairs: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(options)?;
    let end = orders::load(&cluster, options.rows, options.transaction)?;
    let folder = tempfile::tempdir()?;
    let mut ours = Side {
        name: "rowmill, filter + mask, discard",
        runs: vec![],
    };
    let mut theirs = Side {
        name: "pg_recvlogical to /dev/null",
        runs: vec![],
    };
    // Compiled plugins are kept: compiling is no part of a row's cost.
    rowmill(options, &cluster, options.pairs, folder.path())?;
    for pair in 0..options.pairs {
        theirs.runs.push(peer(&cluster, pair, &end)?);
        ours.runs.push(rowmill(options, &cluster, pair, folder.path())?);
        let (our, their) = (ours.runs[pair], theirs.runs[pair]);
        println!(
            "pair {pair}: rowmill {:.2} s, pg_recvlogical {:.2} s",
            our.seconds, their.seconds
        );
    }
    report("stream", options.rows, &ours, &theirs)
}

/// A cluster whose slots all exist before the first row, so that every run reads the same WAL.
fn cluster(options: &Options) -> Result<Cluster> {
    let settings = [
        "max_replication_slots=60",
        "max_wal_senders=20",
        "shared_buffers=512MB",
        "max_wal_size=8GB",
    ];
    let settings = settings.iter().map(ToString::to_string).collect();
    let cluster = Cluster::start_with(&ClusterOptions { settings, hba: vec![] })?;
    orders::create(&cluster)?;
    for pair in 0..=options.pairs {
        for side in ["peer", "rowmill"] {
            cluster.sql(
                DATABASE,
                &format!("SELECT pg_create_logical_replication_slot('{side}_{pair}', 'pgoutput')"),
            )?;
        }
    }
    Ok(cluster)
}

fn peer(cluster: &Cluster, pair: usize, end: &str) -> Result<Taken> {
    let port = cluster.port().to_string();
    let slot = format!("peer_{pair}");
    timed(
        Command::new("/usr/bin/pg_recvlogical")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-d",
                DATABASE,
                "-S",
                &slot,
            ])
            .args([
                "--start",
                "--no-loop",
                "-E",
                end,
                "-o",
                "proto_version=1",
                "-o",
                "publication_names=bench",
            ])
            .args(["-f", "/dev/null"])
            .stdout(Stdio::null()),
    )
}

fn rowmill(options: &Options, cluster: &Cluster, pair: usize, folder: &Path) -> Result<Taken> {
    for plugin in ["paid_only.wasm", "mask_pii.wasm"] {
        std::fs::copy(Path::new("plugins").join(plugin), folder.join(plugin))?;
    }
    let compiled = folder.join(format!("state_{}/compiled", options.pairs));
    if compiled.exists() {
        let state = folder.join(format!("state_{pair}"));
        std::fs::create_dir_all(&state)?;
        Command::new("cp").arg("-a").arg(&compiled).arg(&state).status()?;
    }
    let file = folder.join(format!("pipeline_{pair}.yaml"));
    let url = cluster.url(DATABASE);
    std::fs::write(
        &file,
        format!(
            "name: bench_{pair}
state_dir: state_{pair}
console: off
source:
  postgres: {{ url: \"{url}\", publication: bench, slot: rowmill_{pair}, snapshot: never }}
plugins:
  paid-only: {{ module: paid_only.wasm }}
  mask-pii: {{ module: mask_pii.wasm, config: {{ columns: {{ email: redact }}, salt: bench }} }}
routes:
  - {{ tables: [public.orders], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
",
        ),
    )?;
    timed(
        Command::new(&options.rowmill)
            .arg("run")
            .arg(&file)
            .arg("--once")
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}
