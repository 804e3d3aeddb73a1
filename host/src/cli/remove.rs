//! `rowmill remove`: takes down slot, publication, position rows and state of a pipeline.

use super::{DONE, Outcome, Output, block_on};
use crate::config;
use crate::problem::escape;
use crate::runtime::Leftovers;
use serde_json::{Value, json};
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

/// Drops what the pipeline made, never what it adopted.
pub(super) fn run(args: Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let steps = block_on(async {
        let leftovers = Leftovers::find(&pipeline).await?;
        let steps = leftovers.steps();
        if !args.dry_run {
            leftovers.take_down().await?;
        }
        Ok(steps)
    })?;
    let step = |(place, statement): &(String, String)| json!({ "where": place, "statement": statement });
    let value = json!({
        "pipeline": pipeline.name,
        "dry_run": args.dry_run,
        "steps": steps.iter().map(step).collect::<Vec<Value>>(),
    });
    output.value(&value, |_| text(&steps, args.dry_run))?;
    Ok(DONE)
}

fn text(steps: &[(String, String)], dry_run: bool) -> String {
    let mut lines: Vec<String> = steps
        .iter()
        .map(|(place, statement)| format!("{place}: {}", escape(statement)))
        .collect();
    lines.push(
        match (steps.is_empty(), dry_run) {
            (true, _) => "there is nothing to remove",
            (false, true) => "nothing of it has been done",
            (false, false) => "done",
        }
        .to_owned(),
    );
    lines.join("\n")
}
