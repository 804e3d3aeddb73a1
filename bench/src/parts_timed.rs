//! Micro-benchmarks: nanoseconds per row of each part, on one core, over fixed rows.
//!
//! A round takes every part in turn, so that the machine's moods weigh on all. No statistics library: the median over
//! rounds and their spread say what is needed, and nothing has to be built for it.

use crate::engine::stay_on;
use crate::parts::{self, PARTS};
use crate::report::{median, store};
use anyhow::Result;
use serde_json::json;
use std::time::Instant;

/// Of a part in a round, the first tenth of which doesn't count.
const REPEATS: usize = 200;

pub fn run(rounds: usize) -> Result<()> {
    stay_on(1)?;
    let mut made = Vec::new();
    for part in &PARTS {
        let (rows, round) = parts::make(part.name)?;
        made.push((part.name, rows, round, Vec::new()));
    }
    for _ in 0..rounds {
        for (_, rows, round, medians) in &mut made {
            let mut taken = Vec::with_capacity(REPEATS);
            for at in 0..REPEATS {
                let started = Instant::now();
                round();
                if at >= REPEATS / 10 {
                    taken.push(started.elapsed().as_nanos() as f64 / *rows as f64);
                }
            }
            medians.push(median(taken));
        }
    }
    println!("{:<16} {:>9} {:>20}", "part", "ns/row", "rounds");
    let cases = made.iter().map(|(name, _, _, medians)| {
        let middle = median(medians.clone());
        let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
        let high = medians.iter().copied().fold(0.0, f64::max);
        println!("{name:<16} {middle:>9.1} {low:>9.1} to {high:>7.1}");
        json!({"name": name, "median_ns": middle, "spread_ns": [low, high]})
    });
    let cases: Vec<_> = cases.collect();
    store("parts", json!({"rounds": rounds, "cases": cases}))
}
