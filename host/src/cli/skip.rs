//! `rowmill skip`: lets a sink pass over what it can't take.

use super::{DONE, Outcome, Output, block_on};
use crate::batch::Lsn;
use crate::config;
use crate::problem::escape;
use crate::runtime;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sink, a Postgres.
    #[arg(value_name = "SINK")]
    pub sink: String,
    /// Where the last transaction commits that isn't applied any more, as the sink's error names it.
    #[arg(long, value_name = "POSITION")]
    pub to: Lsn,
    /// The pipeline; its host must not run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

/// Moves the sink's position.
pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let before = block_on(async { Ok(runtime::skip(&pipeline, &args.sink, args.to).await?) })?;
    let value = json!({
        "sink": args.sink,
        "from": before.map(|lsn| lsn.to_string()),
        "to": args.to.to_string(),
    });
    output.value(&value, |_| {
        let from = before.map_or_else(|| "the beginning".to_owned(), |lsn| lsn.to_string());
        let sink = escape(&args.sink);
        format!(
            "{sink}: transactions that commit from {from} to {} won't be applied",
            args.to
        )
    })?;
    Ok(DONE)
}
