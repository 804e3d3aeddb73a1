//! Results for people or programs, on an output that may be closed at any time.

use crate::problem::{Exit, Problem};
use serde_json::Value;
use std::io::{self, Write};

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Why a verb didn't get to its end.
#[derive(Debug)]
pub enum Failure {
    /// What the user has to be told; the first decides the exit code.
    Problems(Vec<Problem>),
    /// Whoever read the output has gone: a quiet end.
    OutputClosed,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl From<Box<Problem>> for Failure {
    fn from(problem: Box<Problem>) -> Self {
        Self::Problems(vec![*problem])
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Problems(problems)
    }
}

/// Standard output, or a buffer in tests.
pub struct Output {
    format: Format,
    writer: Box<dyn Write + Send>,
}

impl Output {
    pub fn stdout(format: Format) -> Self {
        Self::new(format, Box::new(io::stdout()))
    }

    pub fn new(format: Format, writer: Box<dyn Write + Send>) -> Self {
        Self { format, writer }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints a text with a newline behind it, at once.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] where nobody reads any more.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let mut line = text.trim_end_matches('\n').to_owned();
        line.push('\n');
        self.writer
            .write_all(line.as_bytes())
            .and_then(|()| self.writer.flush())
            .map_err(closed)
    }

    /// Prints a value in the form that was asked for.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn value(&mut self, value: &Value, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Text => self.line(&text(value)),
            Format::Json => self.line(&value.to_string()),
        }
    }
}

fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::OutputClosed;
    }
    Problem::new(
        super::codes::NO_RUNTIME.code,
        Exit::Usage,
        "the output can't be written",
        "make room where it is written to: `df -h`",
    )
    .with_cause(error)
    .into()
}
