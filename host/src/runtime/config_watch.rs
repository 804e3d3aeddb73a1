//! pipeline.yaml is edited: what it says of a plugin's config, limits and policies is taken up as a changed module is, and
//! what it says of how new versions are tried counts for the next one. Whatever else differs waits for SIGHUP or
//! `rowmill reload`, which is said.

use super::modules::Taken;
use super::process::Process;
use super::reload::{Trust, take_up, watch_again};
use crate::config::{self, Pipeline, Plugin};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often the file is looked at. It is read once two looks have found the same.
const POLL: Duration = Duration::from_millis(250);
/// After so many looks a change is read again that couldn't be taken up for want of room: 5 s.
const AGAIN_LOOKS: u32 = 20;

type Stamp = (u64, u64, i64, i64);

/// Looks at the file for as long as the process lives.
pub(super) fn watch(process: &Arc<Process>) -> std::io::Result<()> {
    let of_process = Arc::downgrade(process);
    let file = process.config().file.clone();
    let mut taken = stamp(&file);
    let mut seen = taken;
    let mut again = None;
    let thread = std::thread::Builder::new().name("config-watch".into());
    thread.spawn(move || {
        loop {
            std::thread::sleep(POLL);
            let Some(process) = of_process.upgrade() else { return };
            let now = stamp(&file);
            let settled = now == seen;
            seen = now;
            again = again.map(|looks: u32| looks.saturating_sub(1));
            if settled && (now != taken || again == Some(0)) {
                taken = now;
                again = (!take(&process, &file)).then_some(AGAIN_LOOKS);
            }
        }
    })?;
    Ok(())
}

/// `None` where there is no file.
fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Whether that is settled until the file changes.
fn take(process: &Arc<Process>, file: &Path) -> bool {
    let fresh = match config::load(file) {
        Ok(fresh) => fresh,
        Err(problems) => {
            for problem in problems {
                tracing::warn!(
                    code = problem.code,
                    "pipeline.yaml has changed and isn't taken up: {}",
                    problem.headline
                );
            }
            return true;
        }
    };
    let mut settled = true;
    if rest(&fresh) != rest(&process.config()) {
        tracing::warn!(
            "pipeline.yaml has changed in more than config and limits of plugins: `rowmill reload` takes that up"
        );
    }
    for plugin in &fresh.plugins {
        let _one = process.modules.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = process.modules.newest(&plugin.name) else {
            continue;
        };
        if plugin.config == running.plugin.config
            && plugin.limits == running.plugin.limits
            && plugin.policies == running.plugin.policies
        {
            try_with(process, running, plugin);
            continue;
        }
        let taken = Taken {
            module: running.module,
            plugin: Arc::new(Plugin {
                module: running.plugin.module.clone(),
                ..plugin.clone()
            }),
        };
        let hash = taken.module.hash_hex().to_owned();
        if let Err(problem) = take_up(process, taken, Trust::Probation) {
            let reason = format!("with its new config: {}", super::reload::reason(&problem));
            if super::reload::has_no_room(&problem) {
                process.status.put_off(&plugin.name, &hash, &reason);
                settled = false;
            } else {
                process.status.refused(&plugin.name, Some(&hash), &reason);
            }
        }
    }
    settled
}

/// What the file says of how a new version is tried makes none: it counts for the next one, and a module that was refused
/// without it is tried again.
fn try_with(process: &Arc<Process>, running: Taken, plugin: &Plugin) {
    let before = &running.plugin;
    if plugin.allow_schema_change == before.allow_schema_change && plugin.samples == before.samples {
        return;
    }
    tracing::info!(
        plugin = plugin.name,
        "new versions of the plugin are tried as pipeline.yaml says now"
    );
    process.modules.accept(Taken {
        module: running.module,
        plugin: Arc::new(Plugin {
            module: before.module.clone(),
            ..plugin.clone()
        }),
    });
    watch_again(process);
}

/// What isn't taken up, as texts that can be compared. A changed password isn't seen.
fn rest(pipeline: &Pipeline) -> (String, Vec<String>) {
    let of_plugin = |plugin: &Plugin| format!("{} {:?}", plugin.name, plugin.module);
    let plugins = pipeline.plugins.iter().map(of_plugin).collect();
    let mut others = Pipeline {
        plugins: Vec::new(),
        ..pipeline.clone()
    };
    // It isn't in the file.
    others.routes.iter_mut().for_each(|route| route.known_as = None);
    (format!("{others:?}"), plugins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_knows_of_routes_is_no_change_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipeline.yaml");
        let text = "name: shop
source: { postgres: { url: postgresql://localhost/source, tables: [public.a] } }
routes:
  - { tables: [public.a], sinks: [out] }
sinks: { out: stdout }
";
        std::fs::write(&file, text).unwrap();
        let fresh = config::load(&file).unwrap();
        let mut running = fresh.clone();
        running.routes[0].known_as = Some("public.a".into());
        assert_eq!(rest(&fresh), rest(&running));
        running.routes[0].sinks.clear();
        assert_ne!(rest(&fresh), rest(&running));
    }
}
