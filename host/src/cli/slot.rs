//! `rowmill slot`: the replication slots of a pipeline's server.

use super::output::not_wired;
use super::{Outcome, Output};
use crate::config::{self, Pipeline};
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Slots with what they hold back.
    List(List),
    /// Drop a pipeline's slot: what it held back is gone for this pipeline.
    Drop(Drop),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Drop {
    /// The slot's name: written out, so that none is dropped by mistake.
    pub slot: String,
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

pub(super) fn run(verb: Verb, output: Output) -> Outcome {
    match verb {
        Verb::List(args) => list(&config::load(&args.file)?, output),
        Verb::Drop(args) => drop_slot(&config::load(&args.file)?, &args.slot, output),
    }
}

fn list(_pipeline: &Pipeline, _output: Output) -> Outcome {
    Err(not_wired("slot list"))
}

fn drop_slot(_pipeline: &Pipeline, _slot: &str, _output: Output) -> Outcome {
    Err(not_wired("slot drop"))
}
