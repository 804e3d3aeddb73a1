//! What takes too long for every change. A part that fails doesn't keep the others from running.

use crate::fuzz;
use crate::run::{cargo, run};
use anyhow::{Result, ensure};

/// How long each fuzz target runs.
const FUZZ_MINUTES: u64 = 60;

type Part = (&'static str, fn() -> Result<()>);

/// In the order in which they run. A further part is one more line.
const PARTS: [Part; 2] = [
    ("new plugins", new_plugins),
    ("fuzz", || fuzz::fuzz(None, FUZZ_MINUTES, true)),
];

/// `rowmill plugin new` to a tested module: the SDK is compiled from scratch, as at an author's.
fn new_plugins() -> Result<()> {
    let test = [
        "test",
        "--package",
        "rowmill",
        "--test",
        "new_plugin",
        "--",
        "--ignored",
    ];
    run(&mut cargo(&test))
}

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
