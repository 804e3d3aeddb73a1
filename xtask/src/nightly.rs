//! What takes too long for every change. A part that fails doesn't keep the others from running.

use crate::run::{cargo, run};
use crate::{chaos, counters, debezium, fuzz, gate};
use anyhow::{Result, ensure};

/// How long each fuzz target runs.
const FUZZ_MINUTES: u64 = 60;

/// Of `host/src/failpoint.rs`: each is hit so many times.
const FAILPOINTS: u64 = 11;

type Part = (&'static str, fn() -> Result<()>);

/// In the order in which they run. A further part is one more line.
const PARTS: [Part; 16] = [
    ("instructions", || gate::gate(false)),
    ("new plugins", || ignored("rowmill", "new_plugin")),
    ("100 kills during copies", || ignored("rowmill-tests", "consistency")),
    ("200 kills of host and target", || {
        ignored("rowmill-tests", "killed_target")
    }),
    ("a transaction of 1,000,000 rows", || {
        ignored("rowmill-tests", "streamed")
    }),
    ("500 cuts", || many("network", "s3_s4", "ROWMILL_CUTS", 500)),
    ("11 failpoints, 20 times each", || {
        many("failpoints", "h1_killed", "ROWMILL_HITS", 20)
    }),
    ("1,000 kills", || {
        many("postgres_to_postgres", "killed_fifty", "ROWMILL_KILLS", 1_000)
    }),
    ("a full disk", || ignored("rowmill-tests", "small_disk")),
    ("10,000 tables", || ignored("rowmill-tests", "limits")),
    ("chaos of another seed", chaos_of_next_seed),
    ("chaos of another seed", chaos_of_next_seed),
    ("chaos of another seed", chaos_of_next_seed),
    ("Debezium reads the relay", || {
        debezium::install()?;
        ignored("rowmill-tests", "relayed_debezium")
    }),
    ("a row in a million", || ignored("rowmill-tests", "verified")),
    ("fuzz", || fuzz::fuzz(None, FUZZ_MINUTES, true)),
];

const CHAOS_MINUTES: f64 = 5.0;
const SEEDS: &str = "chaos seeds";

/// Each run goes on where the last one stopped.
fn chaos_of_next_seed() -> Result<()> {
    chaos::chaos(counters::of(SEEDS)? + 1, CHAOS_MINUTES, "human")?;
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

pub fn nightly() -> Result<()> {
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        println!("== {name}");
        if let Err(error) = part() {
            println!("{name} failed: {error:#}");
            failed.push(name);
        }
    }
    print!("{}", counters::report()?);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
