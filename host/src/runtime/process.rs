//! What lives as long as the process: one pipeline's configuration, state, engine, plugins and counters.

use super::chains::Modules;
use super::status::StatusBoard;
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::pipeline::{LaneStats, LiveRelations};
use crate::plugin::Engine;
use crate::postgres::Conninfo;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Lines that `tail` may be behind before it misses some.
const TAIL_LINES: usize = 4_096;

pub(crate) struct Process {
    pub(super) config: Arc<Pipeline>,
    pub(super) source: Conninfo,
    pub(super) store: StateStore,
    pub(super) engine: Arc<Engine>,
    pub(super) modules: Modules,
    pub(super) stats: Arc<LaneStats>,
    pub(super) live: Arc<LiveRelations>,
    pub(super) status: StatusBoard,
    /// Rows as they leave, as JSON lines, rendered only while somebody listens.
    pub(super) tail: broadcast::Sender<Arc<str>>,
    /// Where sinks, copies and the console run: not on the source's thread.
    pub(super) workers: tokio::runtime::Handle,
}

impl Process {
    pub(super) fn tail_channel() -> broadcast::Sender<Arc<str>> {
        broadcast::channel(TAIL_LINES).0
    }

    pub(super) fn slot(&self) -> String {
        self.config
            .source
            .slot
            .clone()
            .unwrap_or_else(|| format!("rowmill_{}", self.config.name))
    }

    /// How our connections call themselves at the server.
    pub(super) fn application_name(&self) -> String {
        format!("rowmill_{}", self.config.name)
    }
}
