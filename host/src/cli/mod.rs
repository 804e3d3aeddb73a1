//! The command line: one file per verb.
//!
//! A verb returns what the process ends with, or why it failed; only [`main`] prints failures and decides the exit
//! code. Nothing here panics on a closed output: `rowmill tail | head -1` ends quietly.

mod attach;
mod check;
mod client;
mod codes;
mod copy;
mod cutover;
mod ddl_trigger;
mod dead_letter;
mod demo;
mod descriptors;
mod host;
mod output;
mod plugin;
mod plugin_list;
mod plugin_verb;
#[cfg(test)]
mod reference;
mod reload;
mod remove;
mod resync;
mod run;
mod schema;
mod skip;
mod slot;
mod status;
mod tail;
mod verify;

pub use codes::CODES;
pub use output::{Failure, Format, Output};
pub use plugin::CODES as PLUGIN_CODES;

use crate::problem::{Exit, Problem, Style, render_all};
use crate::telemetry::{self, LogFormat};
use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::process::ExitCode;

/// What a verb ends with: an exit code, 0 mostly, or a failure.
pub type Outcome = Result<u8, Failure>;

const DONE: u8 = 0;

/// Streams Postgres row changes through WebAssembly plugins to the systems that want them.
#[derive(Debug, Parser)]
#[command(name = "rowmill", version = telemetry::VERSION_TEXT, arg_required_else_help = true)]
struct Cli {
    /// How results and errors are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// What is logged: a level, or `module=level` separated by commas; RUST_LOG otherwise.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run pipelines until told to stop.
    Run(run::Args),
    /// Say what is wrong with a pipeline, its plugins, database and sinks; change nothing.
    Check(check::Args),
    /// A private Postgres with a shop, the example pipeline, and nothing left behind.
    Demo(demo::Args),
    /// State, lag, copies and plugin versions of a running host.
    Status(client::Args),
    /// Rows as they leave, after the plugins.
    Tail(client::Args),
    /// The JSON Schema of pipeline.yaml.
    Schema,
    /// Make, build and test plugins; list and take back the versions that run.
    #[command(subcommand)]
    Plugin(plugin_verb::Verb),
    /// Take down what a pipeline has left on the servers and on disk.
    Remove(remove::Args),
    /// Let a Postgres sink pass over transactions that it can't take.
    Skip(skip::Args),
    /// Compare the tables of source and Postgres sinks; name what differs.
    Verify(verify::Args),
    /// Make a Postgres sink's target ready to take the source's place: wait, set its sequences, compare.
    Cutover(cutover::Args),
    /// Messages of what is done to tables, at the source: an event trigger that a superuser installs.
    #[command(subcommand)]
    DdlTrigger(ddl_trigger::Verb),
    /// Changes that were set aside: look at them, send them again, give them up.
    #[command(subcommand)]
    DeadLetter(dead_letter::Verb),
    /// The first copy of a running host: pause it, go on.
    #[command(subcommand)]
    Copy(copy::Verb),
    /// Have a running host take up pipeline.yaml as it is now; SIGHUP does the same.
    Reload(reload::Args),
    /// Have a table of a running host copied again, beside the stream.
    Resync(resync::Args),
    /// Have a sink that was detached take part again.
    Attach(attach::Args),
    /// Replication slots of a pipeline.
    #[command(subcommand)]
    Slot(slot::Verb),
}

/// Parses the arguments, runs the verb, prints what failed.
pub fn main() -> ExitCode {
    install_panic_hook();
    // The first provider wins; a second call, which tests make, changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let format = cli.output;
    let outcome = std::panic::catch_unwind(|| {
        telemetry::init(log_filter(&cli).as_deref(), LogFormat::detect())?;
        dispatch(cli.verb, Output::stdout(format))
    });
    match outcome {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(Failure::OutputClosed)) => ExitCode::from(DONE),
        Ok(Err(Failure::Problems(problems))) => {
            report(&problems, format);
            let exit = problems.first().map_or(Exit::Bug, |problem| problem.exit);
            ExitCode::from(exit as u8)
        }
        // The hook has said what happened.
        Err(_) => ExitCode::from(Exit::Bug as u8),
    }
}

/// The filter that was given; the demo has a default of its own.
fn log_filter(cli: &Cli) -> Option<String> {
    let of_demo = matches!(cli.verb, Verb::Demo(_)) && std::env::var_os("RUST_LOG").is_none();
    let default = of_demo.then(|| demo::LOG_FILTER.to_owned());
    cli.log.clone().or(default)
}

fn dispatch(verb: Verb, output: Output) -> Outcome {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => check::run(args, output),
        Verb::Demo(args) => demo::run(args, output),
        Verb::Status(args) => status::run(&args, output),
        Verb::Tail(args) => tail::run(&args, output),
        Verb::Schema => schema::run(output),
        Verb::Plugin(verb) => plugin_verb::run(verb, output),
        Verb::Remove(args) => remove::run(args, output),
        Verb::Skip(args) => skip::run(&args, output),
        Verb::Verify(args) => verify::run(&args, output),
        Verb::Cutover(args) => cutover::run(&args, output),
        Verb::DdlTrigger(verb) => ddl_trigger::run(verb, output),
        Verb::DeadLetter(verb) => dead_letter::run(verb, output),
        Verb::Copy(verb) => copy::run(verb, output),
        Verb::Reload(args) => reload::run(&args, output),
        Verb::Resync(args) => resync::run(&args, output),
        Verb::Attach(args) => attach::run(&args, output),
        Verb::Slot(verb) => slot::run(verb, output),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // `--help` and `--version` come this way too, for standard output and with code 0.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
}

/// Failures go to standard error in either form, so that standard output holds results alone.
fn report(problems: &[Problem], format: Format) {
    let text = match format {
        Format::Text => render_all(problems, Style::of(&io::stderr())),
        Format::Json => {
            let problems: Vec<_> = problems.iter().map(Problem::to_json).collect();
            format!("{}\n", serde_json::json!({ "errors": problems }))
        }
    };
    // Where standard error is closed nobody is there to be told.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A panic's own text may hold a row's value: its place is told, the text isn't.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let problem = Problem::new(
            codes::BUG.code,
            Exit::Bug,
            format!("a bug: panicked at {place}"),
            "report it with this text and `rowmill --version`",
        )
        .with_cause(format!("thread `{thread}`"));
        telemetry::log_problem(&problem);
        let _ = io::stderr().write_all(crate::problem::render(&problem, Style::PLAIN).as_bytes());
    }));
}

/// The runtime of the verbs that ask one question and end.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Problem::new(
            codes::NO_RUNTIME.code,
            Exit::Usage,
            "the process can't be set up",
            "raise the limit of open files: `ulimit -n 1024`",
        )
        .with_cause(error)
    })?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests;
