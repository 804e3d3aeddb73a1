//! `rowmill verify`: source and targets compared, differences named.

use super::{DONE, Outcome, Output, block_on};
use crate::config;
use crate::problem::escape;
use crate::runtime::{self, Compared, Verified, VerifiedTable};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// As `diff` has it: the comparison went through, and found something.
const DIFFERENT: u8 = 1;
/// Rows that are named of each table; JSON has up to a hundred.
const NAMED_MAX: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
    /// Seconds that changes may be under way: what differs no longer is no difference.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub wait: u64,
    /// Name rows by their keys' values too, not by hashes alone.
    #[arg(long)]
    pub keys: bool,
}

/// Ends with 1 where something differs.
pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let pipeline = config::load(&args.file)?;
    let wait = Duration::from_secs(args.wait);
    let verified = block_on(async { Ok(runtime::verify(&pipeline, None, wait).await?) })?;
    let tables: Vec<Value> = verified.tables.iter().map(|table| as_json(table, args.keys)).collect();
    let value = json!({ "pipeline": pipeline.name, "equal": verified.is_equal(), "tables": tables });
    output.value(&value, |_| text(&verified, args.keys))?;
    Ok(match verified.is_equal() {
        true => DONE,
        false => DIFFERENT,
    })
}

pub(super) fn text(verified: &Verified, keys: bool) -> String {
    let mut lines: Vec<String> = verified
        .tables
        .iter()
        .flat_map(|table| table_lines(table, keys))
        .collect();
    let compared = |table: &&VerifiedTable| matches!(table.outcome, Compared::Rows(_));
    lines.push(
        match (
            verified.is_equal(),
            verified.tables.iter().any(|table| compared(&table)),
        ) {
            (true, true) => "what was compared is equal".to_owned(),
            (true, false) => "nothing was compared".to_owned(),
            (false, _) => "source and target differ".to_owned(),
        },
    );
    lines.join("\n")
}

fn table_lines(table: &VerifiedTable, keys: bool) -> Vec<String> {
    let head = format!("{} at {}", escape(&table.table), table.sink);
    let rows = match &table.outcome {
        Compared::Nothing(why) => return vec![format!("{head}: not compared, {}", escape(why))],
        Compared::Rows(rows) => rows,
    };
    let mut line = match (rows.differs(), rows.source == rows.target) {
        (false, true) => format!("{head}: {} rows, equal", rows.source),
        (_, _) => format!("{head}: {} rows at the source, {} here", rows.source, rows.target),
    };
    if rows.moving > 0 {
        line.push_str(&format!(", {} of them changing all the while", rows.moving));
    }
    if !table.left_out.is_empty() {
        line.push_str(&format!("; without {}", escape(&table.left_out.join(", "))));
    }
    if let Some(condition) = &table.condition {
        line.push_str(&format!("; where {}", escape(condition)));
    }
    let mut lines = vec![line];
    if rows.unnamed {
        lines.push("  different; without a key no row can be named".to_owned());
    }
    for difference in rows.differences.iter().take(NAMED_MAX) {
        let mut line = format!("  {} row, key hash {}", difference.kind.name(), difference.key_hash);
        if keys {
            line.push_str(&format!(", key {}", escape(&difference.key)));
        }
        lines.push(line);
    }
    let unlisted = rows.differences.len().saturating_sub(NAMED_MAX);
    match (unlisted, rows.more) {
        (0, false) => {}
        (0, true) => lines.push("  and others".to_owned()),
        (unlisted, false) => lines.push(format!("  and {unlisted} others")),
        (unlisted, true) => lines.push(format!("  and {unlisted} others at least")),
    }
    lines
}

pub(super) fn as_json(table: &VerifiedTable, keys: bool) -> Value {
    let mut value = json!({
        "sink": table.sink,
        "table": table.table,
        "columns": table.columns,
        "left_out": table.left_out,
        "where": table.condition,
    });
    let outcome = match &table.outcome {
        Compared::Nothing(why) => json!({ "not_compared": why }),
        Compared::Rows(rows) => {
            let difference = |difference: &runtime::Difference| {
                json!({
                    "kind": difference.kind.name(),
                    "key_hash": difference.key_hash.to_string(),
                    "key": keys.then_some(&difference.key),
                })
            };
            json!({
                "rows_source": rows.source,
                "rows_target": rows.target,
                "equal": !rows.differs(),
                "moving": rows.moving,
                "differences": rows.differences.iter().map(difference).collect::<Vec<_>>(),
                "more": rows.more,
            })
        }
    };
    if let (Value::Object(value), Value::Object(outcome)) = (&mut value, outcome) {
        value.extend(outcome);
    }
    value
}
