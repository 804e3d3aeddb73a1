//! `rowmill dead-letter`: changes that were set aside.

mod add;
mod show;
#[cfg(test)]
mod tests;

use super::client::{self, Answer};
use super::{DONE, Failure, Outcome, Output, block_on, codes};
use crate::checkpoint::{FolderLock, STATE_HELD};
use crate::config::{self, Pipeline};
use crate::dead_letter::{self, Action, DeadLetters, Letter, Order, Peeked, Selection, UNKNOWN};
use crate::problem::{Exit, Problem, escape};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// What was set aside and why, without values.
    List(List),
    /// One letter with its cause; values only where asked for.
    Show(Show),
    /// Send letters again, in order, through the plugins as they are now.
    Replay(Replay),
    /// Give letters up: their changes are never delivered.
    Drop(Drop),
    /// Set a change aside that a sink can't take, so that all others go on; the pipeline's host must not run.
    Add(Add),
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// The sink that can't take it.
    sink: String,
    /// The row's id, as the sink's error names it.
    row: String,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, clap::Args)]
struct File {
    /// The pipeline.
    #[arg(long, default_value = config::DEFAULT_FILE, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Only those of this table, `schema.table`.
    #[arg(long)]
    table: Option<String>,
    /// Only those that this plugin refused or failed on.
    #[arg(long)]
    plugin: Option<String>,
    /// Only those of this route, named by its tables.
    #[arg(long)]
    route: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, clap::Args)]
pub struct Show {
    /// Its number.
    letter: u64,
    /// Show the row's values too.
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false, args = ["letters", "table", "all"])]
struct Which {
    /// Their numbers.
    #[arg(value_name = "LETTER")]
    letters: Vec<u64>,
    /// All of this table, `schema.table`.
    #[arg(long)]
    table: Option<String>,
    /// All that there are.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub struct Replay {
    #[command(flatten)]
    which: Which,
    /// Exactly the letters named, even where a later change of their key was delivered or waits.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    file: File,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub struct Drop {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    file: File,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

pub(super) fn run(verb: Verb, mut output: Output) -> Outcome {
    match verb {
        Verb::List(args) => list(&args, &config::load(&args.file.file)?, output),
        Verb::Show(args) => show(&args, &config::load(&args.file.file)?, output),
        Verb::Replay(args) => {
            let pipeline = config::load(&args.file.file)?;
            let order = args.which.order(args.force);
            let done = carry_out(&pipeline, Action::Replay, &order, args.console)?;
            output.value(&done, show::replayed)?;
            Ok(DONE)
        }
        Verb::Add(args) => {
            let mut pipeline = config::load(&args.file.file)?;
            output.value(&add::add(&mut pipeline, &args.sink, &args.row)?, add::told)?;
            Ok(DONE)
        }
        Verb::Drop(args) => {
            let pipeline = config::load(&args.file.file)?;
            let order = args.which.order(false);
            let done = carry_out(&pipeline, Action::Drop, &order, args.console)?;
            output.value(&done, show::dropped)?;
            Ok(DONE)
        }
    }
}

impl Which {
    fn order(&self, force: bool) -> Order {
        Order {
            letters: self.letters.clone(),
            table: self.table.clone(),
            all: self.all,
            force,
        }
    }
}

fn without_values(letter: &mut Letter) {
    letter.new = None;
    letter.old = None;
}

fn list(args: &List, pipeline: &Pipeline, mut output: Output) -> Outcome {
    let mut peeked = dead_letter::peek(&pipeline.state_dir, without_values)?;
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    peeked.letters.retain(|_, letter| {
        let plugin = letter.plugin.as_ref().map_or("", |plugin| &plugin.name);
        is(&args.table, &letter.table.full_name()) && is(&args.plugin, plugin) && is(&args.route, &letter.route)
    });
    let letters: Vec<Value> = peeked.letters.values().map(|l| show::as_json(l, &peeked)).collect();
    let value = json!({ "pipeline": pipeline.name, "letters": letters });
    output.value(&value, |_| show::list(&peeked))?;
    Ok(DONE)
}

fn show(args: &Show, pipeline: &Pipeline, mut output: Output) -> Outcome {
    let number = args.letter;
    let mut peeked: Peeked = dead_letter::peek(&pipeline.state_dir, |letter| {
        if letter.number != number {
            without_values(letter);
        }
    })?;
    let Some(letter) = peeked.letters.remove(&number) else {
        return Err(unknown(number).into());
    };
    let mut value = show::as_json(&letter, &peeked);
    value["new"] = show::image(&letter, &letter.new, args.values);
    value["old"] = show::image(&letter, &letter.old, args.values);
    output.value(&value, show::letter)?;
    Ok(DONE)
}

fn unknown(number: u64) -> Problem {
    let headline = format!("there is no dead letter {number}");
    Problem::new(UNKNOWN, Exit::Usage, headline, "rowmill dead-letter list")
}

/// Directly where no host runs, by the console of the one that does otherwise.
fn carry_out(
    pipeline: &Pipeline,
    action: Action,
    order: &Order,
    console: Option<SocketAddr>,
) -> Result<Value, Failure> {
    let selection = order.selection().unwrap_or(Selection::Numbers(Vec::new()));
    if !dead_letter::exists(&pipeline.state_dir) {
        return match &selection {
            Selection::Numbers(numbers) => Err(unknown(numbers.first().copied().unwrap_or(0)).into()),
            _ => Ok(json!({ "dropped": [], "replay": [], "superseded": [], "still_waiting": [] })),
        };
    }
    match FolderLock::take(&pipeline.state_dir) {
        Ok(_lock) => {
            let letters = DeadLetters::open(&pipeline.state_dir, &pipeline.name, &pipeline.dead_letters)?;
            Ok(dead_letter::carry_out(&letters, action, &selection, order.force)?)
        }
        Err(held) if held.code == STATE_HELD => match console.or(pipeline.console.listen) {
            Some(address) => ask(address, &pipeline.name, action, order),
            None => Err(no_console(&held).into()),
        },
        Err(problem) => Err(problem.into()),
    }
}

fn ask(address: SocketAddr, pipeline: &str, action: Action, order: &Order) -> Result<Value, Failure> {
    let path = format!("/api/pipelines/{pipeline}/dead-letters/{}", action.name());
    let Answer { code, body } = block_on(client::post_json(address, &path, &json!(order)))?;
    if code == 200 {
        return Ok(body);
    }
    // The host's own words, where it is one of ours.
    let told = Problem::from_json(&body);
    Err(told.map_or_else(
        || client::unusable(address, &format!("HTTP status {code} for {}", escape(&path))),
        Failure::from,
    ))
}

fn no_console(held: &Problem) -> Problem {
    let help = "stop it first, or give it a console in pipeline.yaml: `console: 127.0.0.1:7070`";
    let headline = "a host runs this pipeline and has no console to ask";
    let cause = held.cause.clone().unwrap_or_default();
    Problem::new(codes::NO_HOST.code, Exit::Usage, headline, help).with_cause(cause)
}
