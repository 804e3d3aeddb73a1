//! What takes too long for every change. A part that fails doesn't keep the others from running.

use crate::fuzz;
use anyhow::{Result, ensure};

/// How long each fuzz target runs.
const FUZZ_MINUTES: u64 = 60;

type Part = (&'static str, fn() -> Result<()>);

/// In the order in which they run. A further part is one more line.
const PARTS: [Part; 1] = [("fuzz", || fuzz::fuzz(None, FUZZ_MINUTES, true))];

pub fn nightly() -> Result<()> {
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        println!("== {name}");
        if let Err(error) = part() {
            println!("{name} failed: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
