//! Sinks that are left out, so that one that is stuck doesn't cost the others the slot (`on_wal_pressure: detach_sink`).
//!
//! A detached sink is one that the file doesn't have, as far as sessions are concerned: what happens is what happens where
//! somebody takes it out. Its name is kept in the state, so that it stays out whatever is started or read again, until
//! `rowmill attach`. Then it is a sink that comes back: its tables are emptied and copied for it alone, beside the stream.

use super::process::Process;
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::problem::{Exit, Problem};
use crate::sink::driver::SinkHandle;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

pub(crate) const NOT_ATTACHED: &str = "E0520";

/// The configuration without the sinks that are detached.
pub(super) fn without(mut config: Pipeline, store: &StateStore) -> Result<Pipeline, Problem> {
    let detached = store.detached()?;
    if detached.is_empty() {
        return Ok(config);
    }
    // One that the file doesn't have any more may come back by it, with a copy of its own.
    let there: Vec<String> = detached
        .iter()
        .filter(|name| config.sinks.iter().any(|sink| sink.name == **name))
        .cloned()
        .collect();
    if there != detached {
        store.set_detached(&there)?;
    }
    for sink in &there {
        tracing::warn!(sink, help = ATTACH, "the sink is detached: nothing goes to it");
    }
    leave_out(&mut config, &there);
    Ok(config)
}

const ATTACH: &str = "stop the host, `rowmill attach SINK`, start it again: the sink gets a copy of its own";

fn leave_out(config: &mut Pipeline, names: &[String]) {
    config.sinks.retain(|sink| !names.contains(&sink.name));
    for route in &mut config.routes {
        route.sinks.retain(|name| !names.contains(name));
    }
    config.routes.retain(|route| !route.sinks.is_empty());
}

/// What each sink had at the last look.
#[derive(Debug, Default)]
pub(super) struct Looks(HashMap<String, u64>);

impl Looks {
    /// The sinks that have something to write and have made none of it durable since the last look; empty where no other
    /// one would be left.
    pub(super) fn stuck(&mut self, sinks: &[(String, SinkHandle)]) -> Vec<String> {
        let is_stuck = |(name, sink): &&(String, SinkHandle)| {
            sink.is_behind() && self.0.get(name) == Some(&sink.durable_sequence())
        };
        let stuck: Vec<String> = sinks.iter().filter(is_stuck).map(|(name, _)| name.clone()).collect();
        self.0 = sinks
            .iter()
            .filter(|(_, sink)| sink.is_behind())
            .map(|(name, sink)| (name.clone(), sink.durable_sequence()))
            .collect();
        match stuck.len() < sinks.len() {
            true => stuck,
            false => Vec::new(),
        }
    }
}

/// Leaves these out from the next session on, which begins now.
pub(super) fn detach(process: &Process, names: &[String]) -> Result<(), Problem> {
    let mut detached = process.store.detached()?;
    detached.extend(names.iter().cloned());
    process.store.set_detached(&detached)?;
    for sink in names {
        tracing::error!(
            sink,
            help = ATTACH,
            "the sink is detached: it held back a slot that was about to be lost"
        );
    }
    let mut config = Pipeline::clone(&process.config());
    leave_out(&mut config, names);
    process.settings.fetch_add(1, Ordering::AcqRel);
    process.set_config(config);
    process.begin_again("a sink was detached");
    Ok(())
}

/// Has a detached sink take part again from the next start on.
///
/// # Errors
/// A host at work, a sink that isn't detached.
pub fn attach(config: &Pipeline, sink: &str) -> Result<(), Box<Problem>> {
    let refuse = || {
        let headline = format!("sink {sink} isn't detached");
        let help = "name a sink that the log says to be detached";
        Box::new(Problem::new(NOT_ATTACHED, Exit::Usage, headline, help))
    };
    if !config.state_dir.join(StateStore::FILE).exists() {
        return Err(refuse());
    }
    let store = StateStore::open(&config.state_dir, &config.name)?;
    let mut detached = store.detached()?;
    let before = detached.len();
    detached.retain(|name| name != sink);
    if detached.len() == before {
        return Err(refuse());
    }
    Ok(store.set_detached(&detached)?)
}
