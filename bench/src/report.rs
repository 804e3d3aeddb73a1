//! A table on the terminal and the same as JSON under `target/bench/`.

use crate::timed::Taken;
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;

/// One side of a comparison: its runs in order.
pub struct Side {
    pub name: &'static str,
    pub runs: Vec<Taken>,
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Side {
    fn rate(&self, rows: u64) -> f64 {
        median(self.runs.iter().map(|run| rows as f64 / run.seconds).collect())
    }

    fn cpu_per_million(&self, rows: u64) -> f64 {
        median(
            self.runs
                .iter()
                .map(|run| run.cpu_seconds * 1e6 / rows as f64)
                .collect(),
        )
    }

    fn peak_memory_mib(&self) -> f64 {
        self.runs
            .iter()
            .map(|run| run.peak_memory_kib as f64 / 1024.0)
            .fold(0.0, f64::max)
    }

    fn json(&self, rows: u64) -> Value {
        let seconds: Vec<f64> = self.runs.iter().map(|run| run.seconds).collect();
        json!({
            "name": self.name,
            "rows_per_second": self.rate(rows).round(),
            "cpu_seconds_per_million_rows": self.cpu_per_million(rows),
            "peak_memory_mib": self.peak_memory_mib(),
            "seconds": seconds,
        })
    }
}

/// Prints and stores the comparison of `ours` with `theirs`.
pub fn report(name: &str, rows: u64, ours: &Side, theirs: &Side) -> Result<()> {
    println!(
        "\n{:<34} {:>12} {:>16} {:>12}",
        name, "rows/s", "CPU s/M rows", "peak MiB"
    );
    for side in [ours, theirs] {
        let (rate, cpu) = (side.rate(rows), side.cpu_per_million(rows));
        println!(
            "{:<34} {rate:>12.0} {cpu:>16.3} {:>12.1}",
            side.name,
            side.peak_memory_mib()
        );
    }
    let ratios: Vec<f64> = ours
        .runs
        .iter()
        .zip(&theirs.runs)
        .map(|(our, their)| their.seconds / our.seconds)
        .collect();
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0f64), |(low, high), ratio| {
        (low.min(*ratio), high.max(*ratio))
    });
    let rate = median(ratios);
    let cpu = ours.cpu_per_million(rows) / theirs.cpu_per_million(rows);
    println!("rate {rate:.2} x (pairs {low:.2} to {high:.2}), CPU per row {cpu:.2} x");
    let report = json!({
        "rows": rows,
        "ours": ours.json(rows),
        "theirs": theirs.json(rows),
        "rate_ratio": rate,
        "rate_ratio_spread": [low, high],
        "cpu_ratio": cpu,
    });
    store(name, report)
}

/// Writes `target/bench/NAME.json`, with the machine that it was measured on.
pub fn store(name: &str, mut report: Value) -> Result<()> {
    report["benchmark"] = json!(name);
    report["machine"] = machine();
    std::fs::create_dir_all("target/bench")?;
    let path = format!("target/bench/{name}.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("{path}");
    Ok(())
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
    json!({
        "cpu": model.map(|(_, name)| name),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": text("uname", &["-r"]),
        "postgres": text("psql", &["--version"]),
        "commit": text("git", &["rev-parse", "--short", "HEAD"]),
    })
}
