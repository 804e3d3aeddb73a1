//! A new version goes through the last real batches before it may take over. What it makes of them is thrown away.

use super::process::Process;
use crate::batch::{Batch, Row};
use crate::config;
use crate::plugin::{Aside, AsideCause, Chain, Mode, PluginError, PluginVersion, Processed};
use crate::problem::{Exit, Problem};

/// Takes the batches that came last through the candidate's chain.
///
/// A row that it rejects doesn't refuse it: to reject other rows than before may be what the new version is for. Where
/// the running version takes a batch in which the new one rejects something, that is said.
pub(super) fn rehearse(
    process: &Process,
    name: &str,
    route: &config::Route,
    running: &[PluginVersion],
    candidate: &[PluginVersion],
) -> Result<(), Box<Problem>> {
    let chain = |plugins| Chain::new(&process.engine, plugins, route.filter, Mode::Candidate);
    let boxed = |error: PluginError| Box::new(error.problem());
    let mut tried = chain(candidate).map_err(boxed)?;
    // Only made where there is something to compare with.
    let mut before: Option<Chain> = None;
    let mut rejected = None;
    for kept in process.recent.batches() {
        let rows = kept.rows(name);
        if rows.is_empty() {
            continue;
        }
        let outcome = try_on(&mut tried, &kept.batch, rows).map_err(|problem| Box::new(broken(&problem)))?;
        let Some(rejects) = outcome.filter(|_| rejected.is_none()) else {
            continue;
        };
        let before = match &mut before {
            Some(before) => before,
            None => before.insert(chain(running).map_err(boxed)?),
        };
        if try_on(before, &kept.batch, rows).is_ok_and(|outcome| outcome.is_none()) {
            rejected = Some(rejects);
        }
    }
    if let Some(problem) = rejected {
        tracing::warn!(
            route = name,
            reason = super::reload::reason(&problem),
            "the new version rejects rows that the running one takes"
        );
    }
    Ok(())
}

/// Takes a batch through a chain and throws it away. Gives the first row's own error.
///
/// # Errors
/// A plugin broke.
fn try_on(chain: &mut Chain, batch: &Batch, rows: &[Row]) -> Result<Option<Problem>, Problem> {
    let mut processed = Processed::default();
    match chain.process(&mut batch.clone(), &mut rows.to_vec(), &mut processed) {
        Ok(()) => {}
        Err(error @ PluginError::Row(_)) => return Ok(Some(error.problem())),
        Err(broke) => return Err(broke.problem()),
    }
    let fault = |aside: &&Aside| matches!(aside.cause, AsideCause::Fault(_));
    if let Some(aside) = processed.aside.iter().find(fault) {
        return Err(aside.problem());
    }
    if processed.counts.faults > 0 {
        // `on_fault: bypass` would let the rows go by.
        let help = "mend the plugin, then put the new module in its place";
        return Err(Problem::new("E0310", Exit::Plugin, "a plugin of the route broke", help));
    }
    Ok(processed.aside.first().map(Aside::problem))
}

fn broken(problem: &Problem) -> Problem {
    let headline = format!("it broke on the last rows in its rehearsal: {}", problem.headline);
    Problem {
        headline,
        ..problem.clone()
    }
}
