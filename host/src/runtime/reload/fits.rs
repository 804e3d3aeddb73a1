//! Whether a version can take the place of the running one: it takes what that has kept, and gives rows the same shape.

use crate::batch::Relation;
use crate::config;
use crate::plugin::{Chain, ChainOutcome, Mode, PluginError, PluginVersion};
use crate::problem::{Exit, Problem};
use crate::runtime::process::Process;
use crate::runtime::states::States;
use std::sync::Arc;

/// A version that doesn't take what is stored is refused before anything is swapped.
pub(super) fn takes_state(
    process: &Process,
    name: &str,
    route: &config::Route,
    candidate: &[PluginVersion],
) -> Result<(), Box<Problem>> {
    if !candidate.iter().any(|plugin| plugin.module.manifest().keeps_state()) {
        return Ok(());
    }
    let kept = States::load(process)?.of_chain(name, candidate);
    Chain::for_lane(&process.engine, candidate, route.filter, Mode::Candidate, 1, kept)
        .map(drop)
        .map_err(|error| Box::new(error.problem()))
}

/// A version whose output has another shape than the running one's is refused: the sinks were set up for that.
pub(super) fn same_shape(
    process: &Process,
    route: &config::Route,
    running: &[PluginVersion],
    candidate: &[PluginVersion],
    live: &[Arc<Relation>],
) -> Result<(), Box<Problem>> {
    let boxed = |error: PluginError| Box::new(error.problem());
    let chain = |plugins| Chain::new(&process.engine, plugins, route.filter, Mode::Candidate).map_err(boxed);
    let (mut running, mut candidate) = (chain(running)?, chain(candidate)?);
    for relation in live {
        let before = shape(&running.relation(relation).map_err(boxed)?, relation);
        let after = shape(&candidate.relation(relation).map_err(boxed)?, relation);
        if before != after {
            return Err(Box::new(other_shape(relation)));
        }
    }
    Ok(())
}

type Shape = Vec<(String, String, Vec<(String, u32, bool)>)>;

/// Of everything that rows of the relation leave in.
fn shape(outcome: &ChainOutcome, relation: &Arc<Relation>) -> Shape {
    let outputs = match outcome {
        ChainOutcome::Outputs(outputs) => outputs.as_slice(),
        ChainOutcome::PassBy => std::slice::from_ref(relation),
        ChainOutcome::Drop => &[],
    };
    let of = |relation: &Arc<Relation>| {
        let columns = relation
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.type_oid, column.key));
        (relation.schema.clone(), relation.table.clone(), columns.collect())
    };
    outputs.iter().map(of).collect()
}

fn other_shape(relation: &Relation) -> Problem {
    let headline = format!("the new version gives rows of {} another shape", relation.full_name());
    let help = "set `allow_schema_change: true` on the plugin once the sinks have the new columns";
    Problem::new("E0333", Exit::Plugin, headline, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::orders;

    #[test]
    fn a_table_that_is_passed_by_keeps_its_shape_and_one_that_is_dropped_has_none() {
        let orders = orders();
        let passed = shape(&ChainOutcome::PassBy, &orders);
        assert_eq!(
            passed,
            shape(&ChainOutcome::Outputs(vec![Arc::clone(&orders)]), &orders)
        );
        assert_ne!(passed, shape(&ChainOutcome::Drop, &orders));
    }
}
