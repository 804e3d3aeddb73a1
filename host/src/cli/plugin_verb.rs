//! `rowmill plugin`: the arguments; what they do stands in `plugin/`.

use super::output::not_wired;
use super::{Outcome, Output};
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// A crate for a plugin, ready to build.
    New(New),
    /// Build a plugin's crate to a module.
    Build(Build),
}

#[derive(Debug, clap::Args)]
pub struct New {
    /// The folder to make; its name is the plugin's.
    pub path: PathBuf,
    #[arg(long, value_enum, default_value_t = Kind::Filter)]
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Keeps rows or drops them.
    Filter,
    /// Changes rows.
    Transform,
}

#[derive(Debug, clap::Args)]
pub struct Build {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Where the module goes.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

pub(super) fn run(verb: Verb, output: Output) -> Outcome {
    match verb {
        Verb::New(args) => make(&args, output),
        Verb::Build(args) => build(&args, output),
    }
}

/// `plugin::new::new`.
fn make(_args: &New, _output: Output) -> Outcome {
    Err(not_wired("plugin new"))
}

/// `plugin::build::build`.
fn build(_args: &Build, _output: Output) -> Outcome {
    Err(not_wired("plugin build"))
}
