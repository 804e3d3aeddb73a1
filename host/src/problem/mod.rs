//! What went wrong, as the user meets it: a stable code, the object, the cause, one fix.

mod code;
mod render;

pub use code::{Code, codes, reference};
pub use render::{Style, escape, render, render_all};

use std::fmt;

/// The class that decides how the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Usage or config.
    Usage = 2,
    /// Refused by preflight.
    Preflight = 3,
    /// A gap in the stream, or a lost slot.
    Gap = 4,
    /// A plugin was refused.
    Plugin = 5,
    /// A sink stopped for good.
    Sink = 6,
    /// A bug.
    Bug = 70,
}

/// The fix where changes are missing for good. What was deleted in between would stay at the targets, so they are emptied.
pub const COPY_ANEW: &str =
    "`rowmill remove`, empty the tables at the targets, then `rowmill run`: they are copied anew";

/// A line of a file that is the cause, with what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// Counted from 1, in characters.
    pub line: usize,
    pub column: usize,
    /// The line as it stands in the file, secrets masked, its columns kept.
    pub excerpt: String,
    /// How many characters the caret underlines; at least 1.
    pub width: usize,
    /// What stands behind the carets.
    pub label: String,
}

/// A problem that a person has to solve. Never holds a secret or a row's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `E` and four digits, stable for ever, with an anchor in docs/reference/errors.md.
    pub code: &'static str,
    pub exit: Exit,
    /// At most 80 columns, lowercase start, no full stop; names the object, what was expected and what was found.
    pub headline: String,
    /// Boxed, since most problems have none and results carry them about.
    pub place: Option<Box<Place>>,
    /// The chain of causes, outermost first; a server's own text with its SQLSTATE.
    pub cause: Option<String>,
    /// Exactly one fix: a command or a line to type.
    pub help: String,
}

impl Problem {
    pub fn new(code: &'static str, exit: Exit, headline: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            headline: headline.into(),
            place: None,
            cause: None,
            help: help.into(),
        }
    }

    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Another Rowmill's problem, as [`Self::to_json`] writes it; `None` where it has no code of ours.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let code = text("code")?;
        let code = codes().into_iter().find(|known| known.code == code)?.code;
        let mut problem = Self::new(code, Exit::Usage, text("headline")?, text("help")?);
        problem.cause = text("cause");
        Some(problem)
    }

    pub fn with_place(mut self, place: Place) -> Self {
        self.place = Some(Box::new(place));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.headline)
    }
}

impl std::error::Error for Problem {}
