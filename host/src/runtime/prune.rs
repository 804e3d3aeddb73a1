//! What is let go of recorded chain versions and kept modules.
//!
//! A restart begins at the stored position, so of each route's versions those are needed that hold at it or later. A
//! module is needed as long as one of them names it, or it is what a file held last.

use super::process::Process;
use crate::pipeline::route_key;
use crate::problem::Problem;

/// At the start and after each reload. What can't be let go takes room, nothing else: it is told and tried again.
pub(super) fn prune(process: &Process) {
    match versions(process).and_then(|()| process.store.recorded_modules()) {
        Ok(mut needed) => {
            let newest = process.config.plugins.iter();
            let newest = newest.filter_map(|plugin| process.modules.newest(&plugin.name));
            needed.extend(newest.map(|module| module.hash_hex().to_owned()));
            match process.modules.store().prune(&needed) {
                Ok(0) => {}
                Ok(modules) => tracing::info!(modules, "old versions of plugins were let go"),
                Err(error) => tracing::warn!(%error, "old versions of plugins can't be let go"),
            }
        }
        Err(problem) => tracing::warn!(%problem, "old versions of plugins can't be let go"),
    }
}

fn versions(process: &Process) -> Result<(), Problem> {
    let Some(position) = process.store.position()? else {
        return Ok(());
    };
    for route in &process.config.routes {
        process.store.prune_chain_versions(&route_key(route), position)?;
    }
    Ok(())
}
