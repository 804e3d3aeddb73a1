//! The project's tasks: `cargo xtask demo | test | bench | check | plugins`. They install what the machine lacks, and say so.

mod bench;
mod demo;
mod install;
mod languages;
mod plugins;
mod run;
mod test;

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
    /// Runs a benchmark in release mode; without a name, lists them
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
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
        Task::Bench { arguments } => bench::bench(&arguments),
        Task::Check => test::check(),
        Task::Plugins { all } => plugins::all(all),
    }
}
