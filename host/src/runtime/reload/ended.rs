//! A probation has ended: who needs to know is told, and other routes go back as well.

use super::{Trust, take_up_on};
use crate::checkpoint::PluginVersion as PluginRecorded;
use crate::config::Route;
use crate::pipeline::{ProbationEnd, ProbationTold, route_names};
use crate::runtime::modules::short;
use crate::runtime::process::Process;
use std::sync::{Arc, PoisonError};

/// What the lanes call where a probation has ended.
pub(in crate::runtime) fn probation_told(process: &Arc<Process>) -> ProbationTold {
    // The session's routes: a reload may have exchanged the file when a probation ends.
    let config = process.config();
    let names = route_names(&config.routes);
    // The lanes end before the process does; a reference both ways would keep both.
    let process = Arc::downgrade(process);
    Arc::new(move |route, end| {
        if let Some(process) = process.upgrade() {
            probation_ended(&process, &config.routes[route], &names[route], end);
        }
    })
}

fn probation_ended(process: &Arc<Process>, config: &Route, route: &str, end: &ProbationEnd) {
    match end {
        ProbationEnd::Replaced => {}
        ProbationEnd::Passed => {
            for plugin in &config.plugins {
                process.status.passed_probation(plugin, route);
            }
            tracing::info!(route, "the new version of the route's plugins has passed its probation");
        }
        ProbationEnd::RolledBack {
            from,
            gone,
            plugins,
            set_aside,
        } => {
            for aside in set_aside {
                let (plugin, candidate) = (&aside.version.name, short(&aside.version.module));
                tracing::warn!(
                    plugin,
                    candidate,
                    route,
                    %from,
                    reason = aside.reason,
                    "the new version broke on its probation and is set aside until its file or config changes; \
                     the version before runs again"
                );
            }
            if set_aside.is_empty() {
                tracing::warn!(
                    route,
                    %from,
                    "a plugin of the route broke in another route on its probation; the version before runs again"
                );
            }
            for (gone, before) in gone.iter().zip(plugins).filter(|(gone, before)| !gone.is_same(before)) {
                let Some(present) = process.modules.newest(&gone.name) else {
                    continue;
                };
                match process.modules.revive(&process.engine, &present.plugin, before) {
                    Ok(before) => {
                        let module = Arc::clone(&before.module);
                        process.modules.went_back(gone, before);
                        process.status.rolled_back(&gone.name, &module);
                    }
                    Err(problem) => tracing::error!(code = problem.code, plugin = gone.name, "{}", problem.headline),
                }
            }
            for aside in set_aside {
                let (name, hash) = (&aside.version.name, &aside.version.module);
                process.status.note_refused(name, Some(hash), &aside.reason);
                put_back_elsewhere(process, aside.version.clone());
            }
        }
    }
}

/// Routes in which the bad version has passed its probation already go back as well. Not on the lane's thread, which
/// whoever holds `changing` may wait for.
fn put_back_elsewhere(process: &Arc<Process>, bad: PluginRecorded) {
    let of_thread = Arc::clone(process);
    let work = move || {
        let process = of_thread;
        let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = process.modules.newest(&bad.name) else {
            return;
        };
        if process.modules.key.version(&before).is_same(&bad) {
            return;
        }
        let runs_it = |route: &str| {
            let recorded = process.store.chain_versions(route).unwrap_or_default();
            let last = recorded.last();
            last.is_some_and(|(_, last)| last.plugins.iter().any(|plugin| plugin.is_same(&bad)))
        };
        if let Err(problem) = take_up_on(&process, before, Trust::Known, &runs_it) {
            tracing::error!(code = problem.code, plugin = bad.name, "{}", problem.headline);
        }
    };
    let thread = std::thread::Builder::new().name("put-back".to_owned());
    if let Err(error) = thread.spawn(work) {
        tracing::error!(%error, "other routes keep the version that was set aside until the next start");
    }
}
