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

/// What a part runs.
#[derive(Clone, Copy)]
enum Work {
    /// The tests of a package's file that are ignored by default, for the time that they take.
    Ignored(&'static str, &'static str),
    /// The tests of `tests/tests/FILE.rs` whose names hold this, which do something so many times as the variable says.
    Many {
        file: &'static str,
        test: &'static str,
        variable: &'static str,
        times: u64,
    },
    Own(fn(Night) -> Result<()>),
}

const fn many(file: &'static str, test: &'static str, variable: &'static str, times: u64) -> Work {
    Work::Many {
        file,
        test,
        variable,
        times,
    }
}

use Work::{Ignored, Own};

/// In the order in which they run. A further part is one more line.
const PARTS: [(&str, Work); 22] = [
    ("instructions", Own(|_| gate::gate(false))),
    ("new plugins", Ignored("rowmill", "new_plugin")),
    ("10,000 swaps", Ignored("rowmill", "swaps")),
    ("100 kills during copies", Ignored("rowmill-tests", "consistency")),
    (
        "20 kills of copies that join the stream",
        Ignored("rowmill-tests", "live_copies"),
    ),
    (
        "200 kills of host and target",
        Ignored("rowmill-tests", "killed_target"),
    ),
    ("a transaction of 1,000,000 rows", Ignored("rowmill-tests", "streamed")),
    ("500 cuts", many("network", "s3_s4", "ROWMILL_CUTS", 500)),
    (
        "11 failpoints, 20 times each",
        many("failpoints", "h1_killed", HITS, 20),
    ),
    (
        "1,000 kills",
        many("postgres_to_postgres", "killed_fifty", "ROWMILL_KILLS", 1_000),
    ),
    ("tables altered in their copies", Ignored("rowmill-tests", "altered")),
    ("a full disk", Ignored("rowmill-tests", "small_disk")),
    (
        "10,000 tables, huge rows and transactions",
        Ignored("rowmill-tests", "limits"),
    ),
    ("a sink that is detached", Ignored("rowmill-tests", "gaps")),
    ("standbys that are promoted", Ignored("rowmill-tests", "failover")),
    (
        "a password that stays wrong",
        Ignored("rowmill-tests", "source_changes"),
    ),
    ("chaos of another seed", Own(chaos_of_next_seed)),
    ("chaos of another seed", Own(chaos_of_next_seed)),
    ("chaos of another seed", Own(chaos_of_next_seed)),
    ("Debezium reads the relay", Own(debezium_reads)),
    ("a row in a million", Ignored("rowmill-tests", "verified")),
    (
        "fuzz",
        Own(|night| fuzz::fuzz(None, night.times(FUZZ_MINUTES), !night.is_short)),
    ),
];

const HITS: &str = "ROWMILL_HITS";
const SEEDS: &str = "chaos seeds";

/// Each run goes on where the last one stopped.
fn chaos_of_next_seed(night: Night) -> Result<()> {
    let counters = counters::here();
    chaos::chaos(counters.of(SEEDS)? + 1, night.minutes(CHAOS_MINUTES), "human")?;
    counters.add(SEEDS, 1)
}

fn debezium_reads(night: Night) -> Result<()> {
    debezium::install()?;
    Ignored("rowmill-tests", "relayed_debezium").run(night)
}

impl Work {
    fn run(self, night: Night) -> Result<()> {
        let test = |package, file, rest: &[&str]| {
            run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
            let mut test = cargo(&["test", "--package", package, "--test", file]);
            test.args(rest);
            anyhow::Ok(test)
        };
        match self {
            Own(part) => part(night),
            Ignored(package, file) => run(&mut test(package, file, &["--", "--ignored"])?),
            Work::Many {
                file,
                test: name,
                variable,
                times,
            } => {
                let times = night.times(times);
                let mut test = test("rowmill-tests", file, &[name, "--", "--nocapture"])?;
                run(test.env(variable, times.to_string()))?;
                let each = if variable == HITS { FAILPOINTS } else { 1 };
                counters::here().add(variable, times * each)
            }
        }
    }
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
        let ended = part.run(Night { is_short });
        let seconds = began.elapsed().as_secs();
        match ended {
            Ok(()) => println!("{name}: {seconds} s"),
            Err(error) => {
                println!("{name} failed after {seconds} s: {error:#}");
                failed.push(name);
            }
        }
    }
    print!("{}", counters::here().report()?);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::root;
    use std::collections::BTreeSet;

    /// The text of a file of tests.
    fn text(package: &str, file: &str) -> String {
        let folder = if package == "rowmill" { "host" } else { "tests" };
        std::fs::read_to_string(root().join(folder).join("tests").join(format!("{file}.rs"))).unwrap()
    }

    /// A test that is selected by a part of its name would be passed over in silence once it has another.
    #[test]
    fn what_the_nights_select_is_there() {
        for (part, work) in PARTS {
            match work {
                Ignored(package, file) => assert!(text(package, file).contains("#[ignore"), "{part}"),
                Work::Many {
                    file, test, variable, ..
                } => {
                    let text = text("rowmill-tests", file);
                    let named = text
                        .lines()
                        .filter(|line| line.starts_with("fn ") && line.contains(test));
                    assert_eq!(named.count(), 1, "{part}");
                    assert!(text.contains(variable), "{part}");
                }
                Own(_) => {}
            }
        }
    }

    #[test]
    fn whatever_is_ignored_runs_in_a_night() {
        let files = PARTS.iter().filter_map(|(_, work)| match work {
            Ignored(_, file) => Some(*file),
            _ => None,
        });
        let mut files: BTreeSet<&str> = files.collect();
        files.insert("relayed_debezium");
        for entry in std::fs::read_dir(root().join("tests/tests")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_ignored = std::fs::read_to_string(&path).is_ok_and(|text| text.contains("#[ignore"));
            assert!(!is_ignored || files.contains(name.as_str()), "{name}");
        }
    }

    #[test]
    fn a_short_night_does_a_twentieth_and_never_nothing() {
        let short = Night { is_short: true };
        assert_eq!((short.times(500), short.times(1)), (25, 1));
        assert_eq!(Night { is_short: false }.times(500), 500);
    }
}
