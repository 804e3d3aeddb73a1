//! What takes too long for every change. A part that fails doesn't keep the others from running.

use crate::run::{cargo, run};
use crate::{chaos, counters, debezium, fuzz, gate};
use anyhow::{Result, ensure};
use std::time::Instant;

/// How long each fuzz target runs, and a run of chaos.
const FUZZ_MINUTES: u64 = 60;
const CHAOS_MINUTES: f64 = 5.0;
/// What a short night does less of: enough to see that each part runs.
const SHORT: u64 = 20;

/// Of `host/src/failpoint.rs`: each is hit so many times.
const FAILPOINTS: u64 = 11;

/// How much is done.
#[derive(Clone, Copy)]
struct Night {
    is_short: bool,
}

impl Night {
    fn times(self, whole: u64) -> u64 {
        if self.is_short { (whole / SHORT).max(1) } else { whole }
    }

    fn minutes(self, whole: f64) -> f64 {
        if self.is_short { whole / SHORT as f64 } else { whole }
    }
}

type Part = (&'static str, fn(Night) -> Result<()>);

/// In the order in which they run. A further part is one more line.
const PARTS: [Part; 19] = [
    ("instructions", |_| gate::gate(false)),
    ("new plugins", |_| ignored("rowmill", "new_plugin")),
    ("100 kills during copies", |_| ignored("rowmill-tests", "consistency")),
    ("20 kills of copies that join the stream", |_| {
        ignored("rowmill-tests", "live_copies")
    }),
    ("200 kills of host and target", |_| {
        ignored("rowmill-tests", "killed_target")
    }),
    ("a transaction of 1,000,000 rows", |_| {
        ignored("rowmill-tests", "streamed")
    }),
    ("500 cuts", |night| {
        many("network", "s3_s4", "ROWMILL_CUTS", night.times(500))
    }),
    ("11 failpoints, 20 times each", |night| {
        many("failpoints", "h1_killed", "ROWMILL_HITS", night.times(20))
    }),
    ("1,000 kills", |night| {
        many(
            "postgres_to_postgres",
            "killed_fifty",
            "ROWMILL_KILLS",
            night.times(1_000),
        )
    }),
    ("tables altered in their copies", |_| {
        ignored("rowmill-tests", "altered")
    }),
    ("a full disk", |_| ignored("rowmill-tests", "small_disk")),
    ("10,000 tables, huge rows and transactions", |_| {
        ignored("rowmill-tests", "limits")
    }),
    ("a password that stays wrong", |_| {
        ignored("rowmill-tests", "source_changes")
    }),
    ("chaos of another seed", chaos_of_next_seed),
    ("chaos of another seed", chaos_of_next_seed),
    ("chaos of another seed", chaos_of_next_seed),
    ("Debezium reads the relay", |_| {
        debezium::install()?;
        ignored("rowmill-tests", "relayed_debezium")
    }),
    ("a row in a million", |_| ignored("rowmill-tests", "verified")),
    ("fuzz", |night| {
        fuzz::fuzz(None, night.times(FUZZ_MINUTES), !night.is_short)
    }),
];

const SEEDS: &str = "chaos seeds";

/// Each run goes on where the last one stopped.
fn chaos_of_next_seed(night: Night) -> Result<()> {
    chaos::chaos(counters::of(SEEDS)? + 1, night.minutes(CHAOS_MINUTES), "human")?;
    counters::add(SEEDS, 1)
}

/// A test of `tests/tests` that does something so many times as the variable says.
fn many(file: &str, test: &str, variable: &str, times: u64) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
    let arguments = [
        "test",
        "--package",
        "rowmill-tests",
        "--test",
        file,
        test,
        "--",
        "--nocapture",
    ];
    run(cargo(&arguments).env(variable, times.to_string()))?;
    counters::add(
        variable,
        times * if variable == "ROWMILL_HITS" { FAILPOINTS } else { 1 },
    )
}

/// The tests of a file that are ignored by default, for the time that they take.
fn ignored(package: &str, file: &str) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
    run(&mut cargo(&[
        "test",
        "--package",
        package,
        "--test",
        file,
        "--",
        "--ignored",
    ]))
}

/// Runs the parts whose names hold one of `wanted`, all where there is none.
pub fn nightly(wanted: &[String], is_short: bool) -> Result<()> {
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    ensure!(
        names.iter().any(|name| chosen(name)),
        "there are the parts: {}",
        names.join(", ")
    );
    let mut failed = Vec::new();
    for (name, part) in PARTS.into_iter().filter(|(name, _)| chosen(name)) {
        println!("== {name}");
        let began = Instant::now();
        let ended = part(Night { is_short });
        let seconds = began.elapsed().as_secs();
        match ended {
            Ok(()) => println!("{name}: {seconds} s"),
            Err(error) => {
                println!("{name} failed after {seconds} s: {error:#}");
                failed.push(name);
            }
        }
    }
    print!("{}", counters::report()?);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
