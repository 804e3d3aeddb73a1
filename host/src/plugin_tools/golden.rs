//! What a plugin makes of samples, as lines to compare.

use super::cuts::{Cut, piece};
use super::{Subject, process, samples};
use crate::batch::{Batch, Row};
use crate::plugin::{Chain, PluginError, RowErrorKind};
use serde_json::json;

/// What came of the changes of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One list per change, in order: the lines of the rows that it became, or of its error.
    pub changes: Vec<Vec<String>>,
    /// Fuel of the calls with rows; 0 where the engine isn't a metered one.
    pub fuel: u64,
    pub memory_bytes: usize,
}

impl Outcome {
    /// As a file has it: the lines of all changes in order.
    pub fn text(&self) -> String {
        self.changes.iter().flatten().fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
    }
}

/// Runs all rows of `batch` through new instances, cut as `cut` says.
///
/// A change that the plugin rejects gives an `error` line at its place, and the others go on.
///
/// # Errors
///
/// A plugin that doesn't start, refuses a table, or breaks.
pub fn run(subject: &Subject, batch: &Batch, cut: Cut) -> Result<Outcome, PluginError> {
    let mut run = Run {
        chain: subject.start()?,
        outcome: Outcome::default(),
    };
    for relation in &batch.relations {
        run.chain.relation(relation)?;
    }
    let started_with = run.chain.fuel_used();
    for range in cut.pieces(batch.rows.len()) {
        let (cut, rows) = piece(batch, range);
        run.piece(&cut, &rows)?;
    }
    run.outcome.fuel = run.chain.fuel_used() - started_with;
    run.outcome.memory_bytes = run.outcome.memory_bytes.max(run.chain.memory_bytes());
    Ok(run.outcome)
}

struct Run {
    chain: Chain,
    outcome: Outcome,
}

impl Run {
    fn piece(&mut self, batch: &Batch, rows: &[Row]) -> Result<(), PluginError> {
        let (mut through, mut left) = (batch.clone(), rows.to_vec());
        match process(&mut self.chain, &mut through, &mut left) {
            Ok(()) => {
                for row in rows {
                    let of_change = left
                        .iter()
                        .filter(|made| (made.transaction, made.ordinal) == (row.transaction, row.ordinal));
                    let lines = of_change.map(|made| line(&through, made)).collect();
                    self.outcome.changes.push(lines);
                }
                Ok(())
            }
            Err(PluginError::Row(error)) if rows.len() == 1 => {
                self.outcome.changes.push(vec![rejected(&error.kind)]);
                Ok(())
            }
            // Whose error it is comes out where each goes alone.
            Err(PluginError::Row(_)) => rows
                .iter()
                .try_for_each(|row| self.piece(batch, std::slice::from_ref(row))),
            Err(error) => Err(error),
        }
    }
}

fn line(batch: &Batch, row: &Row) -> String {
    let mut line = samples::change(batch, row);
    line["table"] = batch.relation(row).full_name().into();
    line.to_string()
}

fn rejected(kind: &RowErrorKind) -> String {
    let error = match kind {
        RowErrorKind::Rejected { code, reason } => json!({ "code": code, "reason": reason }),
        RowErrorKind::Stop { reason } => json!({ "code": "stop", "reason": reason }),
        RowErrorKind::Unchanged { column } => json!({ "code": "unchanged", "column": column }),
        RowErrorKind::Value { column, reason } => json!({ "code": "value", "column": column, "reason": reason }),
        RowErrorKind::NoKey => json!({ "code": "no_key" }),
        RowErrorKind::TooLarge { .. } => json!({ "code": "too_large" }),
    };
    json!({ "error": error }).to_string()
}

/// The first lines in which two texts differ, as people read a diff: `-` expected, `+` found. Empty where they agree.
pub fn difference(expected: &str, found: &str) -> Vec<String> {
    const CONTEXT: usize = 2;
    const LINES_MAX: usize = 20;
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    if expected == found {
        return Vec::new();
    }
    let same = expected
        .iter()
        .zip(&found)
        .take_while(|(left, right)| left == right)
        .count();
    let shorter = expected.len().min(found.len());
    let behind = (0..shorter - same)
        .take_while(|at| expected[expected.len() - 1 - at] == found[found.len() - 1 - at])
        .count();
    let mut lines = vec![format!("line {}", same + 1)];
    lines.extend(
        expected[same.saturating_sub(CONTEXT)..same]
            .iter()
            .map(|line| format!("  {line}")),
    );
    let shown = |sign: char, all: &[&str]| -> Vec<String> {
        let mut lines: Vec<String> = all
            .iter()
            .take(LINES_MAX)
            .map(|line| format!("{sign} {line}"))
            .collect();
        if all.len() > LINES_MAX {
            lines.push(format!("{sign} and {} more", all.len() - LINES_MAX));
        }
        lines
    };
    lines.extend(shown('-', &expected[same..expected.len() - behind]));
    lines.extend(shown('+', &found[same..found.len() - behind]));
    let tail = &expected[expected.len() - behind..];
    lines.extend(tail.iter().take(CONTEXT).map(|line| format!("  {line}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_shows_what_changed_with_its_neighbours() {
        assert!(difference("a\nb\n", "a\nb\n").is_empty());
        assert_eq!(
            difference("a\nb\nc\n", "a\nx\nc\n"),
            ["line 2", "  a", "- b", "+ x", "  c"]
        );
        assert_eq!(difference("", "x\n"), ["line 1", "+ x"]);
        assert_eq!(difference("a\na\n", "a\n"), ["line 2", "  a", "- a"]);
    }
}
