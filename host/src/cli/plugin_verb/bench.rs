//! Result of `rowmill plugin bench`, for people and for programs.

use super::super::plugin::subject::{load_samples, module_at, problem};
use super::super::{DONE, Outcome, Output};
use super::{Bench, failure};
use crate::batch::{Batch, Row};
use crate::plugin::{Engine, Projection};
use crate::plugin_tools::measure::{self, Measured};
use crate::problem::escape;
use serde_json::{Value, json};
use std::time::Duration;

/// How long one file of samples is measured.
const TIME: Duration = Duration::from_secs(2);

pub(super) fn bench(args: &Bench, mut output: Output) -> Outcome {
    let module = module_at(&args.path).map_err(failure)?;
    let files = load_samples(args.samples.as_deref().unwrap_or(&module.samples))?;
    let engine = Engine::new(None).map_err(problem)?;
    let subject = module.subject(&engine, args.config.as_deref())?;
    for file in &files {
        let batch = repeated(&file.batch, args.rows as usize);
        let measured = measure::measure(&subject, &batch, TIME).map_err(problem)?;
        let name = file.path.display().to_string();
        output.value(&as_json(&name, &measured), |_| as_text(&name, &measured))?;
    }
    Ok(DONE)
}

fn as_json(name: &str, measured: &Measured) -> Value {
    let columns = measured.columns.iter().map(|(table, projection)| {
        json!({
            "table": table,
            "reads": projection.as_ref().map(|projection| &projection.reads),
            "writes": projection.as_ref().map(|projection| &projection.writes),
        })
    });
    json!({
        "samples": name,
        "rows": measured.rows,
        "rows_out": measured.rows_out,
        "batches": measured.batches,
        "calls_per_batch": measured.calls,
        "ns_per_row": {
            "median": measured.median_ns,
            "least": measured.least_ns,
            "p90": measured.ninth_decile_ns,
            "encode": measured.encode_ns,
            "call": measured.call_ns,
            "reply": measured.reply_ns,
            "rest": measured.rest_ns,
        },
        "in_bytes_per_row": measured.in_bytes_per_row,
        "out_bytes_per_row": measured.out_bytes_per_row,
        "written_bytes_per_row": measured.written_bytes_per_row,
        "memory_bytes": measured.memory_bytes,
        "columns": columns.collect::<Vec<_>>(),
    })
}

fn as_text(name: &str, measured: &Measured) -> String {
    let mut lines = vec![
        format!(
            "{name}: {:.1} ns per row (least {:.1}, p90 {:.1}) over {} batches of {} rows; {} rows out",
            measured.median_ns,
            measured.least_ns,
            measured.ninth_decile_ns,
            measured.batches,
            measured.rows,
            measured.rows_out,
        ),
        format!(
            "  ns per row: encode {:.1}, call {:.1}, reply {:.1}, rest {:.1}; {} calls a batch",
            measured.encode_ns, measured.call_ns, measured.reply_ns, measured.rest_ns, measured.calls,
        ),
        format!(
            "  bytes per row: {:.1} in, {:.1} out, {:.1} written; {} KiB of guest memory",
            measured.in_bytes_per_row,
            measured.out_bytes_per_row,
            measured.written_bytes_per_row,
            measured.memory_bytes / 1024
        ),
    ];
    lines.extend(measured.columns.iter().map(|(table, of)| columns(table, of.as_ref())));
    lines.join("\n")
}

fn columns(table: &str, of: Option<&Projection>) -> String {
    let list = |names: &[String]| match names.is_empty() {
        true => "nothing".to_owned(),
        false => escape(&names.join(", ")),
    };
    let table = escape(table);
    match of {
        None => format!("  {table}: not called for it"),
        Some(of) => format!("  {table}: reads {}, writes {}", list(&of.reads), list(&of.writes)),
    }
}

/// The sample's changes again and again, as one transaction after another.
fn repeated(batch: &Batch, rows: usize) -> Batch {
    let mut long = batch.clone();
    if batch.rows.is_empty() {
        return long;
    }
    let transactions = batch.transactions.len() as u32;
    for round in 1..rows.div_ceil(batch.rows.len()) as u32 {
        long.transactions.extend_from_slice(&batch.transactions);
        let again = batch.rows.iter().map(|row| Row {
            transaction: row.transaction + round * transactions,
            ..*row
        });
        long.rows.extend(again);
    }
    long.rows.truncate(rows);
    long
}
