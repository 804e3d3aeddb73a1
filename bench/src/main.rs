//! Benchmarks of Rowmill beside its peers. README.md says what each compares.

mod capture;
mod engine;
mod orders;
mod plugin;
mod postgres;
mod report;
mod stream;
mod timed;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// The binary under test
    #[arg(long, global = true, default_value = "target/release/rowmill")]
    rowmill: PathBuf,
}

#[derive(Subcommand)]
enum Benchmark {
    /// The stream through two plugins into discard, beside pg_recvlogical to /dev/null
    Stream {
        #[arg(long, default_value_t = 1_500_000)]
        rows: u64,
        /// Rows of a transaction
        #[arg(long, default_value_t = 50_000)]
        transaction: u64,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
    },
    /// The stream into a Postgres target, beside the server's own subscription
    Postgres {
        #[arg(long, default_value_t = 500_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// Only cases with this in their name
        #[arg(long)]
        case: Option<String>,
    },
    /// Captured bytes through decoding and plugins into discard, without a server: on one core, and in lanes
    Engine {
        #[arg(long, default_value_t = 500_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Nanoseconds per row of a filter, a mask, a typed transform and a chain, beside rows as maps, on one core
    Plugin {
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Those cases alone whose names hold this; nothing is stored then
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rowmill = std::path::absolute(&arguments.rowmill)?;
    match arguments.benchmark {
        Benchmark::Stream {
            rows,
            transaction,
            pairs,
        } => stream::run(&stream::Options {
            rowmill,
            rows,
            transaction,
            pairs,
        }),
        Benchmark::Postgres { rows, pairs, case } => postgres::run(&postgres::Options {
            rowmill,
            pairs,
            rows,
            case,
        }),
        Benchmark::Engine { rows, rounds } => engine::run(&engine::Options { rows, rounds }),
        Benchmark::Plugin { rounds, only } => plugin::run(rounds, only.as_deref()),
    }
}
