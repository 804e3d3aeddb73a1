//! `rowmill run`: pipelines, until told to stop.

use super::output::not_wired;
use super::{Outcome, Output};
use crate::config::{self, Pipeline};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pipelines to run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Stop at the position that the server had flushed at the start.
    #[arg(long)]
    pub once: bool,
    /// Go on where the stream has a gap; what is missing stays missing.
    #[arg(long)]
    pub accept_gap: bool,
}

pub(super) fn run(args: Args, output: Output) -> Outcome {
    let pipelines = config::load_all(&args.files)?;
    start(pipelines, &args, output)
}

/// Hands over to the runtime: its exit code is 0 after a drain, 128 + n after a second signal.
fn start(_pipelines: Vec<Pipeline>, _args: &Args, _output: Output) -> Outcome {
    Err(not_wired("run"))
}
