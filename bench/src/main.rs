//! Benchmarks of Rowmill beside its peers. README.md says what each compares.

mod binary_form;
mod capture;
mod counted;
mod debezium;
mod divided;
mod dumped;
mod engine;
mod file;
mod fixed;
mod growth;
mod latency;
mod memory;
mod orders;
mod page;
mod parts;
#[cfg(feature = "statistics")]
mod parts_timed;
mod plot;
mod plugin;
mod postgres;
#[cfg(feature = "statistics")]
mod profile;
mod report;
mod rows;
mod snapshot;
mod start;
mod stream;
mod timed;
mod workplace;

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
        /// Both sides over TLS
        #[arg(long)]
        tls: bool,
        /// The server's major version, which `cargo xtask bench` installs
        #[arg(long)]
        postgres: Option<u32>,
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
        /// Those cases alone whose names hold this; nothing is concluded then.
        #[arg(long)]
        only: Option<String>,
    },
    /// Nanoseconds per row of a filter, a mask, a typed transform and a chain, beside rows as maps, on one core
    Plugin {
        #[arg(long, default_value_t = 25)]
        rounds: usize,
        /// Those cases alone whose names hold this; nothing is stored then
        #[arg(long)]
        only: Option<String>,
    },
    /// The stream into a file of JSON lines, beside pg_recvlogical with wal2json
    File {
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
    },
    /// The copy of one table into discard, beside psql's \copy to /dev/null
    Snapshot {
        #[arg(long, default_value_t = 5_000_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
    },
    /// From commit to sink at steady rates
    Latency {
        /// Of one round of one rate
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Transactions per second
        #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 5_000])]
        rates: Vec<u64>,
    },
    /// The cost of a row by tables, plugins, columns and width
    Growth {
        /// Of each case that is streamed
        #[arg(long, default_value_t = 300_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// How long a start takes with one table and with many
    Start {
        #[arg(long, default_value_t = 10_000)]
        tables: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Peak memory of a huge transaction, many tables, huge rows
    Memory {
        /// Of the transaction
        #[arg(long, default_value_t = 10_000_000)]
        rows: u64,
        #[arg(long, default_value_t = 10_000)]
        tables: u64,
        /// Of a huge row
        #[arg(long, default_value_t = 100)]
        megabytes: u64,
    },
    /// JSON out, and latency, beside Debezium's embedded engine
    Debezium {
        #[arg(long, default_value_t = 500_000)]
        rows: u64,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// 0 leaves the latency out
        #[arg(long, default_value_t = 20)]
        latency_seconds: u64,
    },
    /// Nanoseconds per row of each part of a row's way
    #[cfg(feature = "statistics")]
    Parts {
        /// Of measuring each
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Where the CPU's time goes, by perf: flame graphs, and shares of the parts of a row's way
    #[cfg(feature = "statistics")]
    Profile {
        #[arg(long, default_value_t = 2_000_000)]
        rows: u64,
        /// The stream alone, from a server of this major version
        #[arg(long)]
        postgres: Option<u32>,
    },
    /// Writes docs/explanation/performance.md from the reports under target/bench
    Report {
        /// Though they are of several commits, or some are missing
        #[arg(long)]
        partial: bool,
    },
    /// One part over fixed rows, for `cargo xtask gate`; without a name, the names
    #[command(hide = true)]
    Counted { part: Option<String> },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rowmill = std::path::absolute(&arguments.rowmill)?;
    match arguments.benchmark {
        Benchmark::Stream {
            rows,
            transaction,
            pairs,
            tls,
            postgres,
        } => stream::run(&stream::Options {
            rowmill,
            rows,
            transaction,
            pairs,
            tls,
            postgres,
        }),
        Benchmark::Postgres { rows, pairs, case } => postgres::run(&postgres::Options {
            rowmill,
            pairs,
            rows,
            case,
        }),
        Benchmark::Engine { rows, rounds, only } => engine::run(&engine::Options { rows, rounds, only }),
        Benchmark::Plugin { rounds, only } => plugin::run(rounds, only.as_deref()),
        Benchmark::File { rows, pairs } => file::run(&file::Options { rowmill, rows, pairs }),
        Benchmark::Snapshot { rows, pairs } => snapshot::run(&snapshot::Options { rowmill, rows, pairs }),
        Benchmark::Latency { seconds, rounds, rates } => latency::run(&latency::Options {
            rowmill,
            seconds,
            rounds,
            rates,
        }),
        Benchmark::Growth { rows, rounds } => growth::run(&growth::Options { rowmill, rows, rounds }),
        Benchmark::Start { tables, rounds } => start::run(&start::Options {
            rowmill,
            tables,
            rounds,
        }),
        Benchmark::Memory {
            rows,
            tables,
            megabytes,
        } => memory::run(&memory::Options {
            rowmill,
            rows,
            tables,
            megabytes,
        }),
        Benchmark::Debezium {
            rows,
            pairs,
            latency_seconds,
        } => debezium::run(&debezium::Options {
            rowmill,
            rows,
            pairs,
            latency_seconds,
        }),
        #[cfg(feature = "statistics")]
        Benchmark::Parts { seconds } => parts_timed::run(seconds),
        #[cfg(feature = "statistics")]
        Benchmark::Profile { rows, postgres } => profile::run(&profile::Options {
            rowmill,
            rows,
            postgres,
        }),
        Benchmark::Report { partial } => page::run(partial),
        Benchmark::Counted { part } => match part {
            Some(part) => counted::run(&part),
            None => {
                counted::names();
                Ok(())
            }
        },
    }
}
