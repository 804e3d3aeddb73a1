//! Benchmarks: builds in release mode and runs the one that is asked for.

use crate::run::{cargo, root, run};
use crate::{install, plugins};
use anyhow::Result;
use std::process::Command;

pub fn bench(arguments: &[String]) -> Result<()> {
    if arguments.is_empty() {
        print!("{}", std::fs::read_to_string(root().join("bench/README.md"))?);
        return Ok(());
    }
    install::all()?;
    plugins::build()?;
    plugins::build_for_bench()?;
    run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "rowmill",
        "--package",
        "rowmill-bench",
    ]))?;
    run(Command::new(root().join("target/release/rowmill-bench"))
        .args(arguments)
        .current_dir(root()))
}
