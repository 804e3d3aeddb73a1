//! `rowmill ddl-trigger`: what the source says of changes to its tables' form.

use super::{DONE, Outcome, Output, block_on};
use crate::config;
use crate::runtime::connect_source;
use crate::source::ddl_trigger::{self, DROP, INSTALL};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Print the statements that install it.
    Show,
    /// Print them and run them at the pipeline's source; one that is there is replaced.
    Install(At),
    /// Take it down; print the statements that do.
    Drop(At),
}

#[derive(Debug, clap::Args)]
pub struct At {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

pub(super) fn run(verb: Verb, mut output: Output) -> Outcome {
    let (at, statements) = match verb {
        Verb::Show => (None, INSTALL),
        Verb::Install(at) => (Some(at), INSTALL),
        Verb::Drop(at) => (Some(at), DROP),
    };
    output.value(&json!({ "statements": statements }), |_| {
        statements.trim_end().to_owned()
    })?;
    let Some(at) = at else { return Ok(DONE) };
    let pipeline = config::load(&at.file)?;
    block_on(async {
        let client = connect_source(&pipeline, "ddl_trigger").await?;
        Ok(ddl_trigger::run(&client, statements).await?)
    })?;
    Ok(DONE)
}
