//! The plugins' files are watched, and what has changed is taken up.

use super::{changed, has_no_room, reason};
use crate::plugin::reload::{Answer, ModuleWatcher, ReloadEvent, WatchSettings, WatchedPlugin, hash_hex};
use crate::runtime::process::Process;
use std::sync::{Arc, PoisonError, Weak};

/// Watches the plugins' files for as long as the result lives.
pub(in crate::runtime) fn watch(process: &Arc<Process>) -> std::io::Result<ModuleWatcher> {
    let config = &process.config();
    let plugins = config.plugins.iter().map(|plugin| WatchedPlugin {
        name: plugin.name.clone(),
        module: plugin.module.clone(),
        running: process.modules.newest(&plugin.name).map(|taken| taken.module.hash()),
        limit: plugin.limits.module.0,
    });
    let settings = WatchSettings {
        settle: config.reload.settle.0,
        interval: config.reload.interval.0,
        root: Some(config.module_root.clone()),
        ..WatchSettings::default()
    };
    let of_event = Arc::clone(process);
    ModuleWatcher::start(
        plugins.collect(),
        settings,
        process.modules.store().clone(),
        move |event| take(&of_event, event),
    )
}

/// Watches the files of the plugins that there are now, in place of those that were there before. Does nothing where the
/// pipeline has ended.
pub(in crate::runtime) fn watch_again(process: &Arc<Process>) {
    let Some(watcher) = process.watcher.get().and_then(Weak::upgrade) else {
        return;
    };
    match watch(process) {
        Ok(watching) => {
            let before = watcher.lock().unwrap_or_else(PoisonError::into_inner).replace(watching);
            // Its thread may wait for the lock of changes that is held here.
            std::thread::spawn(move || drop(before));
        }
        Err(error) => tracing::warn!(%error, "the plugins' files can't be watched: changes of new ones aren't seen"),
    }
}

/// On the watcher's thread: nothing here is on the way of a row.
fn take(process: &Arc<Process>, event: ReloadEvent) -> Answer {
    match event {
        ReloadEvent::Gone { plugin } => {
            tracing::warn!(plugin, "the plugin's file is gone; the version that runs goes on");
        }
        ReloadEvent::Refused { plugin, reason } => process.status.refused(&plugin, None, &reason),
        ReloadEvent::Change {
            plugin, bytes, hash, ..
        } => {
            let hash = hash_hex(&hash);
            if let Err(problem) = changed(process, &plugin, &bytes, &hash) {
                let reason = reason(&problem);
                if !has_no_room(&problem) {
                    process.status.refused(&plugin, Some(&hash), &reason);
                } else {
                    process.status.put_off(&plugin, &hash, &reason);
                    return Answer::Again;
                }
            }
        }
    }
    Answer::Settled
}
