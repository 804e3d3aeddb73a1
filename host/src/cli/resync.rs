//! `rowmill resync`: a table of a running host is copied again.

use super::client::{self, Answer};
use super::{DONE, Outcome, Output, block_on, host};
use crate::config;
use crate::problem::escape;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The table, `schema.table`.
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// The pipeline.
    #[arg(long, default_value = config::DEFAULT_FILE, value_name = "FILE")]
    file: PathBuf,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let help = "give it one in pipeline.yaml: `console: 127.0.0.1:7070`";
    let address = host::console(&pipeline, args.console, help)?;
    let path = format!("/api/pipelines/{}/resync", pipeline.name);
    let Answer { code, body } = block_on(client::post_json(address, &path, &json!({ "table": args.table })))?;
    match code {
        200 => output.value(&body, text)?,
        409 => return Err(host::refused(&body).into()),
        _ => {
            let cause = format!("HTTP status {code} for {}", escape(&path));
            return Err(client::unusable(address, &cause));
        }
    }
    Ok(DONE)
}

fn text(done: &Value) -> String {
    let table = done["table"].as_str().map(escape).unwrap_or_default();
    format!("{table} is copied again; `rowmill status` shows how far it is\n")
}
