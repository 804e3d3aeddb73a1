//! A plugin's second version, swapped in while the pipeline runs, and versions that a developer builds meanwhile.

use super::codes;
use crate::config::Pipeline;
use crate::problem::Problem;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The plugin that is swapped, and the module that takes its place.
pub(super) const FIRST: &str = "paid_only";
pub(super) const SECOND: &str = "paid_or_shipped";

/// The pipeline runs a copy of the module, so that the demo changes no file of the user's. What the user changes is
/// copied over it.
pub(super) struct Swap {
    original: PathBuf,
    second: PathBuf,
    copy: PathBuf,
    stamp: Option<(SystemTime, u64)>,
    pub(super) phase: Phase,
}

/// How far the swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first version runs.
    First,
    /// The second one lies there, to be taken up; since when, in µs since 1970.
    Waiting { written_us: i64, at: Duration },
    /// It runs.
    Done {
        written_us: i64,
        running_us: i64,
        at: Duration,
    },
    /// The user has built a version: nothing is swapped by the demo any more.
    ByHand,
}

impl Swap {
    /// Lets the pipeline run a copy; `None` where it hasn't the plugin, or the second module isn't built.
    pub(super) fn prepare(pipeline: &mut Pipeline, folder: &Path) -> Result<Option<Self>, Problem> {
        let Some(plugin) = pipeline.plugins.iter_mut().find(|plugin| plugin.name == FIRST) else {
            return Ok(None);
        };
        let original = plugin.module.clone();
        let second = original.with_file_name(format!("{SECOND}.wasm"));
        if !second.exists() {
            return Ok(None);
        }
        let copies = folder.join("plugins");
        fs::create_dir(&copies).map_err(codes::folder)?;
        let swap = Self {
            copy: copies.join(format!("{FIRST}.wasm")),
            stamp: stamp(&original),
            original,
            second,
            phase: Phase::First,
        };
        swap.put(&swap.original).map_err(codes::folder)?;
        plugin.module.clone_from(&swap.copy);
        // The copy lies in the demo's own folder, the other modules beside the user's file.
        pipeline.module_root = PathBuf::from("/");
        Ok(Some(swap))
    }

    /// Puts the second version where the first one lies.
    pub(super) fn begin(&mut self, at: Duration) -> Result<(), Problem> {
        let written_us = now_us();
        self.put(&self.second).map_err(codes::folder)?;
        self.phase = Phase::Waiting { written_us, at };
        Ok(())
    }

    /// To be called now and then with the number of the plugin's reloads so far.
    pub(super) fn look(&mut self, reloads: u64) -> Result<(), Problem> {
        if let (Phase::Waiting { written_us, at }, 1..) = (self.phase, reloads) {
            let running_us = now_us();
            self.phase = Phase::Done {
                written_us,
                running_us,
                at,
            };
        }
        let now = stamp(&self.original);
        if now != self.stamp && now.is_some() {
            self.stamp = now;
            self.put(&self.original).map_err(codes::folder)?;
            self.phase = Phase::ByHand;
        }
        Ok(())
    }

    /// By rename, so that the watcher never meets half a module.
    fn put(&self, module: &Path) -> io::Result<()> {
        let partial = self.copy.with_extension("partial");
        fs::copy(module, &partial)?;
        fs::rename(&partial, &self.copy)
    }
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
