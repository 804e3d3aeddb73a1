//! `rowmill demo`: a shop that keeps buying, for a first look.

use super::output::not_wired;
use super::{Outcome, Output};
use crate::config;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after so many seconds, with a summary.
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// The pipeline to show.
    #[arg(long, default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

pub(super) fn run(args: Args, output: Output) -> Outcome {
    show(&args, output)
}

/// Starts the private server, the load and the pipeline. The variables that the pipeline needs are set there, so it
/// is loaded there too.
fn show(_args: &Args, _output: Output) -> Outcome {
    Err(not_wired("demo"))
}
