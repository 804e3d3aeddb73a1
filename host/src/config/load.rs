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
    load_with(path, &|name| std::env::var(name).ok())
}

/// Reads one pipeline with variables from elsewhere than the environment.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, variables: Variables<'_>) -> Result<Pipeline, Vec<Problem>> {
    let text = read(path).map_err(|problem| vec![problem])?;
    load_text(path, &text, variables)
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
        _ => {
            report.push(root.span, no_block());
            None
        }
    };
    if let Some(item) = &item {
        refer::check(item, base, &mut report);
    }
    let pipeline = item.and_then(|item| resolve::pipeline(&item, path, base));
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

fn no_block() -> Finding {
    Finding {
        code: &codes::WRONG_TYPE,
        headline: "the file: expected a block of keys, found something else".to_owned(),
        label: "not a key".to_owned(),
        cause: None,
        help: "begin with the pipeline's name: `name: shop`".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = include_str!("../../../pipeline.yaml");

    fn variables(name: &str) -> Option<String> {
        (name != "NONE").then(|| format!("postgres://db/{name}"))
    }

    #[test]
    fn a_variable_needs_no_quotes_within_braces() {
        let text = "
name: shop
source: { postgres: { url: ${DATABASE_URL}, tables: [public.orders] } }
routes: [{ tables: [public.orders], sinks: [feed] }]
sinks: { feed: { file: { path: ${NONE:-out/rows.jsonl} } } }
";
        let pipeline = load_text(Path::new("p.yaml"), text, &variables).expect("nothing is wrong");
        assert_eq!(pipeline.source.url.reveal(), "postgres://db/DATABASE_URL");
        let crate::config::SinkKind::File(file) = &pipeline.sinks[0].kind else {
            panic!("no file")
        };
        assert_eq!(file.path, Path::new("./out/rows.jsonl"));
    }

    proptest! {
        /// A file that somebody is in the middle of editing.
        #[test]
        fn nothing_panics(cut in 0_usize..900, length in 0_usize..40, put in "[a-z{}\\[\\]:$&*#'\", \n\t-]{0,12}|\\PC{0,4}") {
            let chars: Vec<char> = EXAMPLE.chars().collect();
            let cut = cut.min(chars.len());
            let mut text: String = chars[..cut].iter().collect();
            text.push_str(&put);
            text.extend(chars.iter().skip(cut + length));
            if let Err(problems) = load_text(Path::new("p.yaml"), &text, &variables) {
                prop_assert!(!problems.is_empty());
                crate::problem::render_all(&problems, crate::problem::Style::PLAIN);
            }
        }
    }
}
