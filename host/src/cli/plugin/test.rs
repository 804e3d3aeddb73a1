//! `rowmill plugin test`: golden samples through the real module in the real host.

use super::subject::{load_samples, module_at, problem};
use crate::plugin::Engine;
use crate::plugin_tools::Subject;
use crate::plugin_tools::cuts::Cut;
use crate::plugin_tools::golden::{self, Outcome, difference};
use crate::plugin_tools::samples::{SampleFile, expected_path};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What came of one file of samples.
#[derive(Debug)]
pub struct Tested {
    pub file: PathBuf,
    pub changes: usize,
    pub fuel: u64,
    pub verdict: Verdict,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The expected output was written.
    Blessed,
    /// Nothing says what is expected.
    NothingExpected,
    /// `-` expected, `+` found.
    Differs(Vec<String>),
    /// It comes out otherwise where batches are cut so.
    DependsOnCuts(String, Vec<String>),
    /// The plugin broke, or refused a table.
    Broke(String),
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::Blessed)
    }
}

/// Tests the module or crate at `path` with the samples of `folder`, `NAME.samples` beside it otherwise.
pub fn test(path: &Path, folder: Option<&Path>, config: Option<&Path>, bless: bool) -> anyhow::Result<Vec<Tested>> {
    let module = module_at(path)?;
    let files = load_samples(folder.unwrap_or(&module.samples))?;
    let engine = Engine::metered().map_err(problem)?;
    let subject = module.subject(&engine, config)?;
    files.iter().map(|file| of_file(&subject, file, bless)).collect()
}

fn of_file(subject: &Subject, file: &SampleFile, bless: bool) -> anyhow::Result<Tested> {
    let (verdict, fuel) = match golden::run(subject, &file.batch, Cut::Whole) {
        Ok(whole) => (judge(subject, file, &whole, bless)?, whole.fuel),
        Err(error) => (Verdict::Broke(in_words(&error)), 0),
    };
    Ok(Tested {
        file: file.path.clone(),
        changes: file.batch.rows.len(),
        fuel,
        verdict,
    })
}

fn judge(subject: &Subject, file: &SampleFile, whole: &Outcome, bless: bool) -> anyhow::Result<Verdict> {
    let found = whole.text();
    for cut in Cut::ALL {
        match golden::run(subject, &file.batch, cut) {
            Err(error) => return Ok(Verdict::Broke(format!("with batches cut {cut}: {}", in_words(&error)))),
            Ok(other) if other.changes != whole.changes => {
                return Ok(Verdict::DependsOnCuts(
                    cut.to_string(),
                    difference(&found, &other.text()),
                ));
            }
            Ok(_) => {}
        }
    }
    let path = expected_path(&file.path);
    let expected = match std::fs::read_to_string(&path) {
        Ok(expected) => Some(expected),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    Ok(match expected {
        Some(expected) if expected == found => Verdict::Passed,
        _ if bless => {
            std::fs::write(&path, &found).with_context(|| path.display().to_string())?;
            Verdict::Blessed
        }
        None => Verdict::NothingExpected,
        Some(expected) => Verdict::Differs(difference(&expected, &found)),
    })
}

fn in_words(error: &crate::plugin::PluginError) -> String {
    let problem = error.problem();
    format!("{}: {}", problem.headline, problem.cause.unwrap_or_default())
}
