//! A table on the terminal and the same as JSON under `target/bench/`.

use crate::timed::Taken;
use crate::workplace::program;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// One side of a comparison: its runs in order.
pub struct Side {
    pub name: String,
    pub runs: Vec<Taken>,
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    let middle = values.len() / 2;
    match values.len().is_multiple_of(2) {
        true => f64::midpoint(at(middle.wrapping_sub(1)), at(middle)),
        false => at(middle),
    }
}

impl Side {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            runs: vec![],
        }
    }

    fn middle(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        median(self.runs.iter().map(of).collect())
    }

    fn rate(&self, rows: u64) -> f64 {
        self.middle(|run| rows as f64 / run.seconds)
    }

    pub fn cpu_per_million(&self, rows: u64) -> f64 {
        self.middle(|run| run.cpu_seconds * 1e6 / rows as f64)
    }

    pub fn peak_memory_mib(&self) -> f64 {
        let peaks = self.runs.iter().map(|run| run.peak_memory_kib as f64 / 1024.0);
        peaks.fold(0.0, f64::max)
    }

    fn json(&self, rows: u64) -> Value {
        let seconds: Vec<f64> = self.runs.iter().map(|run| run.seconds).collect();
        json!({
            "name": self.name,
            "rows_per_second": self.rate(rows).round(),
            "cpu_seconds_per_million_rows": self.cpu_per_million(rows),
            "server_cpu_seconds_per_million_rows": self.middle(|run| run.server_cpu_seconds * 1e6 / rows as f64),
            "peak_memory_mib": self.peak_memory_mib(),
            "bytes": self.runs.last().map_or(0, |run| run.bytes),
            "seconds": seconds,
        })
    }
}

/// What must hold of a figure.
pub struct Floor {
    what: String,
    value: f64,
    bound: Bound,
}

#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Floor {
    pub fn new(what: impl Into<String>, value: f64, bound: Bound) -> Self {
        Self {
            what: what.into(),
            value,
            bound,
        }
    }

    fn holds(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.value >= least,
            Bound::AtMost(most) => self.value <= most,
        }
    }
}

/// Prints the floors, and returns them for the JSON.
pub fn floors(floors: &[Floor]) -> Value {
    let told = floors.iter().map(|floor| {
        let (kind, bound) = match floor.bound {
            Bound::AtLeast(bound) => ("at_least", bound),
            Bound::AtMost(bound) => ("at_most", bound),
        };
        let verdict = if floor.holds() { "holds" } else { "MISSED" };
        println!(
            "{}: {:.3}, {} {bound}: {verdict}",
            floor.what,
            floor.value,
            kind.replace('_', " ")
        );
        json!({"what": floor.what, "value": floor.value, kind: bound, "holds": floor.holds()})
    });
    told.collect()
}

/// The medians of pairs that ran in turn.
pub struct Compared {
    pub rate: f64,
    /// CPU per row of ours by theirs.
    pub cpu: f64,
    pub memory: f64,
    pub value: Value,
}

/// Prints the comparison of `ours` with `theirs`.
pub fn compare(case: &str, rows: u64, ours: &Side, theirs: &Side) -> Compared {
    println!(
        "\n{case:<36} {:>10} {:>10} {:>10} {:>9} {:>14}",
        "rows/s", "CPU s/M", "server s/M", "peak MiB", "bytes"
    );
    for side in [ours, theirs] {
        let of = side.json(rows);
        println!(
            "{:<36} {:>10} {:>10.3} {:>10.3} {:>9.1} {:>14}",
            side.name,
            of["rows_per_second"],
            side.cpu_per_million(rows),
            of["server_cpu_seconds_per_million_rows"].as_f64().unwrap_or(f64::NAN),
            side.peak_memory_mib(),
            of["bytes"]
        );
    }
    let pairs = ours.runs.iter().zip(&theirs.runs);
    let ratios: Vec<f64> = pairs.map(|(our, their)| their.seconds / our.seconds).collect();
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0f64), |(low, high), ratio| {
        (low.min(*ratio), high.max(*ratio))
    });
    let rate = median(ratios);
    let cpu = ours.cpu_per_million(rows) / theirs.cpu_per_million(rows);
    let memory = ours.peak_memory_mib() / theirs.peak_memory_mib();
    print!("rate {rate:.2} x (pairs {low:.2} to {high:.2})");
    match theirs.peak_memory_mib() > 0.0 {
        true => println!(", CPU per row {cpu:.3} x, memory {memory:.2} x"),
        // A peer inside the server has no process of its own.
        false => println!(),
    }
    let value = json!({
        "case": case,
        "rows": rows,
        "ours": ours.json(rows),
        "theirs": theirs.json(rows),
        "rate_ratio": rate,
        "rate_ratio_spread": [low, high],
        "cpu_ratio": cpu,
        "memory_ratio": memory,
    });
    Compared {
        rate,
        cpu,
        memory,
        value,
    }
}

/// Writes `target/bench/NAME.json`, with the machine that it was measured on.
pub fn store(name: &str, mut report: Value) -> Result<()> {
    report["benchmark"] = json!(name);
    let machine = machine();
    println!(
        "{}, {} cores, Linux {}, load {} at the end; {}; {}; commit {}",
        machine["cpu"].as_str().unwrap_or_default(),
        machine["cores"],
        machine["kernel"].as_str().unwrap_or_default(),
        machine["load_at_end"].as_str().unwrap_or_default(),
        machine["postgres"].as_str().unwrap_or_default(),
        machine["rustc"].as_str().unwrap_or_default(),
        machine["commit"].as_str().unwrap_or_default(),
    );
    report["machine"] = machine;
    std::fs::create_dir_all("target/bench")?;
    let path = format!("target/bench/{name}.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("{path}");
    Ok(())
}

/// The server's program: what `PG_BIN` names, or Debian's newest.
fn server() -> String {
    let named = std::env::var_os("PG_BIN").map(|folder| PathBuf::from(folder).join("postgres"));
    named.unwrap_or_else(|| program("postgres")).display().to_string()
}

fn machine() -> Value {
    let text = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "cpu": model.map(|(_, name)| name),
        // Of the machine: this thread may have been told to keep to one.
        "cores": cpu.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": text("uname", &["-r"]),
        "load_at_end": load.split(' ').next(),
        "postgres": text(&server(), &["--version"]),
        "rustc": text("rustc", &["--version"]),
        "commit": text("git", &["rev-parse", "--short", "HEAD"]),
        "changed": !text("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        "date": text("date", &["-u", "+%F"]),
    })
}
