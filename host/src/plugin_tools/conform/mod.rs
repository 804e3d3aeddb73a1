//! The ABI's own suite of tests, for a module in any language.
//!
//! A plugin may refuse tables and reject rows: that is its right. What it must not do is break, answer what can't be
//! read, or answer otherwise for the same rows.

mod kept;
mod rowless;
mod rows;
mod tables;

use super::cuts::Cut;
use super::golden::{self, Outcome};
use super::{Subject, process};
use crate::batch::{Batch, Relation};
use crate::plugin::error::TOO_MANY_ROWS;
use crate::plugin::{ChainOutcome, PluginError};
use serde_json::json;
use std::sync::Arc;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// What the plugin did, and what the ABI says.
    Fail(String),
    NotApplicable(String),
}

/// A case of the suite.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub verdict: Verdict,
}

/// Calls after which memory must not grow any more.
const CALLS_WARM: usize = 100;
const CALLS: usize = 10_000;

/// Runs the suite. `given` are samples of tables that the plugin is made for, where there are any; `previous` is the
/// version before, from which it is to take up state.
pub fn run(subject: &Subject, given: &[Batch], previous: Option<&Subject>) -> Vec<Case> {
    let mut cases = vec![case("starts with its configuration", start(subject))];
    if cases[0].verdict != Verdict::Pass {
        return cases;
    }
    cases.push(case("a bad configuration doesn't break it", bad_config(subject)));
    let mut usable = Vec::new();
    for (name, relation) in tables::all() {
        let verdict = match table(subject, &relation) {
            Ok(verdict) => {
                usable.extend((verdict == Verdict::Pass).then(|| (name.clone(), rows::of(&relation))));
                verdict
            }
            Err(error) => failed(&error),
        };
        cases.push(case(&format!("table: {name}"), verdict));
    }
    let given = given
        .iter()
        .enumerate()
        .map(|(at, batch)| (format!("sample {}", at + 1), batch.clone()));
    usable.extend(given);
    if usable.is_empty() {
        let why = "it takes no table of the suite: give it samples of its own with --samples".to_owned();
        cases.push(case("rows", Verdict::NotApplicable(why)));
    }
    for (name, batch) in &usable {
        cases.push(case(
            &format!("rows: {name}: all operations, images and values"),
            settled(subject, batch),
        ));
        cases.push(case(
            &format!("rows: {name}: the same again"),
            deterministic(subject, batch),
        ));
        cases.push(case(
            &format!("rows: {name}: however batches are cut"),
            cut_independent(subject, batch),
        ));
        cases.push(case(
            &format!("rows: {name}: memory in a steady state"),
            steady(subject, batch),
        ));
    }
    if let Some((name, batch)) = usable.first() {
        let relation = &batch.relations[0];
        cases.push(case("an empty batch", nothing(subject, batch)));
        cases.push(case(
            &format!("rows: {name}: a value of 1 MiB"),
            settled(subject, &rows::large(relation)),
        ));
        cases.push(case(
            &format!("rows: {name}: 20,000 rows in one batch"),
            settled(subject, &rows::many(relation)),
        ));
        cases.push(case(
            &format!("rows: {name}: several transactions"),
            cut_independent(subject, &rows::transactions(relation)),
        ));
    }
    cases.extend(rowless::cases(subject, &usable));
    cases.extend(kept::cases(subject, &usable, previous));
    cases
}

fn case(name: &str, verdict: Verdict) -> Case {
    Case {
        name: name.to_owned(),
        verdict,
    }
}

fn failed(error: &PluginError) -> Verdict {
    let problem = error.problem();
    let cause = problem.cause.as_deref().unwrap_or_default();
    Verdict::Fail(format!("{}: {cause}", problem.headline))
}

fn start(subject: &Subject) -> Verdict {
    match subject.start() {
        Ok(_) => Verdict::Pass,
        Err(PluginError::Refused(problem)) => Verdict::Fail(format!(
            "{}: {} (give it one with --config)",
            problem.headline,
            problem.cause.as_deref().unwrap_or_default()
        )),
        Err(error) => failed(&error),
    }
}

/// It may take what it doesn't know, or refuse it; it must not trap.
fn bad_config(subject: &Subject) -> Verdict {
    for config in [
        json!(17),
        json!("x"),
        json!([[[1.5, null]]]),
        json!({ "\u{1F980}": { "no such": [true] } }),
    ] {
        match subject.with_config(config).start() {
            Ok(_) | Err(PluginError::Refused(_)) => {}
            Err(error) => return failed(&error),
        }
    }
    Verdict::Pass
}

