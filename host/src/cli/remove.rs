//! `rowmill remove`: takes down slot, publication, position rows and state of a pipeline.

use super::output::not_wired;
use super::{Outcome, Output};
use crate::config::{self, Pipeline};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
    /// Only say what would be taken down.
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(args: Args, output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    take_down(&pipeline, args.dry_run, output)
}

/// Drops what the pipeline made, never what it adopted.
fn take_down(_pipeline: &Pipeline, _dry_run: bool, _output: Output) -> Outcome {
    Err(not_wired("remove"))
}
