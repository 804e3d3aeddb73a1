//! What the process says: no error and no warning but those that faults bring, and nowhere a secret or a row's value.

use anyhow::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Begins every value that a plugin has to mask.
pub const CANARY: &str = "canary";
/// The password in every connection string of the pipeline.
pub const SECRET: &str = "hunter2-of-the-oracle";

/// Warnings and errors that faults bring, by a part of their text, and why each is in order.
pub const ALLOWED: &[(&str, &str)] = &[
    (
        "the session ended and is begun again",
        "source or its network went away",
    ),
    (
        "the sink failed and is opened again",
        "the target or its network went away",
    ),
    (
        "the changed plugin is refused",
        "garbage or a version that breaks was installed",
    ),
    (
        "the new version broke on its probation",
        "a version that breaks was installed",
    ),
    (
        "a plugin of the route broke in another route",
        "a version that breaks was installed",
    ),
    ("the plugin trapped on a change", "a version that breaks was installed"),
    (
        "the plugin's file still holds the version that was set aside",
        "started again with it",
    ),
    ("no room to store the position", "the state's disk was filled"),
    ("the copy can't begin yet", "the source was away at the start"),
    ("a unit is read again", "the source went away during the copy"),
    ("keys are read again", "the source went away during the copy"),
    (
        "the table has other columns",
        "columns were added, dropped or renamed at the source",
    ),
    (
        "was altered while it was copied",
        "columns were added, dropped or renamed in the midst of a copy",
    ),
    ("the copy starts over", "a table was altered or emptied in its copy"),
    (
        "the plugin's file is gone; the version that runs goes on",
        "it was deleted",
    ),
    (
        "whether the server's history is ours can't be told",
        "the source went away while it was asked",
    ),
    ("isn't taken up", "a pipeline.yaml that no host takes was written"),
    (
        "has changed in more than config and limits of plugins",
        "pipeline.yaml was written, before the signal",
    ),
    (
        "compiled code of a plugin could not be kept",
        "the state's disk was filled",
    ),
];

/// Reads on in the outputs of a pipeline's folder.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    /// Where the log was read to.
    log: usize,
}

impl Outputs {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            log: 0,
        }
    }

    /// What has been said since that isn't in order.
    pub fn unexpected(&mut self) -> Result<Vec<String>> {
        let log = std::fs::read(self.folder.join("log"))?;
        let fresh = log.get(self.log..).unwrap_or_default();
        // The last line may still be under way.
        let end = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.log += end;
        let text = String::from_utf8_lossy(&fresh[..end]).into_owned();
        Ok(text
            .lines()
            .filter(|line| is_unexpected(line))
            .map(str::to_owned)
            .collect())
    }

    /// The files under the folder that hold a secret or a value that was to be masked. What the sinks write is among
    /// them, and `pages` are further texts with their names.
    pub fn leaks(&self, pages: &[(&str, String)]) -> Result<Vec<String>> {
        let mut leaks = Vec::new();
        let mut look = |name: &str, bytes: &[u8]| {
            for (what, word) in [("a secret", SECRET), ("a value", CANARY)] {
                if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                    leaks.push(format!("{name} has {what}"));
                }
            }
        };
        for (name, text) in pages {
            look(name, text.as_bytes());
        }
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    look(&path.display().to_string(), &bytes);
                }
            }
        }
        Ok(leaks)
    }
}

/// Lines of the log are JSON; whatever else is there comes from a panic or an end.
fn is_unexpected(line: &str) -> bool {
    if line.trim().is_empty() {
        return false;
    }
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        return true;
    };
    let is_quiet = !matches!(line["level"].as_str(), Some("WARN" | "ERROR"));
    let text = line["message"].as_str().unwrap_or_default();
    !is_quiet && !ALLOWED.iter().any(|(allowed, _)| text.contains(allowed))
}
