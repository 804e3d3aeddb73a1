//! A new version goes through the last real batches before it may take over. What it makes of them is thrown away.

use super::process::Process;
use crate::config;
use crate::pipeline::route_key;
use crate::plugin::{Chain, Mode, PluginError, PluginVersion};
use crate::problem::Problem;

/// Takes the batches that came last through the candidate's chain.
///
/// A row that it rejects doesn't refuse it: to reject other rows than before may be what the new version is for. Where
/// the running version takes a batch in which the new one rejects something, that is said.
pub(super) fn rehearse(
    process: &Process,
    at: usize,
    route: &config::Route,
    running: &[PluginVersion],
    candidate: &[PluginVersion],
) -> Result<(), Box<Problem>> {
    let chain = |plugins| Chain::new(&process.engine, plugins, route.filter, Mode::Candidate);
    let mut tried = chain(candidate).map_err(|error| Box::new(error.problem()))?;
    // Only made where there is something to compare with.
    let mut before: Option<Chain> = None;
    let mut rejected = None;
    for kept in process.recent.batches() {
        let Some(rows) = kept.rows.get(at).filter(|rows| !rows.is_empty()) else {
            continue;
        };
        match tried.process(&mut kept.batch.clone(), &mut rows.clone()) {
            Ok(()) => {}
            Err(PluginError::Row(error)) if rejected.is_none() => {
                let before = match &mut before {
                    Some(before) => before,
                    None => before.insert(chain(running).map_err(|error| Box::new(error.problem()))?),
                };
                if before.process(&mut kept.batch.clone(), &mut rows.clone()).is_ok() {
                    rejected = Some(error);
                }
            }
            Err(PluginError::Row(_)) => {}
            Err(broke) => return Err(Box::new(broken(&broke.problem()))),
        }
    }
    if let Some(error) = rejected {
        tracing::warn!(
            plugin = error.plugin,
            route = route_key(route),
            reason = %error,
            "the new version rejects rows that the running one takes"
        );
    }
    Ok(())
}

fn broken(problem: &Problem) -> Problem {
    let headline = format!("it broke on the last rows in its rehearsal: {}", problem.headline);
    Problem {
        headline,
        ..problem.clone()
    }
}
