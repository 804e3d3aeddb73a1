//! Fuzzing with cargo-fuzz and libFuzzer.
//!
//! The instrumentation is an unstable flag of the compiler. RUSTC_BOOTSTRAP has the stable one take it, so that no
//! second toolchain is needed; nothing that is built so leaves fuzz/target.

use crate::install;
use crate::run::{cargo, root, run};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A single input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 10;
/// Where cumulative time and executions stand.
const HOURS: &str = "fuzz/hours.json";

/// Runs one target, or each in turn; `keep` brings what reaches further into the kept corpus.
pub fn fuzz(target: Option<&str>, minutes: u64, keep: bool) -> Result<()> {
    install::fuzzer()?;
    let targets = targets()?;
    let chosen: Vec<&String> = targets
        .iter()
        .filter(|name| target.is_none_or(|wanted| wanted == *name))
        .collect();
    ensure!(!chosen.is_empty(), "there are the targets {}", targets.join(", "));
    run(&mut cargo_fuzz("build", &[]))?;
    let mut found = Vec::new();
    for name in chosen {
        let seen = run_target(name, minutes)?;
        count(name, &seen)?;
        if seen.finding {
            found.push(name.as_str());
        } else if keep {
            minimise(name)?;
        }
    }
    print!("{}", report()?);
    ensure!(
        found.is_empty(),
        "findings in {}: mend them, and keep each file of fuzz/artifacts in fuzz/corpus",
        found.join(", ")
    );
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/targets")).context("fuzz/targets")? {
        if let Some(name) = entry?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn cargo_fuzz(verb: &str, arguments: &[&str]) -> Command {
    let mut command = cargo(&["fuzz", verb]);
    command.args(arguments).env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Kept in the repository, small.
fn kept(target: &str) -> PathBuf {
    root().join("fuzz/corpus").join(target)
}

/// All that ever reached further, on this machine.
fn working(target: &str) -> PathBuf {
    root().join("fuzz/target/corpus").join(target)
}

/// What a run came to.
#[derive(Default)]
struct Seen {
    seconds: u64,
    executions: u64,
    edges: u64,
    finding: bool,
}

fn run_target(target: &str, minutes: u64) -> Result<Seen> {
    println!("{target}: {minutes} min");
    std::fs::create_dir_all(working(target))?;
    let started = std::time::Instant::now();
    let mut fuzzer = cargo_fuzz("run", &[target])
        .args([working(target), kept(target)])
        .arg("--")
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg("-print_final_stats=1")
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo fuzz")?;
    let mut seen = Seen::default();
    let output = fuzzer.stderr.take().context("the fuzzer's output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        look(&String::from_utf8_lossy(&line), &mut seen);
    }
    seen.finding = !fuzzer.wait()?.success();
    seen.seconds = started.elapsed().as_secs();
    let rate = seen.executions / seen.seconds.max(1);
    println!(
        "{target}: {} executions, {rate} per second, {} edges",
        seen.executions, seen.edges
    );
    Ok(seen)
}

/// Takes figures from a line of libFuzzer's, and shows those that tell of a finding.
fn look(line: &str, seen: &mut Seen) {
    if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
        seen.executions = count.trim().parse().unwrap_or(0);
    } else if let Some((_, rest)) = line.split_once(" cov: ") {
        let edges = rest.split(' ').next().and_then(|edges| edges.parse().ok());
        seen.edges = edges.unwrap_or(seen.edges);
    } else if [
        "panicked at",
        "ERROR",
        "SUMMARY",
        "Test unit written",
        "error:",
        "error[",
    ]
    .iter()
    .any(|told| line.contains(told))
    {
        println!("  {line}");
    }
}

/// Makes the kept corpus the least that reaches all that was reached.
fn minimise(target: &str) -> Result<()> {
    let least = working(target).with_extension("least");
    if least.exists() {
        std::fs::remove_dir_all(&least)?;
    }
    std::fs::create_dir_all(&least)?;
    let mut merge = cargo_fuzz("run", &[target]);
    merge.arg(&least).args([kept(target), working(target)]);
    // By edges alone: how often each was passed would keep ten times as many files.
    merge.args(["--", "-merge=1", "-use_counters=0"]);
    let merged = merge.stderr(Stdio::null()).status().context("cargo fuzz")?;
    ensure!(merged.success(), "the corpus of {target} can't be minimised");
    std::fs::remove_dir_all(kept(target))?;
    copy_folder(&least, &kept(target))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn hours() -> Result<Map<String, Value>> {
    let Ok(text) = std::fs::read_to_string(root().join(HOURS)) else {
        return Ok(Map::new());
    };
    match serde_json::from_str(&text).context(HOURS)? {
        Value::Object(hours) => Ok(hours),
        _ => bail!("{HOURS} holds no object"),
    }
}

/// Adds a run to what all runs have come to.
fn count(target: &str, seen: &Seen) -> Result<()> {
    let mut hours = hours()?;
    let of = |key: &str| hours.get(target).and_then(|target| target[key].as_u64()).unwrap_or(0);
    let sum = json!({
        "seconds": of("seconds") + seen.seconds,
        "executions": of("executions") + seen.executions,
        "edges": seen.edges.max(of("edges")),
    });
    hours.insert(target.to_owned(), sum);
    hours.sort_keys();
    let text = serde_json::to_string_pretty(&hours)? + "\n";
    std::fs::write(root().join(HOURS), text).context(HOURS)
}

fn report() -> Result<String> {
    let mut text = "so far           hours     executions  edges\n".to_owned();
    for (target, sum) in hours()? {
        let of = |key: &str| sum[key].as_u64().unwrap_or(0);
        let hours = of("seconds") as f64 / 3600.0;
        text += &format!(
            "{target:<14} {hours:>7.1} {:>14} {:>6}\n",
            of("executions"),
            of("edges")
        );
    }
    Ok(text)
}
