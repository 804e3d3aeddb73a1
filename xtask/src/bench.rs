//! Benchmarks: builds in release mode and runs the one that is asked for.

use crate::run::{answers, cargo, root, run};
use crate::{debezium, install, plugins, versions};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

pub fn bench(arguments: &[String]) -> Result<()> {
    let Some(name) = arguments.first() else {
        print!("{}", std::fs::read_to_string(root().join("bench/README.md"))?);
        return Ok(());
    };
    match name.as_str() {
        "file" => wal2json()?,
        "debezium" => debezium::harness()?,
        "profile" => perf()?,
        "report" => return report(arguments),
        _ => {}
    }
    build()?;
    let mut bench = Command::new(root().join("target/release/rowmill-bench"));
    bench.args(arguments).current_dir(root());
    if let Some(at) = arguments.iter().position(|argument| argument == "--postgres") {
        let major = arguments.get(at + 1).context("--postgres MAJOR")?;
        bench.env("PG_BIN", versions::programs(major)?);
    }
    run(&mut bench)
}

/// The page of what was measured, by the program that measured it.
fn report(arguments: &[String]) -> Result<()> {
    let program = root().join("target/release/rowmill-bench");
    ensure!(program.exists(), "nothing has been measured yet");
    run(Command::new(program).args(arguments).current_dir(root()))
}

/// The binary, the benchmarks and their guests, in release mode.
pub fn build() -> Result<()> {
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
        "--features",
        "rowmill-bench/statistics",
    ]))
}

/// The server's output plugin, from Debian.
fn wal2json() -> Result<()> {
    install::postgres()?;
    if Path::new("/usr/lib/postgresql/15/lib/wal2json.so").exists() {
        return Ok(());
    }
    println!("wal2json is missing: installing Debian's package postgresql-15-wal2json");
    install::debian(&["postgresql-15-wal2json"])
}

fn perf() -> Result<()> {
    if answers("perf", &["--version"]) {
        return Ok(());
    }
    println!("perf is missing: installing Debian's package linux-perf");
    install::debian(&["linux-perf"])
}
