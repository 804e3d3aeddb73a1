//! Reads a file and makes a pipeline of it, or says everything that is wrong with it.

use super::codes;
use super::expand::Variables;
use super::keys::PIPELINE;
use super::model::Pipeline;
use super::node::{self, Kind, Span, SyntaxError};
use super::report::{Finding, Report};
use super::walk::Walker;
use super::{refer, resolve};
use crate::problem::{Exit, Problem};
use std::path::Path;

/// A pipeline is a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is taken where no file is named.
pub const DEFAULT_FILE: &str = "pipeline.yaml";

/// Reads one pipeline. Needs no network and changes nothing.
///
/// # Errors
/// Everything that is wrong with the file, in its order; all of them with exit code 2.
pub fn load(path: &Path) -> Result<Pipeline, Vec<Problem>> {
    let text = read(path).map_err(|problem| vec![problem])?;
    load_text(path, &text, &|name| std::env::var(name).ok())
}

/// Reads several, which may not share a name or a slot.
///
/// # Errors
/// As [`load`], for all files together.
pub fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Pipeline>, Vec<Problem>> {
    let mut pipelines: Vec<(&Path, Pipeline)> = Vec::new();
    let mut problems = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        match load(path) {
            Ok(pipeline) => {
                let rival = pipelines.iter().find(|(_, other)| share(other, &pipeline));
                problems.extend(rival.map(|(other, _)| shared(other, path, &pipeline)));
                pipelines.push((path, pipeline));
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() {
        Ok(pipelines.into_iter().map(|(_, pipeline)| pipeline).collect())
    } else {
        Err(problems)
    }
}

/// The same from a text: `path` is its name in messages and gives the folder where relative paths start.
///
/// # Errors
/// As [`load`].
pub fn load_text(path: &Path, text: &str, variables: Variables<'_>) -> Result<Pipeline, Vec<Problem>> {
    let base = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut report = Report::new(path, text);
    let root = match node::parse(text) {
        Ok(root) => root,
        Err(error) => {
            report.push(error.span, syntax(error));
            return Err(report.into_problems());
        }
    };
    let mut walker = Walker {
        report: &mut report,
        variables,
        base,
    };
    let item = match &root.kind {
        Kind::Map(entries) => Some(walker.block(&PIPELINE, entries, START, "")),
        _ => walker.wrong_type(&PIPELINE_SHAPE, &root, "the file"),
    };
    if let Some(item) = &item {
        refer::check(item, base, &mut report);
    }
    let pipeline = item.and_then(|item| resolve::pipeline(&item, base));
    match pipeline {
        Some(pipeline) if report.is_empty() => Ok(pipeline),
        _ => Err(report.into_problems()),
    }
}

const START: Span = Span {
    line: 1,
    column: 1,
    width: 1,
};
const PIPELINE_SHAPE: super::shape::Shape = super::shape::Shape::Block(&PIPELINE, super::shape::Short::No);

fn read(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let missing = |cause: String| {
        Problem::new(
            codes::FILE.code,
            Exit::Usage,
            format!("pipeline file `{shown}` can't be read"),
            "name the file: `rowmill run path/to/pipeline.yaml`",
        )
        .with_cause(cause)
    };
    let tried = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let failed = |error: std::io::Error| missing(format!("{}: {error}", tried.display()));
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(missing(format!(
            "it has {length} bytes, at most {MAX_FILE_BYTES} are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| missing(format!("{}: {}", tried.display(), error.utf8_error())))
}

fn syntax(error: SyntaxError) -> Finding {
    Finding {
        code: &codes::SYNTAX,
        headline: "the file isn't valid YAML".to_owned(),
        label: "here".to_owned(),
        cause: Some(error.message),
        help: "correct this line or the one above it: indent, quotes, brackets".to_owned(),
    }
}

fn share(a: &Pipeline, b: &Pipeline) -> bool {
    a.name == b.name || (a.slot_name() == b.slot_name() && a.source.url == b.source.url) || a.state_dir == b.state_dir
}

fn shared(first: &Path, second: &Path, pipeline: &Pipeline) -> Problem {
    let name = &pipeline.name;
    Problem::new(
        codes::CONTRADICTION.code,
        Exit::Usage,
        format!("pipeline `{name}` shares its name, slot or state with another"),
        format!("give it a name of its own in {}", second.display()),
    )
    .with_cause(format!("{} and {}", first.display(), second.display()))
}
