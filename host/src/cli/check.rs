//! `rowmill check`: everything that would go wrong, before anything is started.

use super::output::{Failure, Format};
use super::{DONE, Outcome, Output, block_on};
use crate::config::{self, Pipeline};
use crate::problem::{Problem, escape};
use crate::runtime::{self, Checked, CheckedTable, Sample};
use crate::source::preflight::{Level, Notice};
use serde_json::{Value, json};
use std::path::PathBuf;

/// More rows than this nobody reads, and they are all in memory.
const SAMPLE_MAX: u64 = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
    /// Show so many rows of each table before and after the plugins.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    pub sample: Option<u64>,
    /// Look at the file alone: no plugin is compiled, no server asked.
    #[arg(long, conflicts_with = "sample")]
    pub offline: bool,
}

pub(super) fn run(args: Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    if args.offline {
        let value = json!({ "file": args.file.display().to_string(), "pipeline": pipeline.name, "ok": true });
        output.value(&value, |_| {
            format!("{}: nothing is wrong with the file", args.file.display())
        })?;
        return Ok(DONE);
    }
    let sample = usize::try_from(args.sample.unwrap_or(0)).unwrap_or(usize::MAX);
    let checked = block_on(async { Ok(runtime::check(&pipeline, sample).await) })?;
    match output.format() {
        Format::Json => {
            output.line(&as_json(&pipeline, &checked).to_string())?;
            Ok(checked.problems.first().map_or(DONE, |problem| problem.exit as u8))
        }
        Format::Text => {
            output.line(&text(&args, &checked))?;
            match checked.problems.is_empty() {
                true => Ok(DONE),
                // One failure for all: they go to standard error, and the first decides the exit code.
                false => Err(Failure::Problems(checked.problems)),
            }
        }
    }
}

fn text(args: &Args, checked: &Checked) -> String {
    let mut lines = vec![row("config", &args.file.display().to_string())];
    lines.extend(checked.lines.iter().map(|(what, text)| row(what, text)));
    lines.extend(checked.notices.iter().map(notice));
    for sample in &checked.samples {
        lines.extend(sample_lines(sample));
    }
    if checked.problems.is_empty() {
        lines.push("nothing stands in the way".to_owned());
    }
    lines.join("\n")
}

fn row(what: &str, text: &str) -> String {
    format!("{what:7} {}", escape(text))
}

fn notice(notice: &Notice) -> String {
    let level = level(notice);
    let mut text = format!("{level}[{}]: {}", notice.code, escape(&notice.headline));
    if let Some(detail) = &notice.detail {
        text.push_str(&format!(" ({})", escape(detail)));
    }
    if let Some(help) = &notice.help {
        text.push_str(&format!("\n  help:  {}", escape(help)));
    }
    text
}

fn level(notice: &Notice) -> &'static str {
    match notice.level {
        Level::Warning => "warning",
        Level::Info => "note",
    }
}

/// `-` before the plugins, `+` behind them.
fn sample_lines(sample: &Sample) -> Vec<String> {
    let plugins = match sample.plugins.is_empty() {
        true => "no plugin".to_owned(),
        false => sample.plugins.join(", "),
    };
    let mut lines = vec![format!(
        "\n{} through {plugins} to {}",
        escape(&sample.table),
        sample.sinks.join(", ")
    )];
    for row in &sample.rows {
        lines.push(format!("  - {}", escape(&row.before)));
        if row.after.is_empty() {
            lines.push("  + dropped".to_owned());
        }
        lines.extend(row.after.iter().map(|after| format!("  + {}", escape(after))));
    }
    lines
}

fn as_json(pipeline: &Pipeline, checked: &Checked) -> Value {
    json!({
        "pipeline": pipeline.name,
        "ok": checked.problems.is_empty(),
        "problems": checked.problems.iter().map(Problem::to_json).collect::<Vec<_>>(),
        "notices": checked.notices.iter().map(notice_json).collect::<Vec<_>>(),
        "tables": checked.tables.iter().map(table_json).collect::<Vec<_>>(),
        "samples": checked.samples.iter().map(sample_json).collect::<Vec<_>>(),
    })
}

fn notice_json(notice: &Notice) -> Value {
    json!({
        "code": notice.code,
        "level": level(notice),
        "headline": notice.headline,
        "detail": notice.detail,
        "help": notice.help,
    })
}

fn table_json(table: &CheckedTable) -> Value {
    let routes = table.routes.iter().map(|route| {
        let output = |(table, columns): &(String, Vec<String>)| json!({ "table": table, "columns": columns });
        let outputs = route.outputs.as_ref();
        json!({
            "columns": route.columns,
            "plugins": route.plugins,
            "sinks": route.sinks,
            "outputs": outputs.map(|outputs| outputs.iter().map(output).collect::<Vec<_>>()),
        })
    });
    json!({ "table": table.table, "rows_estimated": table.rows, "routes": routes.collect::<Vec<_>>() })
}

fn sample_json(sample: &Sample) -> Value {
    // They were made here a moment ago, so they are JSON.
    let parsed = |line: &String| serde_json::from_str::<Value>(line).unwrap_or(Value::Null);
    let rows = sample.rows.iter().map(|row| {
        let after: Vec<Value> = row.after.iter().map(parsed).collect();
        json!({ "before": parsed(&row.before), "after": after })
    });
    json!({
        "table": sample.table,
        "plugins": sample.plugins,
        "sinks": sample.sinks,
        "rows": rows.collect::<Vec<_>>(),
    })
}
