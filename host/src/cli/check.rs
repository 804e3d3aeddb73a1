//! `rowmill check`: everything that would go wrong, before anything is started.

use super::output::not_wired;
use super::{DONE, Outcome, Output};
use crate::config::{self, Pipeline};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
    /// Show so many rows of each table before and after the plugins.
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Look at the file alone: no plugin is compiled, no server asked.
    #[arg(long, conflicts_with = "sample")]
    pub offline: bool,
}

pub(super) fn run(args: Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    if args.offline {
        let value = json!({ "file": args.file.display().to_string(), "pipeline": pipeline.name, "ok": true });
        output.value(&value, |_| {
            format!("{}: nothing is wrong with the file", args.file.display())
        })?;
        return Ok(DONE);
    }
    preflight(&pipeline, &args, output)
}

/// Asks plugins, source and sinks what they would refuse.
fn preflight(_pipeline: &Pipeline, _args: &Args, _output: Output) -> Outcome {
    Err(not_wired("check"))
}
