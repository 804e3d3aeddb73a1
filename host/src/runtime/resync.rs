//! A table is copied once more, beside the running stream.

use super::process::Process;
use crate::problem::{Exit, Problem, escape};
use serde_json::{Value, json};
use std::sync::PoisonError;

/// Has `table` (`schema.table`) copied again, and says which it is. The ledger has it before this returns: whatever
/// happens, the running session does it, or the next.
pub(super) fn resync(process: &Process, table: &str) -> Result<Value, Box<Problem>> {
    let streamed = process.streamed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((oid, name)) = streamed.into_iter().find(|(_, name)| name == table) else {
        return Err(Box::new(not_streamed(table)));
    };
    process.store.copy_again(oid, &name)?;
    tracing::info!(table = name, "the table is copied again");
    process.asked_for_copies.notify_one();
    Ok(json!({ "pipeline": process.name, "table": name }))
}

fn not_streamed(table: &str) -> Problem {
    let headline = format!("table {} isn't streamed", escape(table));
    let help = "name one as `schema.table`; `rowmill check` lists those of the pipeline";
    Problem::new("E0611", Exit::Usage, headline, help)
}
