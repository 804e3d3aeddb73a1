//! Chaos: builds the process and the judge, and runs the schedule of a seed.

use crate::run::{cargo, root, run};
use crate::{install, plugins};
use anyhow::Result;
use std::process::Command;

/// Rounds of faults from `seed` for so many minutes; fails on a violation.
pub fn chaos(seed: u64, minutes: f64, output: &str) -> Result<()> {
    install::all()?;
    if !root().join("plugins/mask_pii.wasm").exists() {
        plugins::build()?;
    }
    // One after the other: together their dependencies would get features that no other build gives them, and be built
    // once more.
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--package",
        "rowmill",
        "--bin",
        "rowmill",
    ]))?;
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--package",
        "rowmill-tests",
        "--bin",
        "chaos",
    ]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    run(Command::new(target.join("debug/chaos"))
        .args([seed.to_string(), minutes.to_string(), output.to_owned()])
        .current_dir(root()))
}
