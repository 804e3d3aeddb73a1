//! The project's tasks: `cargo xtask demo | test | versions | bench | fuzz | chaos | gate | nightly | check | plugins`. They install what the machine lacks, and say so.

mod bemi;
mod bench;
mod chaos;
mod counters;
mod debezium;
mod demo;
mod fuzz;
mod gate;
mod install;
mod languages;
mod nightly;
mod plugins;
mod run;
mod test;
mod versions;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Rowmill workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Shows Rowmill at work on a Postgres of its own; leaves nothing running
    Demo {
        /// End by itself after so many seconds, with a summary
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Runs all tests
    Test {
        /// Passed on to the test runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the tests of types, messages and one end to end on other versions of PostgreSQL
    Versions {
        /// 14 to 18; all unless given
        majors: Vec<String>,
    },
    /// Runs a benchmark in release mode; without a name, lists them
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzzes the decoders of foreign bytes, one target or all, and prints what they have come to so far
    Fuzz {
        /// guest_reply, module_bytes, manifest, pgoutput, copy_row, binary_value or pipeline_yaml
        target: Option<String>,
        /// How long each target runs
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
        /// Keep what reaches further in fuzz/corpus, minimised
        #[arg(long)]
        keep: bool,
    },
    /// Faults by a schedule that follows from a seed, on real servers and processes, before a judge of what arrives
    Chaos {
        /// The same seed gives the same schedule
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Whole rounds, until this time is over
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// human, or json for a program
        #[arg(long, default_value = "human", value_parser = ["human", "json"])]
        output: String,
    },
    /// Counts instructions of a row's way and compares them with those in the repository
    Gate {
        /// Write what is counted into the repository
        #[arg(long)]
        bless: bool,
    },
    /// Runs what takes hours, and counts it in target/nightly.json: each run goes on where the last one stopped
    Nightly {
        /// Parts whose names hold one of these words; all unless given
        parts: Vec<String>,
        /// A twentieth of it, to see that each part runs
        #[arg(long)]
        short: bool,
    },
    /// Formatting and lints
    Check,
    /// Builds the plugins under plugins/ to WebAssembly: those in Rust and in C
    Plugins {
        /// Those in AssemblyScript and Go too
        #[arg(long)]
        all: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo { seconds } => demo::demo(seconds),
        Task::Test { arguments } => test::test(&arguments),
        Task::Versions { majors } => versions::versions(&majors),
        Task::Bench { arguments } => bench::bench(&arguments),
        Task::Fuzz { target, minutes, keep } => fuzz::fuzz(target.as_deref(), minutes, keep),
        Task::Chaos { seed, minutes, output } => chaos::chaos(seed, minutes, &output),
        Task::Gate { bless } => gate::gate(bless),
        Task::Nightly { parts, short } => nightly::nightly(&parts, short),
        Task::Check => test::check(),
        Task::Plugins { all } => plugins::all(all),
    }
}
