//! `rowmill run`: pipelines, until told to stop.

use super::{DONE, Outcome, codes, descriptors};
use crate::batch::Lsn;
use crate::config::{self, Pipeline};
use crate::console::{Console, Tail};
use crate::problem::{Exit, Problem};
use crate::runtime::{self, Ended, Pipelines, RunOptions, Stop, StopRequest};
use crate::telemetry::Registry;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pipelines to run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Stop at the position that the server had flushed at the start.
    #[arg(long)]
    pub once: bool,
    /// End where the source can't be reached, at the start or later, rather than wait for it.
    #[arg(long)]
    pub exit_on_unavailable: bool,
    /// Go on behind a gap in the stream that begins here, as the error names it; changes in it are missing then.
    #[arg(long, value_name = "POSITION")]
    pub accept_gap: Option<Lsn>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let pipelines = config::load_all(&args.files)?;
    descriptors::enough(&pipelines)?;
    let options = RunOptions {
        once: args.once,
        exit_on_unavailable: args.exit_on_unavailable,
        accept_gap: args.accept_gap,
    };
    start(pipelines, options)
}

/// Ends with 0 after a drain, with 128 + n after a second signal.
fn start(pipelines: Vec<Pipeline>, options: RunOptions) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let outcome = runtime.block_on(run_all(pipelines, options));
    // What still runs belongs to pipelines that were told to stop at once.
    runtime.shutdown_background();
    outcome
}

async fn run_all(pipelines: Vec<Pipeline>, options: RunOptions) -> Outcome {
    let stop = StopRequest::on_signals().map_err(no_runtime)?;
    let tail = Tail::new();
    let address = pipelines.iter().find_map(|pipeline| pipeline.console.listen);
    let console = match address.filter(|_| !options.once) {
        Some(address) => Some(Console::bind(address).await?),
        None => None,
    };
    let mut running = Vec::new();
    for pipeline in pipelines {
        running.push(runtime::run(pipeline, options, stop.clone(), tail.clone())?);
    }
    let pipelines = Arc::new(Pipelines::of(&running));
    if !options.once {
        runtime::reload_on_hangup(Arc::clone(&pipelines)).map_err(no_runtime)?;
    }
    if let Some(console) = console {
        tracing::info!(address = %console.address(), "the console listens");
        let metrics = Arc::new(Registry::new());
        for pipeline in &running {
            tokio::spawn(runtime::feed_metrics(pipeline, &metrics, stop.clone()));
        }
        let (status, mut stop) = (pipelines, stop.clone());
        let stopped = async move { stop.requested(Stop::Drain).await };
        tokio::spawn(console.serve(status, metrics, tail, stopped));
    }
    // One that fails ends the process: a supervisor starts it again, or shows that it doesn't.
    let mut code = DONE;
    let ended = running.into_iter().map(|running| Box::pin(running.ended()));
    let mut left: Vec<_> = ended.collect();
    while !left.is_empty() {
        let (ended, _, others) = futures_util::future::select_all(left).await;
        if let Ended::Interrupted(signal) = ended? {
            code = 128 + u8::try_from(signal).unwrap_or(0);
        }
        left = others;
    }
    Ok(code)
}

fn no_runtime(error: std::io::Error) -> Problem {
    let help = "raise the limits of processes and open files: `ulimit -u`, `ulimit -n`";
    Problem::new(
        codes::NO_RUNTIME.code,
        Exit::Usage,
        "the runtime can't be started",
        help,
    )
    .with_cause(error)
}
