//! What people do at a shop's host: verbs, and files that are put in place.

use crate::{Host, Shop};
use anyhow::{Context, Result};

impl Shop {
    /// `run --once`, which ends with this code; what it says.
    pub fn once(&self, pipeline: &str, code: i32) -> Result<String> {
        Ok(Host::verb(self.folder(), pipeline, &["run", "--once"], code)?.1)
    }

    /// Puts this into pipeline.yaml, and has the host take it up; what that says.
    pub fn reload(&self, pipeline: &str) -> Result<String> {
        self.write(pipeline)?;
        Ok(Host::verb_of(self.folder(), &["reload"], 0)?.0)
    }

    /// Puts this into pipeline.yaml, and doesn't say so.
    pub fn write(&self, pipeline: &str) -> Result<()> {
        Ok(std::fs::write(self.folder().join("pipeline.yaml"), pipeline)?)
    }

    /// Puts a module in place as `NAME.wasm`, as careful tools do: whole, by a rename.
    pub fn install(&self, name: &str, module: &[u8]) -> Result<()> {
        let new = self.folder().join(format!("{name}.wasm.new"));
        std::fs::write(&new, module)?;
        Ok(std::fs::rename(&new, self.folder().join(format!("{name}.wasm")))?)
    }

    /// The dead letters that are there.
    pub fn letters(&self) -> Result<Vec<serde_json::Value>> {
        let (listed, _) = Host::verb_of(self.folder(), &["--output", "json", "dead-letter", "list"], 0)?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        Ok(listed["letters"].as_array().context("letters")?.clone())
    }

    /// Has all dead letters sent again.
    pub fn replay_all(&self) -> Result<()> {
        Host::verb_of(self.folder(), &["dead-letter", "replay", "--all"], 0)?;
        Ok(())
    }

    /// Waits until each letter that was sent again has arrived.
    pub fn wait_no_letters(&self, host: &mut Host) -> Result<()> {
        self.wait_for(host, "no letter is left", || Ok(self.letters()?.is_empty()))
    }
}
