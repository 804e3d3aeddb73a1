//! What lives as long as the process: one pipeline's configuration, state, engine, plugins and counters.

use super::modules::Modules;
use super::status::StatusBoard;
use crate::assemble::SpillStats;
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::console::Tail;
use crate::dead_letter::DeadLetters;
use crate::pipeline::{LaneStats, LiveRelations, Recent};
use crate::plugin::{Engine, GuestMetrics};
use crate::postgres::Conninfo;
use crate::snapshot::Pace;
use std::sync::{Arc, OnceLock};

pub(crate) struct Process {
    pub(super) config: Arc<Pipeline>,
    pub(super) source: Conninfo,
    pub(super) store: StateStore,
    /// Changes that were set aside.
    pub(super) dead_letters: DeadLetters,
    pub(super) engine: Arc<Engine>,
    pub(super) modules: Modules,
    pub(super) stats: Arc<LaneStats>,
    /// What the plugins count.
    pub(super) metrics: Arc<GuestMetrics>,
    pub(super) live: Arc<LiveRelations>,
    /// What new versions of plugins are rehearsed on.
    pub(super) recent: Arc<Recent>,
    /// How fast tables are copied.
    pub(super) pace: Arc<Pace>,
    /// What is held of transactions in progress.
    pub(super) spill: Arc<SpillStats>,
    /// Why transactions in progress are not received any more though the file says so; until the next start.
    pub(super) unstreamed: OnceLock<String>,
    pub(super) status: StatusBoard,
    /// Rows as they leave, as JSON lines, rendered only while somebody listens.
    pub(super) tail: Tail,
    /// Where sinks, copies and the console run: not on the source's thread.
    pub(super) workers: tokio::runtime::Handle,
}

impl Process {
    pub(super) fn slot(&self) -> String {
        self.config.slot_name()
    }

    /// Whether the server is to be asked for transactions in progress.
    pub(super) fn streams_transactions(&self) -> bool {
        self.config.source.stream_transactions && self.unstreamed.get().is_none()
    }

    /// How our connections call themselves at the server.
    pub(super) fn application_name(&self) -> String {
        format!("rowmill_{}", self.config.name)
    }
}
