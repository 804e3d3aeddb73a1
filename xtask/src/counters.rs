//! What the nights have come to on this machine, without a violation: each run goes on where the last one stopped.

use crate::run::root;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const FILE: &str = "target/nightly.json";

/// The counters of this checkout.
pub fn here() -> Counters {
    Counters(root().join(FILE))
}

/// A file of numbers by name.
pub struct Counters(PathBuf);

impl Counters {
    /// How often so far.
    pub fn of(&self, name: &str) -> Result<u64> {
        Ok(self.all()?.get(name).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Adds to it. Whoever is stopped meanwhile leaves the file as it was.
    pub fn add(&self, name: &str, times: u64) -> Result<()> {
        let mut counters = self.all()?;
        let sum = counters.get(name).and_then(Value::as_u64).unwrap_or(0) + times;
        counters.insert(name.to_owned(), sum.into());
        let text = serde_json::to_string_pretty(&counters)? + "\n";
        let fresh = self.0.with_extension("json.new");
        let told = || self.0.display().to_string();
        std::fs::write(&fresh, text).with_context(told)?;
        std::fs::rename(&fresh, &self.0).with_context(told)
    }

    /// A line each.
    pub fn report(&self) -> Result<String> {
        let line = |(name, sum): (&String, &Value)| format!("{name:<16} {sum:>8} so far\n");
        Ok(self.all()?.iter().map(line).collect())
    }

    /// A file that can't be read is never taken for an empty one: the counts would be lost with the next night.
    fn all(&self) -> Result<Map<String, Value>> {
        let path: &Path = &self.0;
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_night_goes_on_where_the_last_one_stopped() {
        let path = std::env::temp_dir().join(format!("rowmill-nightly-{}.json", std::process::id()));
        let night = || Counters(path.clone());
        assert_eq!(night().of("seeds").unwrap(), 0);
        night().add("seeds", 1).unwrap();
        night().add("kills", 50).unwrap();
        night().add("seeds", 1).unwrap();
        assert_eq!((night().of("seeds").unwrap(), night().of("kills").unwrap()), (2, 50));
        assert_eq!(night().report().unwrap().lines().count(), 2);
        std::fs::write(&path, "{").unwrap();
        assert!(night().add("seeds", 1).is_err(), "what can't be read isn't begun anew");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
        std::fs::remove_file(&path).unwrap();
    }
}
