//! `rowmill copy`: the first copy of a running host, paused and let go on.

use super::client::{self, Answer};
use super::{DONE, Outcome, Output, block_on, host};
use crate::config;
use crate::problem::escape;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Begin no further unit; the stream goes on. Forgotten when the host ends.
    Pause(Args),
    /// Go on with the copy.
    Resume(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(long, default_value = config::DEFAULT_FILE, value_name = "FILE")]
    file: PathBuf,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

pub(super) fn run(verb: Verb, mut output: Output) -> Outcome {
    let (args, action) = match verb {
        Verb::Pause(args) => (args, "pause"),
        Verb::Resume(args) => (args, "resume"),
    };
    let pipeline = config::load(&args.file)?;
    let help = "give it one in pipeline.yaml: `console: 127.0.0.1:7070`";
    let address = host::console(&pipeline, args.console, help)?;
    let path = format!("/api/pipelines/{}/copies/{action}", pipeline.name);
    let Answer { code, body } = block_on(client::post_json(address, &path, &json!({})))?;
    if code != 200 {
        let cause = format!("HTTP status {code} for {}", escape(&path));
        return Err(client::unusable(address, &cause));
    }
    output.value(&body, text)?;
    Ok(DONE)
}

fn text(copy: &Value) -> String {
    let state = if copy["paused"] == true { "paused" } else { "goes on" };
    format!(
        "copy {state}: {} of about {} rows\n",
        copy["rows"], copy["rows_estimated"]
    )
}
