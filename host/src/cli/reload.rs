//! `rowmill reload`: a running host reads pipeline.yaml again.

use super::client::{self, Answer};
use super::output::Failure;
use super::{DONE, Outcome, Output, block_on, host};
use crate::config;
use crate::problem::escape;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    file: PathBuf,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let help = "send the host SIGHUP, or give it one in pipeline.yaml: `console: 127.0.0.1:7070`";
    let address = host::console(&pipeline, args.console, help)?;
    let path = format!("/api/pipelines/{}/reload", pipeline.name);
    let Answer { code, body } = block_on(client::post_patiently(address, &path, &json!({})))?;
    match code {
        200 => output.value(&body, text)?,
        409 => {
            let problems = body["errors"].as_array().into_iter().flatten();
            return Err(Failure::Problems(problems.map(host::refused).collect()));
        }
        _ => {
            let cause = format!("HTTP status {code} for {}", escape(&path));
            return Err(client::unusable(address, &cause));
        }
    }
    Ok(DONE)
}

fn text(done: &Value) -> String {
    let changes = done["changes"].as_array().into_iter().flatten();
    let changes: Vec<String> = changes.filter_map(Value::as_str).map(escape).collect();
    match changes.is_empty() {
        true => "nothing is different".to_owned(),
        false => changes.join("\n"),
    }
}
