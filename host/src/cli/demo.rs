//! `rowmill demo`: a shop that keeps buying, for a first look.

use super::{DONE, Outcome, Output};
use crate::cli::Format;
use crate::{config, demo};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after so many seconds, with a summary.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// The pipeline to show.
    #[arg(long, default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

/// A log in the middle of the page would spoil it.
pub(super) const LOG_FILTER: &str = "off";

pub(super) fn run(args: Args, mut output: Output) -> Outcome {
    let options = demo::Options {
        file: args.file,
        seconds: args.seconds,
        quiet: output.format() == Format::Json,
    };
    match demo::run(&options)? {
        Some(summary) => {
            output.value(&summary.to_json(), |_| {
                format!("{}\nPostgres is stopped, its folder removed.", summary.text())
            })?;
            Ok(DONE)
        }
        None => Ok(128 + libc::SIGINT as u8),
    }
}
