//! Gathers what is wrong with a file, each problem with its line.

use super::mask::mask_line;
use super::node::Span;
use crate::problem::{Code, Exit, Place, Problem};
use std::path::Path;

/// A file with more mistakes than this is another kind of file.
const MAX_PROBLEMS: usize = 50;
/// Headlines fit a terminal.
const HEADLINE_CHARS: usize = 80;
/// Texts of the file that are quoted in a message.
const QUOTE_CHARS: usize = 32;

pub(super) struct Report<'a> {
    file: String,
    lines: Vec<&'a str>,
    problems: Vec<(Span, Problem)>,
}

/// A problem with a line, before it has one.
pub(super) struct Finding {
    pub code: &'static Code,
    pub headline: String,
    /// What stands behind the carets.
    pub label: String,
    pub cause: Option<String>,
    pub help: String,
}

impl<'a> Report<'a> {
    pub fn new(path: &Path, text: &'a str) -> Self {
        Self {
            file: path.display().to_string(),
            lines: text.lines().collect(),
            problems: Vec::new(),
        }
    }

    pub fn push(&mut self, span: Span, finding: Finding) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let headline = cut(&finding.headline, HEADLINE_CHARS);
        let mut problem = Problem::new(finding.code.code, Exit::Usage, headline, finding.help)
            .with_place(self.place(span, finding.label));
        problem.cause = finding.cause;
        self.problems.push((span, problem));
    }

    /// `file:line:column`, for a message about two places.
    pub fn location(&self, span: Span) -> String {
        format!("{}:{}:{}", self.file, span.line, span.column)
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All of them in the order of the file.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(span, _)| (span.line, span.column));
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }

    fn place(&self, span: Span, label: String) -> Place {
        let line = self.lines.get(span.line.saturating_sub(1)).copied().unwrap_or_default();
        Place {
            file: self.file.clone(),
            line: span.line,
            column: span.column,
            excerpt: mask_line(line, span.column),
            width: span.width,
            label,
        }
    }
}

/// A text of the file in backticks, shortened.
pub(super) fn quote(text: &str) -> String {
    format!("`{}`", cut(text, QUOTE_CHARS))
}

/// Several of them: `a`, `b`.
pub(super) fn quote_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(quote).collect();
    quoted.join(", ")
}

fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(chars - 1).collect();
    cut.push('…');
    cut
}

/// The candidate that was probably meant, where one is near enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(&cut(word, QUOTE_CHARS));
    let limit = (word.chars().count() / 3).max(1);
    let distances = candidates
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate));
    distances
        .filter(|(distance, candidate)| *distance <= limit || is_start(&word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `conn` for `connections`, `tables_list` for `tables`.
fn is_start(word: &str, candidate: &str) -> bool {
    const ENOUGH: usize = 3;
    let common = word.chars().zip(candidate.chars()).take_while(|(a, b)| a == b).count();
    common >= ENOUGH && (common == word.chars().count() || common == candidate.chars().count())
}

/// How many characters have to be added, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_near() {
        let keys = ["url", "tables", "publication", "slot", "snapshot"];
        assert_eq!(nearest("tabels", keys), Some("tables"));
        assert_eq!(nearest("Snap-Shot", keys), Some("snapshot"));
        assert_eq!(nearest("urll", keys), Some("url"));
        assert_eq!(nearest("pub", keys), Some("publication"));
        assert_eq!(nearest("password", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
