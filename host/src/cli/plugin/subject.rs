//! The module that a verb is about: a file, or the crate that it is built from.

use super::build;
use super::codes::{BAD_CONFIG, NO_SAMPLES};
use crate::plugin::reload::read_module;
use crate::plugin::{Engine, PluginError};
use crate::plugin_tools::samples::{SampleError, SampleFile};
use crate::plugin_tools::{DEFAULT_LIMITS, Subject, samples};
use crate::problem::{Exit, Problem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A module on disk, and where its samples lie unless it is said otherwise.
pub(crate) struct ModuleAt {
    pub path: PathBuf,
    pub name: String,
    pub bytes: Vec<u8>,
    pub samples: PathBuf,
}

/// Reads the module at `path`; builds it first where that is a crate's folder.
pub(crate) fn module_at(path: &Path) -> anyhow::Result<ModuleAt> {
    let (module, beside) = match path.is_dir() {
        true => (build::build(path, None)?.path, path.to_owned()),
        false => (path.to_owned(), path.parent().map_or_else(PathBuf::new, Path::to_owned)),
    };
    let name = module.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let read = read_module(&module, None, DEFAULT_LIMITS.module.0);
    let (bytes, _) = read.map_err(|refusal| refusal.into_problem(&name, &module))?;
    let samples = beside.join(format!("{name}.samples"));
    Ok(ModuleAt {
        path: module,
        name,
        bytes,
        samples,
    })
}

impl ModuleAt {
    /// The plugin with the configuration of a JSON file; nil without one.
    pub fn subject(&self, engine: &Arc<Engine>, config: Option<&Path>) -> Result<Subject, Box<Problem>> {
        let config = config.map_or(Ok(serde_json::Value::Null), read_config)?;
        self.subject_with(engine, config)
    }

    pub fn subject_with(&self, engine: &Arc<Engine>, config: serde_json::Value) -> Result<Subject, Box<Problem>> {
        Subject::new(engine, &self.name, &self.bytes, config, DEFAULT_LIMITS).map_err(problem)
    }
}

pub(crate) fn problem(error: PluginError) -> Box<Problem> {
    Box::new(error.problem())
}

fn read_config(path: &Path) -> Result<serde_json::Value, Box<Problem>> {
    let refused = |cause: String| {
        let headline = format!("the configuration {} can't be read", path.display());
        let help = "write as JSON what stands under `config:` in pipeline.yaml";
        Box::new(Problem::new(BAD_CONFIG.code, Exit::Usage, headline, help).with_cause(cause))
    };
    let text = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    // The parser's own words may quote a secret.
    serde_json::from_slice(&text).map_err(|error| refused(format!("line {}, column {}", error.line(), error.column())))
}

/// The samples of a folder; at least one.
pub(crate) fn load_samples(folder: &Path) -> Result<Vec<SampleFile>, Box<Problem>> {
    let refused = |cause: String| {
        let headline = format!("there are no samples in {} to work with", folder.display());
        let help = "write NAME.samples/FIRST.jsonl as docs/how-to/test-a-plugin.md shows";
        Box::new(Problem::new(NO_SAMPLES.code, Exit::Usage, headline, help).with_cause(cause))
    };
    match samples::load(folder) {
        Ok(files) if files.is_empty() => Err(refused("no file there ends with .jsonl".to_owned())),
        Ok(files) => Ok(files),
        Err(error @ (SampleError::File { .. } | SampleError::Line { .. })) => Err(refused(error.to_string())),
    }
}
