//! Logs go to standard error: for people on a terminal, as JSON lines otherwise.

use crate::problem::{Exit, Problem, Style};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

impl LogFormat {
    /// Human on a terminal, JSON otherwise.
    pub fn detect() -> Self {
        if stderr().is_terminal() {
            Self::Human
        } else {
            Self::Json
        }
    }
}

/// Starts logging, once per process. `filter` is that of `--log`; `RUST_LOG` comes second, `info` last.
///
/// # Errors
/// A filter that can't be read, E0902.
pub fn init(filter: Option<&str>, format: LogFormat) -> Result<(), Problem> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = filter.map(str::to_owned).or(from_environment);
    let filter = filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(filter).map_err(|error| {
        Problem::new(
            "E0902",
            Exit::Usage,
            "the log filter can't be read",
            "write it like `--log info` or `--log rowmill=debug,info`",
        )
        .with_cause(error)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(stderr);
    // A second start, as tests make it, leaves the first one in force.
    let _ = match format {
        LogFormat::Human => builder
            .with_ansi(Style::of(&stderr()).colour)
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

/// Logs a problem where it is handled: ERROR, since a person must look.
pub fn log_problem(problem: &Problem) {
    tracing::error!(
        code = problem.code,
        cause = problem.cause.as_deref(),
        help = problem.help,
        "{}",
        problem.headline
    );
}
