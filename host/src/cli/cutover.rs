//! `rowmill cutover`: a target is made ready to take the source's place.

use super::client;
use super::output::Failure;
use super::{DONE, Outcome, Output, block_on, codes, verify};
use crate::config;
use crate::problem::{Exit, Problem, escape};
use crate::runtime::{self, CutOver, CutOverRequest, SetSequence, Unfit};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// As `verify` has it.
const DIFFERENT: u8 = 1;
/// Between two looks at a host that isn't ready.
const PAUSE: Duration = Duration::from_millis(200);
/// Names in a line.
const NAMED_MAX: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline; its host has to run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
    /// The sink that takes the source's place, where there are several.
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
    /// Nothing writes to the source any more: fail where something does.
    #[arg(long)]
    pub writes_stopped: bool,
    /// Seconds that copies may take to be through and the stream to catch up.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub wait: u64,
    /// Values that the target's sequences leave free behind the source's.
    #[arg(long, default_value_t = 0, value_name = "VALUES")]
    pub margin: u32,
    /// Set sequences that no column uses as well, by their names.
    #[arg(long)]
    pub all_sequences: bool,
    /// Don't compare the tables.
    #[arg(long)]
    pub no_verify: bool,
    /// Where the console of the running host listens, unless as pipeline.yaml says.
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
}

/// Ends with 1 where something differs or isn't set.
pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let Some(address) = args.console.or(pipeline.console.listen) else {
        let headline = "this pipeline has no console to ask";
        let help = "give it one in pipeline.yaml: `console: 127.0.0.1:7070`";
        return Err(Problem::new(codes::NO_HOST.code, Exit::Usage, headline, help).into());
    };
    let request = CutOverRequest {
        sink: args.sink.clone(),
        wait: Duration::from_secs(args.wait),
        writes_stopped: args.writes_stopped,
        margin: args.margin,
        all_sequences: args.all_sequences,
        verify: !args.no_verify,
    };
    let (done, letters) = block_on(async {
        ready(address, &pipeline.name, request.wait).await?;
        let done = runtime::cut_over(&pipeline, &request).await?;
        // Those that were set aside meanwhile count.
        Ok((done, letters(address, &pipeline.name).await?))
    })?;
    let ready = done.is_equal() && letters == 0;
    let value = as_json(&done, &pipeline.name, letters, ready);
    output.value(&value, |_| text(&done, letters, ready, args.writes_stopped))?;
    Ok(if ready { DONE } else { DIFFERENT })
}

