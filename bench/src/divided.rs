//! A chain that keeps something of each key, divided by it: on one thread and on several.

use crate::engine::stay_on;
use crate::plugin::version;
use crate::report::median;
use crate::rows::{self, COLUMNS, ROWS};
use anyhow::{Result, ensure};
use rowmill::batch::Batch;
use rowmill::config::FilterMode;
use rowmill::plugin::{Chain, Engine, Mode, Processed};
use serde_json::{Value, json};
use std::time::Instant;

/// Threads, each on a core of its own.
const THREADS: [usize; 3] = [1, 2, 4];
const BATCHES: usize = 100;

struct Case {
    threads: usize,
    chain: Chain,
    /// Rows per second, by round.
    rates: Vec<f64>,
    /// Of the batch that was through first: the others say more of what else the machine does.
    best: f64,
}

/// As many threads as there are cores for. Prints and returns the rates.
pub fn measure(rounds: usize) -> Result<Value> {
    let engine = Engine::new(None)?;
    let batch = rows::batch(COLUMNS.len());
    let plugin = [version(&engine, "total_by_key", &json!({}))?];
    // Not only those of the measurement before.
    stay_on(*THREADS.last().unwrap_or(&1))?;
    let cores = std::thread::available_parallelism()?.get();
    let mut cases = Vec::new();
    for threads in THREADS.into_iter().filter(|threads| *threads <= cores) {
        stay_on(threads)?;
        // Its threads may run where this one may.
        let mut chain = Chain::for_lane(
            &engine,
            &plugin,
            FilterMode::Membership,
            Mode::Live,
            threads,
            Vec::new(),
        )?;
        chain.relation(&batch.relations[0])?;
        cases.push(Case {
            threads,
            chain,
            rates: Vec::new(),
            best: 0.0,
        });
    }
    for _ in 0..rounds {
        for case in &mut cases {
            stay_on(case.threads)?;
            round(case, &batch)?;
        }
    }
    stay_on(1)?;
    let of_one = cases.first().map(|case| (median(case.rates.clone()), case.best));
    let (one, best_of_one) = of_one.unwrap_or((f64::NAN, f64::NAN));
    let told = cases.iter().map(|case| {
        let (rate, best) = (median(case.rates.clone()), case.best);
        println!(
            "totals by key on {} threads: {rate:.0} rows/s, {:.2} x one; at best {best:.0}, {:.2} x",
            case.threads,
            rate / one,
            best / best_of_one
        );
        json!({
            "threads": case.threads, "rows_per_second": rate.round(), "by_one": rate / one,
            "best_rows_per_second": best.round(), "best_by_one": best / best_of_one,
        })
    });
    Ok(told.collect())
}

fn round(case: &mut Case, batch: &Batch) -> Result<()> {
    let (mut through, mut rows) = (batch.clone(), Vec::new());
    let mut rates = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        through.cells.truncate(batch.cells.len());
        through.arena.truncate(batch.arena.len());
        rows.clear();
        rows.extend_from_slice(&batch.rows);
        let mut processed = Processed::default();
        let started = Instant::now();
        case.chain.process(&mut through, &mut rows, &mut processed)?;
        rates.push(ROWS as f64 / started.elapsed().as_secs_f64());
        ensure!(rows.len() as u64 == ROWS, "{} rows left", rows.len());
    }
    case.best = rates.iter().copied().fold(case.best, f64::max);
    case.rates.push(median(rates));
    Ok(())
}
