//! `rowmill resync`: a table of a running host is copied again.

use super::client::{self, Answer};
use super::{DONE, Outcome, Output, block_on, codes};
use crate::config;
use crate::problem::{Exit, Problem, escape};
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
    let Some(address) = args.console.or(pipeline.console.listen) else {
        let headline = "this pipeline has no console to ask";
        let help = "give it one in pipeline.yaml: `console: 127.0.0.1:7070`";
        return Err(Problem::new(codes::NO_HOST.code, Exit::Usage, headline, help).into());
    };
    let path = format!("/api/pipelines/{}/resync", pipeline.name);
    let Answer { code, body } = block_on(client::post_json(address, &path, &json!({ "table": args.table })))?;
    match code {
        200 => output.value(&body, text)?,
        409 => return Err(refused(&body).into()),
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

/// What the host says of it.
pub(super) fn refused(answer: &Value) -> Problem {
    let text = |key: &str| answer[key].as_str().map(escape);
    let headline = text("headline").unwrap_or_else(|| "the host refuses".to_owned());
    let help = text("help").unwrap_or_else(|| "look into the host's log".to_owned());
    let problem = Problem::new(codes::REFUSED.code, Exit::Usage, headline, help);
    match text("cause") {
        Some(cause) => problem.with_cause(cause),
        None => problem,
    }
}
