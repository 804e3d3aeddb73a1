//! How much the plugins keep, and when they were asked for it last.

use crate::checkpoint::{Mark, PluginState};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What one plugin keeps on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSize {
    pub bytes: u64,
    pub version: u32,
    /// When it was given, in ms since 1970.
    pub taken_ms: u64,
}

impl StateSize {
    /// How long ago it was given.
    pub fn age_seconds(&self) -> f64 {
        now_ms().saturating_sub(self.taken_ms) as f64 / 1e3
    }
}

/// Written by the outflow once a checkpoint passes, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct StateStats {
    pub checkpoints: AtomicU64,
    /// Of the last checkpoint: all states together.
    pub bytes: AtomicU64,
    /// By plugin and route.
    sizes: Mutex<BTreeMap<(String, String), StateSize>>,
}

impl StateStats {
    /// What a start has found.
    pub fn found<'a>(&self, states: impl Iterator<Item = (&'a PluginState, u64)>) {
        let mut found: BTreeMap<(String, String), StateSize> = BTreeMap::new();
        for (state, taken_ms) in states.filter(|(state, _)| !state.is_before()) {
            let of_plugin = (state.plugin.clone(), state.route.clone());
            let size = found.entry(of_plugin).or_insert(StateSize {
                bytes: 0,
                version: state.version,
                taken_ms,
            });
            // Of all divisions.
            size.bytes += state.bytes.len() as u64;
        }
        self.lock().extend(found);
    }

    pub(super) fn checkpointed(&self, marks: &[Mark]) {
        let states = marks.iter().filter_map(|mark| match mark {
            Mark::State(state) => Some(state),
            _ => None,
        });
        let taken_ms = now_ms();
        let any = states.clone().next().is_some();
        let sum = states.clone().map(|state| state.bytes.len() as u64).sum();
        self.found(states.map(|state| (state, taken_ms)));
        if any || marks.iter().any(|mark| matches!(mark, Mark::Entries(_))) {
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        if any {
            self.bytes.store(sum, Ordering::Relaxed);
        }
    }

    /// By plugin and route.
    pub fn sizes(&self) -> Vec<(String, String, StateSize)> {
        let of =
            |((plugin, route), size): (&(String, String), &StateSize)| (plugin.clone(), route.clone(), size.clone());
        self.lock().iter().map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), StateSize>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In ms since 1970.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}
