//! `rowmill attach`: a sink that was detached takes part again.

use super::{DONE, Outcome, Output};
use crate::config::{self, SnapshotMode};
use crate::problem::escape;
use crate::runtime;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sink.
    #[arg(value_name = "SINK")]
    pub sink: String,
    /// The pipeline; its host must not run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    runtime::attach(&pipeline, &args.sink)?;
    output.value(&json!({ "attached": args.sink }), |_| {
        let sink = escape(&args.sink);
        match pipeline.source.snapshot.mode {
            SnapshotMode::Never => {
                format!("{sink}: takes part again; with `snapshot: never` it lacks what was changed meanwhile")
            }
            SnapshotMode::Initial => {
                format!("{sink}: takes part again; with the next start its tables are emptied and copied for it")
            }
        }
    })?;
    Ok(DONE)
}
