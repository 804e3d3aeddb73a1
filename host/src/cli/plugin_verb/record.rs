//! Result of `rowmill plugin record`, for people and for programs.

use super::super::plugin::database::Database;
use super::super::{DONE, Outcome, Output, block_on};
use super::Record;
use crate::config::DEFAULT_FILE;
use crate::plugin_tools::record::{self, Recorded, Wish};
use crate::problem::escape;
use serde_json::json;
use std::path::Path;

pub(super) fn record(args: &Record, mut output: Output) -> Outcome {
    let database = Database::of(&args.database).unwrap_or_else(|| Database::Pipeline(DEFAULT_FILE.into()));
    let database = database.open()?;
    let wish = Wish {
        table: &args.table,
        rows: args.rows,
        keep: &args.keep,
        only: args.r#where.as_deref(),
        publication: database.publication(),
    };
    let recorded = block_on(async {
        let live = database.connect().await?;
        Ok(record::record(&live, &wish).await?)
    })?;
    let Some(path) = &args.out else {
        output.line(&recorded.text)?;
        return Ok(DONE);
    };
    record::write(path, &recorded)?;
    let value = json!({
        "file": path.display().to_string(),
        "table": recorded.table,
        "rows": recorded.rows,
        "kept": recorded.kept,
        "redacted": recorded.redacted,
    });
    output.value(&value, |_| told(path, &recorded))?;
    Ok(DONE)
}

fn told(path: &Path, recorded: &Recorded) -> String {
    let list = |names: &[String]| match names.is_empty() {
        true => "nothing".to_owned(),
        false => escape(&names.join(", ")),
    };
    format!(
        "{}: {} rows of {}; kept {}, redacted {}",
        path.display(),
        recorded.rows,
        escape(&recorded.table),
        list(&recorded.kept),
        list(&recorded.redacted)
    )
}
