//! What the nights have come to on this machine, without a violation: each run goes on where the last one stopped.

use crate::run::root;
use anyhow::{Context, Result};
use serde_json::{Map, Value};

const FILE: &str = "target/nightly.json";

/// How often so far.
pub fn of(name: &str) -> Result<u64> {
    Ok(all()?.get(name).and_then(Value::as_u64).unwrap_or(0))
}

/// Adds to it.
pub fn add(name: &str, times: u64) -> Result<()> {
    let mut counters = all()?;
    let sum = counters.get(name).and_then(Value::as_u64).unwrap_or(0) + times;
    counters.insert(name.to_owned(), sum.into());
    let text = serde_json::to_string_pretty(&counters)? + "\n";
    std::fs::write(root().join(FILE), text).context(FILE)
}

/// A line each.
pub fn report() -> Result<String> {
    let line = |(name, sum): (&String, &Value)| format!("{name:<16} {sum:>8} so far\n");
    Ok(all()?.iter().map(line).collect())
}

fn all() -> Result<Map<String, Value>> {
    match std::fs::read(root().join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).context(FILE),
        Err(_) => Ok(Map::new()),
    }
}