/// Waits until the host streams and all is copied.
async fn ready(address: SocketAddr, pipeline: &str, wait: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let status = status(address, pipeline).await?;
        let cause = if status["state"] != "streaming" {
            format!(
                "the host is {}",
                status["state"].as_str().map(escape).unwrap_or_default()
            )
        } else if status["copying"] != false {
            let copies = status["copies"].as_array().map(Vec::as_slice).unwrap_or_default();
            let open = copies.iter().filter(|copy| copy["done"] != true);
            let open: Vec<String> = open.filter_map(|copy| copy["table"].as_str()).map(escape).collect();
            format!("still being copied: {}", some(&open))
        } else {
            return Ok(());
        };
        if begun.elapsed() >= wait {
            let headline = format!("pipeline {pipeline} isn't ready for a cut-over");
            let help = "look at `rowmill status`, and try again once it streams and has copied all";
            return Err(Problem::new(runtime::NOT_READY, Exit::Preflight, headline, help)
                .with_cause(cause)
                .into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Changes that were set aside and aren't at the target.
async fn letters(address: SocketAddr, pipeline: &str) -> Result<u64, Failure> {
    let status = status(address, pipeline).await?;
    Ok(status["dead_letters"]["letters"].as_u64().unwrap_or(0))
}

async fn status(address: SocketAddr, pipeline: &str) -> Result<Value, Failure> {
    let mut status = client::get_json(address, "/api/status").await?;
    let pipelines = status["pipelines"].as_array_mut();
    let found = pipelines.and_then(|all| all.iter_mut().find(|one| one["pipeline"] == pipeline));
    found.map(Value::take).ok_or_else(|| {
        let headline = format!("the host at {address} doesn't run pipeline {pipeline}");
        let help = "name its console: `--console 127.0.0.1:7070`";
        Problem::new(runtime::NOT_READY, Exit::Preflight, headline, help).into()
    })
}

fn text(done: &CutOver, letters: u64, ready: bool, writes_stopped: bool) -> String {
    let sink = &done.sink;
    let mut lines = vec![format!("{sink} has all that was committed before {}", done.position)];
    lines.extend(done.sequences.iter().map(sequence_line));
    if done.sequences.is_empty() {
        lines.push("no sequences".to_owned());
    }
    for column in &done.untold {
        let column = escape(column);
        lines.push(format!(
            "{column}: its default names a sequence that can't be told; set it with --all-sequences"
        ));
    }
    if letters > 0 {
        lines.push(format!(
            "{letters} changes stand in dead letters: `rowmill dead-letter list`"
        ));
    }
    lines.extend(done.verified.iter().map(|verified| verify::text(verified, false)));
    let left = &done.left_behind;
    if !left.tables.is_empty() {
        lines.push(format!("not streamed to {sink}: {}", some(&left.tables)));
    }
    if left.large_objects > 0 {
        lines.push(format!("not streamed: {} large objects", left.large_objects));
    }
    if !left.views.is_empty() {
        lines.push(format!("to be refreshed at {sink}: {}", some(&left.views)));
    }
    lines.push(String::new());
    lines.extend(next(done, ready, writes_stopped));
    lines.join("\n")
}

/// What to do now.
fn next(done: &CutOver, ready: bool, writes_stopped: bool) -> Vec<String> {
    let sink = &done.sink;
    match (ready, writes_stopped) {
        (false, _) => vec![format!(
            "not ready: settle what is named above, then run `rowmill cutover` again; {sink} is as it was but for its \
             sequences"
        )],
        (true, false) => {
            let quiet = match done.quiet {
                true => "Nothing was written meanwhile",
                false => "The source was written to meanwhile",
            };
            vec![
                format!("{quiet}. To move:"),
                "  1. stop what writes to the source".to_owned(),
                "  2. rowmill cutover --writes-stopped".to_owned(),
            ]
        }
        (true, true) => vec![
            "ready, and nothing was written meanwhile. Now:".to_owned(),
            "  1. stop the host: end `rowmill run`".to_owned(),
            format!("  2. point what writes to the database of {sink}"),
            "  3. rowmill remove: takes the slot down, which holds the source's WAL back".to_owned(),
        ],
    }
}

fn sequence_line(sequence: &SetSequence) -> String {
    use runtime::Outcome::{Ahead, Equal, Missing, Set, Unfit as DoesNotFit};
    let name = escape(&sequence.name);
    let next = match sequence.next {
        Some(next) => format!("the next value is {next}"),
        None => "no value is left".to_owned(),
    };
    let mut line = match sequence.outcome {
        Set => format!("{name}: set, {next}"),
        Equal => format!("{name}: as the source's, {next}"),
        Ahead => format!("{name}: ahead of the source's and left there, {next}"),
        Missing if sequence.columns.is_empty() => format!("{name}: MISSING"),
        Missing => format!("{name}: MISSING, nothing is drawn for {}", some(&sequence.columns)),
        DoesNotFit(Unfit::Range) => format!("{name}: NOT SET, the source's is beyond its limits"),
        DoesNotFit(Unfit::Direction) => format!("{name}: NOT SET, it counts the other way than the source's"),
    };
    if sequence.without_margin {
        line.push_str("; there is no room for the margin");
    }
    if sequence.other_rules {
        line.push_str("; it counts otherwise than the source's");
    }
    line
}

fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED_MAX).map(|name| escape(name)).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        others => format!("{} and {others} others", shown.join(", ")),
    }
}

fn as_json(done: &CutOver, pipeline: &str, letters: u64, ready: bool) -> Value {
    let sequence = |one: &SetSequence| {
        use runtime::Outcome::{Ahead, Equal, Missing, Set, Unfit as DoesNotFit};
        let outcome = match one.outcome {
            Set => "set",
            Equal => "equal",
            Ahead => "ahead",
            Missing => "missing",
            DoesNotFit(Unfit::Range) => "out of range",
            DoesNotFit(Unfit::Direction) => "other direction",
        };
        json!({
            "sequence": one.name,
            "of": one.of,
            "columns": one.columns,
            "outcome": outcome,
            "next": one.next,
            "without_margin": one.without_margin,
            "other_rules": one.other_rules,
        })
    };
    let tables = |verified: &runtime::Verified| -> Vec<Value> {
        verified
            .tables
            .iter()
            .map(|table| verify::as_json(table, false))
            .collect()
    };
    json!({
        "pipeline": pipeline,
        "sink": done.sink,
        "ready": ready,
        "position": done.position.to_string(),
        "quiet": done.quiet,
        "sequences": done.sequences.iter().map(sequence).collect::<Vec<_>>(),
        "untold": done.untold,
        "dead_letters": letters,
        "tables": done.verified.as_ref().map(tables),
        "not_streamed": done.left_behind.tables,
        "large_objects": done.left_behind.large_objects,
        "to_refresh": done.left_behind.views,
    })
}
