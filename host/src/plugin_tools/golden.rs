//! What a plugin makes of samples, as lines to compare.

use super::cuts::{Cut, piece};
use super::{Subject, process, samples};
use crate::batch::{Batch, Op, Row};
use crate::plugin::{AsideCause, Chain, PluginError, RowErrorKind};
use serde_json::json;
use std::collections::HashMap;
use std::ops::Range;

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
    let mut run = Run::new(subject.start()?, batch)?;
    for range in cut.pieces(batch.rows.len()) {
        run.piece(batch, range)?;
    }
    Ok(run.end().1)
}

/// A chain on its way through a batch.
pub(super) struct Run {
    chain: Chain,
    started_with: u64,
    outcome: Outcome,
}

impl Run {
    /// Tells the chain of the batch's relations.
    pub fn new(mut chain: Chain, batch: &Batch) -> Result<Self, PluginError> {
        for relation in &batch.relations {
            chain.relation(relation)?;
        }
        Ok(Self {
            started_with: chain.fuel_used(),
            chain,
            outcome: Outcome::default(),
        })
    }

    /// Takes some of the batch's rows through, as a batch of their own.
    pub fn piece(&mut self, batch: &Batch, range: Range<usize>) -> Result<(), PluginError> {
        let (cut, rows) = piece(batch, range);
        self.rows(&cut, &rows)
    }

    pub fn end(mut self) -> (Chain, Outcome) {
        self.outcome.fuel = self.chain.fuel_used() - self.started_with;
        self.outcome.memory_bytes = self.chain.memory_bytes();
        (self.chain, self.outcome)
    }

    fn rows(&mut self, batch: &Batch, rows: &[Row]) -> Result<(), PluginError> {
        let (mut through, mut left) = (batch.clone(), rows.to_vec());
        let aside = match process(&mut self.chain, &mut through, &mut left) {
            Ok(aside) => aside,
            Err(PluginError::Row(error)) if rows.len() == 1 => {
                self.outcome.changes.push(vec![rejected(&error.kind)]);
                return Ok(());
            }
            // Which of them asks for the stop comes out where each goes alone.
            Err(PluginError::Row(_)) => {
                return rows
                    .iter()
                    .try_for_each(|row| self.rows(batch, std::slice::from_ref(row)));
            }
            Err(error) => return Err(error),
        };
        let mut lines: HashMap<(u32, u64), Vec<String>> = HashMap::new();
        for made in &left {
            lines.entry(change(made)).or_default().push(line(&through, made));
        }
        for aside in &aside {
            if let AsideCause::Row(kind) = &aside.cause {
                lines.insert(change(&aside.row), vec![rejected(kind)]);
            }
        }
        let of_change = |row| lines.remove(&change(row)).unwrap_or_default();
        self.outcome.changes.extend(rows.iter().map(of_change));
        Ok(())
    }
}

fn change(row: &Row) -> (u32, u64) {
    (row.transaction, row.ordinal)
}

fn line(batch: &Batch, row: &Row) -> String {
    let mut line = samples::change(batch, row);
    if row.op != Op::Truncate {
        line["table"] = batch.relation(row).full_name().into();
    }
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
