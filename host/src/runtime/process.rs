//! What lives as long as the process: one pipeline's configuration, state, engine, plugins and counters.

use super::modules::Modules;
use super::status::StatusBoard;
use crate::assemble::SpillStats;
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::console::Tail;
use crate::dead_letter::DeadLetters;
use crate::pipeline::{LaneStats, LiveRelations, Recent};
use crate::plugin::reload::ModuleWatcher;
use crate::plugin::{Engine, GuestMetrics};
use crate::postgres::Conninfo;
use crate::snapshot::Pace;
use crate::source::catalog::Catalog;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use tokio::sync::{Notify, watch};

pub(crate) struct Process {
    pub(super) name: String,
    pub(super) config: RwLock<Arc<Pipeline>>,
    /// As the url was at the start.
    pub(super) first_source: Conninfo,
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
    /// Types that a session didn't know, for which another one has begun.
    pub(super) types_asked_for: Mutex<HashSet<u32>>,
    pub(super) status: StatusBoard,
    /// OIDs and names of the tables that are streamed.
    pub(super) streamed: Mutex<Vec<(u32, String)>>,
    /// What watches the plugins' files, where they are watched; whoever runs the pipeline owns it.
    pub(super) watcher: OnceLock<Weak<Mutex<Option<ModuleWatcher>>>>,
    /// Counted up where the session is to end in order and the next one to begin: tables or settings have changed.
    pub(super) again: watch::Sender<u64>,
    /// Told where a copy has been planned that the running session may begin, or a table may have come.
    pub(super) asked_for_copies: Notify,
    /// Counted up where the settings change that a session has taken up: what it has is not theirs any more.
    pub(super) settings: AtomicU64,
    /// Rows as they leave, as JSON lines, rendered only while somebody listens.
    pub(super) tail: Tail,
    /// Where sinks, copies and the console run: not on the source's thread.
    pub(super) workers: tokio::runtime::Handle,
}

impl Process {
    /// As it is now: a reload exchanges it, whoever holds it goes on with what it was.
    pub(super) fn config(&self) -> Arc<Pipeline> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_config(&self, config: Pipeline) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// How to reach the source now: what its url refers to is read again, so that a password that was rotated counts
    /// from the next connection on. Where it can't be read, as in the midst of a rotation, it is as at the start.
    pub(super) fn source(&self) -> Conninfo {
        let read = self.config().source.url.read_again();
        let parsed = read.and_then(|url| Conninfo::parse(url.reveal()).map_err(|error| error.to_string()));
        parsed.unwrap_or_else(|error| {
            tracing::warn!(error, "the source's url can't be read again");
            self.first_source.clone()
        })
    }

    /// Whether the source has let us in since the start.
    pub(super) fn has_streamed(&self) -> bool {
        !self.streamed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn slot(&self) -> String {
        self.config().slot_name()
    }

    /// A session streams these tables.
    pub(super) fn streams(&self, catalog: &Catalog) {
        let tables = catalog.tables.iter().map(|table| (table.oid, table.full_name()));
        *self.streamed.lock().unwrap_or_else(PoisonError::into_inner) = tables.collect();
    }

    /// Of a table that is streamed.
    pub(super) fn table_name(&self, oid: u32) -> Option<String> {
        let streamed = self.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        streamed
            .iter()
            .find(|(known, _)| *known == oid)
            .map(|(_, name)| name.clone())
    }

    /// Lets another session begin, which takes up what has changed.
    pub(super) fn begin_again(&self, reason: &str) {
        tracing::info!(reason, "another session begins");
        self.again.send_modify(|count| *count += 1);
    }

    /// Whether the server is to be asked for transactions in progress.
    pub(super) fn streams_transactions(&self) -> bool {
        self.config().source.stream_transactions && self.unstreamed.get().is_none()
    }

    /// Whether another session may know a type that this one doesn't: once for each.
    pub(super) fn asks_for_type(&self, oid: u32) -> bool {
        self.types_asked_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(oid)
    }

    /// How our connections call themselves at the server.
    pub(super) fn application_name(&self) -> String {
        format!("rowmill_{}", self.name)
    }
}
