//! Whether the process may have as many files open as its pipelines need: too few of them fail anywhere, at any time, and
//! in words that name whatever was opened last.

use super::codes;
use crate::config::{Pipeline, SinkKind};
use crate::problem::{Exit, Problem};

/// Runtimes, signals, the console with some requests, what is opened for a moment.
const OF_PROCESS: usize = 40;
/// State, letters, watched folders, the stream, the connection beside it, those of checks.
const OF_PIPELINE: usize = 16;
/// Its file or connection, and what is opened beside it.
const OF_SINK: usize = 3;

/// Files, connections among them.
fn needed(pipelines: &[Pipeline]) -> usize {
    let of = |pipeline: &Pipeline| {
        let more = pipeline.sinks.iter().map(|sink| match &sink.kind {
            SinkKind::Postgres(postgres) => OF_SINK + postgres.relaxed.unwrap_or(2),
            _ => OF_SINK,
        });
        OF_PIPELINE + pipeline.source.snapshot.connections + more.sum::<usize>()
    };
    OF_PROCESS + pipelines.iter().map(of).sum::<usize>()
}

/// The limit as the system has it; `None` where there is none, or it doesn't say.
fn limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Refuses a start that would run out of them.
pub(super) fn enough(pipelines: &[Pipeline]) -> Result<(), Problem> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let needed = needed(pipelines);
    match limit(&limits) {
        Some(limit) if limit < needed => {
            let headline = format!("{limit} open files are allowed, at least {needed} are needed");
            let help = "`ulimit -n 1024` before the start, or `LimitNOFILE=1024` in the service's file";
            Err(Problem::new(codes::NO_RUNTIME.code, Exit::Usage, headline, help))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_counts() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             127235               127235               processes \n\
                      Max open files            1024                 1048576              files     \n";
        assert_eq!(limit(limits), Some(1024));
        assert_eq!(
            limit("Max open files            unlimited            unlimited            files"),
            None
        );
        assert_eq!(limit(""), None);
    }
}