/// Asks twice, of two instances: the same table must get the same answer.
fn table(subject: &Subject, relation: &Arc<Relation>) -> Result<Verdict, PluginError> {
    let mut answers = Vec::new();
    for _ in 0..2 {
        match subject.start()?.relation(relation) {
            Ok(ChainOutcome::PassBy) => return Ok(Verdict::NotApplicable("it passes the table by".to_owned())),
            Ok(ChainOutcome::Drop) => return Ok(Verdict::NotApplicable("it drops the table".to_owned())),
            Ok(ChainOutcome::Outputs(outputs)) => answers.push(outputs),
            Err(PluginError::Refused(problem)) => {
                let cause = problem.cause.unwrap_or(problem.headline);
                return Ok(Verdict::NotApplicable(format!("it refuses the table: {cause}")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(match answers.windows(2).all(|pair| pair[0] == pair[1]) {
        true => Verdict::Pass,
        false => Verdict::Fail("two instances declare different outputs for one table".to_owned()),
    })
}

fn nothing(subject: &Subject, batch: &Batch) -> Verdict {
    let mut empty = Batch {
        relations: batch.relations.clone(),
        ..Batch::default()
    };
    let processed = subject
        .start()
        .and_then(|mut chain| process(&mut chain, &mut empty, &mut Vec::new()));
    processed.map_or_else(|error| failed(&error), |_| Verdict::Pass)
}

fn settled(subject: &Subject, batch: &Batch) -> Verdict {
    match golden::run(subject, batch, Cut::Whole) {
        Ok(_) => Verdict::Pass,
        // To make many rows of one is no fault.
        Err(error) if error.problem().code == TOO_MANY_ROWS => {
            Verdict::NotApplicable(format!("{}: the batch is too large for it", error.problem().headline))
        }
        Err(error) => failed(&error),
    }
}

fn compare(of: Result<(Outcome, Outcome), PluginError>, what: &str) -> Option<Verdict> {
    match of {
        Err(error) => Some(failed(&error)),
        Ok((first, second)) => differs(&first.changes, &second.changes, what),
    }
}

fn differs(first: &[Vec<String>], second: &[Vec<String>], what: &str) -> Option<Verdict> {
    let at = first.iter().zip(second).position(|(left, right)| left != right);
    at.map(|at| Verdict::Fail(format!("change {} comes out otherwise {what}", at + 1)))
}

fn deterministic(subject: &Subject, batch: &Batch) -> Verdict {
    let run = || golden::run(subject, batch, Cut::Whole);
    let both = run().and_then(|first| Ok((first, run()?)));
    compare(both, "in a second instance").unwrap_or(Verdict::Pass)
}

fn cut_independent(subject: &Subject, batch: &Batch) -> Verdict {
    for cut in Cut::ALL {
        let both =
            golden::run(subject, batch, Cut::Whole).and_then(|whole| Ok((whole, golden::run(subject, batch, cut)?)));
        if let Some(verdict) = compare(both, &format!("where batches are cut {cut}")) {
            return verdict;
        }
    }
    Verdict::Pass
}

/// Rows that the plugin rejects say nothing of its memory: a call counts all the same.
fn steady(subject: &Subject, batch: &Batch) -> Verdict {
    let grown = || -> Result<(usize, usize), PluginError> {
        let mut chain = subject.start()?;
        let (mut warm, mut through) = (0, batch.clone());
        let (cells, arena) = (batch.cells.len(), batch.arena.len());
        for call in 0..CALLS {
            through.cells.truncate(cells);
            through.arena.truncate(arena);
            through.relations.truncate(batch.relations.len());
            let mut rows = batch.rows.clone();
            match process(&mut chain, &mut through, &mut rows) {
                Ok(_) | Err(PluginError::Row(_)) => {}
                Err(error) => return Err(error),
            }
            if call == CALLS_WARM {
                warm = chain.memory_bytes();
            }
        }
        Ok((warm, chain.memory_bytes()))
    };
    match grown() {
        Err(error) => failed(&error),
        Ok((warm, last)) if last > warm => Verdict::Fail(format!(
            "its memory grows from {warm} to {last} bytes between call {CALLS_WARM} and call {CALLS}"
        )),
        Ok(_) => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests;
