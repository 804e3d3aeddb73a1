//! Micro-benchmarks by Criterion: nanoseconds per row of each part, on one core, over fixed rows.
//!
//! Criterion keeps what it has measured under `target/criterion`, and says beside each figure how it has changed since.

use crate::engine::stay_on;
use crate::parts::{self, PARTS};
use crate::report::store;
use anyhow::{Context, Result};
use criterion::{Criterion, Throughput};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const KEPT: &str = "target/criterion";

pub fn run(seconds: u64) -> Result<()> {
    stay_on(1)?;
    let mut criterion = Criterion::default()
        .output_directory(Path::new(KEPT))
        .measurement_time(Duration::from_secs(seconds))
        .without_plots();
    let mut rows_of = Vec::new();
    for part in &PARTS {
        let (rows, mut round) = parts::make(part.name)?;
        rows_of.push((part.name, rows));
        let mut group = criterion.benchmark_group(part.name);
        group.throughput(Throughput::Elements(rows));
        group.bench_function("rows", |bencher| bencher.iter(&mut round));
        group.finish();
    }
    println!("\n{:<16} {:>9} {:>20}", "part", "ns/row", "95 % confidence");
    let cases = rows_of.iter().map(|(name, rows)| case(name, *rows));
    let cases = cases.collect::<Result<Vec<_>>>()?;
    store("parts", json!({"seconds": seconds, "cases": cases}))
}

/// The median of a part's rounds and its interval, as Criterion has written them.
fn case(name: &str, rows: u64) -> Result<Value> {
    let path = format!("{KEPT}/{name}/rows/new/estimates.json");
    let bytes = std::fs::read(&path).context(path)?;
    let estimates: Value = serde_json::from_slice(&bytes)?;
    let median = &estimates["median"];
    let of = |value: &Value| -> Result<f64> { Ok(value.as_f64().context("a number of ns")? / rows as f64) };
    let middle = of(&median["point_estimate"])?;
    let low = of(&median["confidence_interval"]["lower_bound"])?;
    let high = of(&median["confidence_interval"]["upper_bound"])?;
    println!("{name:<16} {middle:>9.1} {low:>9.1} to {high:>7.1}");
    Ok(json!({"name": name, "median_ns": middle, "spread_ns": [low, high]}))
}
