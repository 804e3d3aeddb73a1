//! What the pipeline is doing, for `status`, the console and readiness.

use super::copy_progress::{CopyProgress, CopyTotals};
use super::process::Process;
use super::wal_pressure::SlotRisk;
use crate::batch::Lsn;
use crate::pipeline::{StateSize, route_names};
use crate::plugin::Module;
use crate::sink::driver::{SinkHandle, SinkState};
use crate::snapshot::TableProgress;
use crate::source::monitor::SlotHealth;
use crate::source::replication::ProtocolOptions;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Microseconds from 1970 to 2000, where Postgres' clock begins.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// What is known of one plugin's versions.
#[derive(Clone, Debug, Default)]
struct PluginStatus {
    running: Option<String>,
    version: Option<String>,
    /// Hash, where there was one, and reason of the last refusal since the running version took over.
    refused: Option<(Option<String>, String)>,
    /// Hash of the version that is about to take over, and how far it is.
    candidate: Option<(String, &'static str)>,
    /// When the running version took over, in seconds since 1970.
    since: u64,
    /// The routes in which it gives way to the one before where it breaks.
    on_probation: BTreeSet<String>,
    rollbacks: u64,
    reloads: u64,
    reloads_refused: u64,
}

#[derive(Default)]
struct Inner {
    state: &'static str,
    reason: String,
    protocol: Option<ProtocolOptions>,
    /// By their place in the configuration that the session began with, with their names: a reload may have exchanged it.
    sinks: BTreeMap<usize, (String, SinkHandle)>,
    plugins: BTreeMap<String, PluginStatus>,
    copies: CopyProgress,
    slot: SlotRisk,
}

pub(super) struct StatusBoard {
    inner: Mutex<Inner>,
    health: watch::Sender<SlotHealth>,
    /// Kept, so that there is always somebody to report to.
    _health: watch::Receiver<SlotHealth>,
    pub(super) acknowledged: AtomicU64,
    /// Times a session ended and was begun again.
    pub(super) reconnects: AtomicU64,
}

impl StatusBoard {
    pub(super) fn new() -> Self {
        let inner = Inner {
            state: "starting",
            ..Inner::default()
        };
        let (health, _health) = watch::channel(SlotHealth::default());
        Self {
            inner: Mutex::new(inner),
            health,
            _health,
            acknowledged: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }

    pub(super) fn streaming(&self, protocol: ProtocolOptions) {
        let mut inner = self.lock();
        inner.state = "streaming";
        inner.protocol = Some(protocol);
        inner.reason.clear();
    }

    pub(super) fn reconnecting(&self, reason: &str) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.state = "reconnecting";
        reason.clone_into(&mut inner.reason);
    }

    /// Those of the session before: the configuration may have others now.
    pub(super) fn forget_sinks(&self) {
        self.lock().sinks.clear();
    }

    pub(super) fn sink(&self, at: usize, name: &str, handle: SinkHandle) {
        self.lock().sinks.insert(at, (name.to_owned(), handle));
    }

    pub(super) fn copies(&self, progress: Vec<TableProgress>) {
        self.lock().copies.set(progress, Instant::now());
    }

    /// All copies together; `None` where all are done.
    pub(super) fn copying(&self) -> Option<CopyTotals> {
        let inner = self.lock();
        (!inner.copies.is_done()).then(|| inner.copies.totals())
    }

    /// What the console answers to who pauses a copy.
    pub(super) fn copy_json(&self, process: &Process) -> Value {
        self.lock().copies.totals().json(process.pace.is_paused())
    }

    /// Where the monitor reports to.
    pub(super) fn health_reports(&self) -> &watch::Sender<SlotHealth> {
        &self.health
    }

    /// What the monitor reported last. A copy: who holds the channel's lock and asks for it again waits for ever once a
    /// report waits in between.
    pub(super) fn health(&self) -> SlotHealth {
        self.health.borrow().clone()
    }

    /// How the slot's WAL is now; tells whether that is news.
    pub(super) fn slot_is(&self, risk: SlotRisk) -> bool {
        std::mem::replace(&mut self.lock().slot, risk) != risk
    }

    /// A version runs: the first one, or one that took over.
    pub(super) fn runs(&self, plugin: &str, module: &Module) {
        let mut inner = self.lock();
        let status = inner.plugins.entry(plugin.to_owned()).or_default();
        status.running = Some(module.hash_hex().to_owned());
        status.version = module.manifest().version.clone();
        status.refused = None;
        status.on_probation.clear();
        status.since = super::reload::now();
    }

    /// Only these plugins are in the file now.
    pub(super) fn retain(&self, plugins: &[String]) {
        self.lock().plugins.retain(|name, _| plugins.contains(name));
    }

    /// A version may take over, and is at this step of it. Until the result is dropped.
    pub(super) fn candidate(&self, plugin: &str, hash: &str, step: &'static str) -> Candidate<'_> {
        // One that doesn't run yet isn't listed.
        if let Some(status) = self.lock().plugins.get_mut(plugin) {
            status.candidate = Some((hash.to_owned(), step));
        }
        let plugin = plugin.to_owned();
        Candidate { board: self, plugin }
    }

    /// The running version's probation in a route begins.
    pub(super) fn on_probation(&self, plugin: &str, route: &str) {
        if let Some(status) = self.lock().plugins.get_mut(plugin) {
            status.on_probation.insert(route.to_owned());
        }
    }

    /// It has passed its probation there.
    pub(super) fn passed_probation(&self, plugin: &str, route: &str) {
        if let Some(status) = self.lock().plugins.get_mut(plugin) {
            status.on_probation.remove(route);
        }
    }

    /// The running version broke on probation, and the one before runs again.
    pub(super) fn rolled_back(&self, plugin: &str, module: &Module) {
        self.runs(plugin, module);
        if let Some(status) = self.lock().plugins.get_mut(plugin) {
            status.rollbacks += 1;
        }
    }

    pub(super) fn reloaded(&self, plugin: &str, module: &Module) {
        self.runs(plugin, module);
        if let Some(status) = self.lock().plugins.get_mut(plugin) {
            status.reloads += 1;
        }
        tracing::info!(plugin, version = short(module.hash_hex()), "the plugin was reloaded");
    }

    pub(super) fn refused(&self, plugin: &str, hash: Option<&str>, reason: &str) {
        // First: whoever reads of it in the log finds it in the status.
        self.note_refused(plugin, hash, reason);
        let candidate = hash.map(short).unwrap_or_default();
        tracing::warn!(
            plugin,
            candidate,
            reason,
            "the changed plugin is refused; the version that runs goes on"
        );
    }

    /// The changed plugin can't be taken up for now, and is tried again: told once.
    pub(super) fn put_off(&self, plugin: &str, hash: &str, reason: &str) {
        let refusal = Some((Some(hash.to_owned()), reason.to_owned()));
        let known = self
            .lock()
            .plugins
            .get(plugin)
            .is_some_and(|status| status.refused == refusal);
        if !known {
            tracing::warn!(
                plugin,
                candidate = short(hash),
                reason,
                "the changed plugin can't be taken up for now; the version that runs goes on, and it is tried again"
            );
            self.note_refused(plugin, Some(hash), reason);
        }
    }

    /// As [`Self::refused`], where it has been said.
    pub(super) fn note_refused(&self, plugin: &str, hash: Option<&str>, reason: &str) {
        let mut inner = self.lock();
        let status = inner.plugins.entry(plugin.to_owned()).or_default();
        status.reloads_refused += 1;
        status.refused = Some((hash.map(str::to_owned), reason.to_owned()));
    }

    /// How often each plugin was reloaded, and how often a new version of it was refused.
    pub(super) fn reloads(&self) -> Vec<(String, u64, u64)> {
        let inner = self.lock();
        let of = |(name, plugin): (&String, &PluginStatus)| (name.clone(), plugin.reloads, plugin.reloads_refused);
        inner.plugins.iter().map(of).collect()
    }

    /// The sinks of the present session, by their names.
    pub(super) fn sinks(&self) -> Vec<(String, SinkHandle)> {
        self.lock().sinks.values().cloned().collect()
    }

    /// Ready means progress: the stream runs and no sink is stuck behind a failure. The reason where it isn't.
    pub(super) fn not_ready(&self) -> Option<String> {
        let inner = self.lock();
        if inner.state != "streaming" {
            return Some(format!("{} {}", inner.state, inner.reason).trim_end().to_owned());
        }
        let retrying = inner
            .sinks
            .values()
            .find(|(_, sink)| sink.state() == SinkState::Retrying);
        retrying.map(|(name, _)| format!("sink {name} fails and is tried again"))
    }

    /// Everything, as `rowmill status --output json` shows it.
    pub(super) fn json(&self, process: &Process) -> Value {
        let inner = self.lock();
        let stats = &process.stats;
        let health = self.health();
        let position = stats.position.load(Ordering::Relaxed);
        let sinks: Vec<Value> = inner.sinks.values().map(|(name, sink)| of_sink(name, sink)).collect();
        let plugins: Vec<Value> = inner
            .plugins
            .iter()
            .map(|(name, plugin)| of_plugin(process, name, plugin))
            .collect();
        json!({
            "pipeline": process.name,
            "state": inner.state,
            "reason": inner.reason,
            "slot": {
                "name": process.slot(),
                "active": health.active,
                "wal_status": health.wal_status,
                "safe_wal_size_bytes": health.safe_wal_size,
                "retained_bytes": health.retained,
                "confirmed_flush_lsn": health.confirmed_flush_lsn.map(|lsn| Lsn(lsn).to_string()),
            },
            "position": {
                "server": Lsn(health.wal_lsn).to_string(),
                "transformed": Lsn(position).to_string(),
                "acknowledged": Lsn(self.acknowledged.load(Ordering::Relaxed)).to_string(),
                "lag_bytes": health.wal_lsn.saturating_sub(position),
                "lag_seconds": lag_seconds(process),
            },
            "stream": {
                "protocol": inner.protocol.map(|protocol| protocol.proto_version),
                "in_progress": inner.protocol.is_some_and(|protocol| protocol.streaming),
                "in_progress_off": process.unstreamed.get(),
                "transactions": process.spill.transactions.load(Ordering::Relaxed),
                "memory_bytes": process.spill.memory_bytes.load(Ordering::Relaxed),
                "spilled_bytes": process.spill.disk_bytes.load(Ordering::Relaxed),
                "prepared": process.spill.prepared.load(Ordering::Relaxed),
            },
            "rows": {
                "received": stats.rows_received.load(Ordering::Relaxed),
                "copied": stats.rows_copied.load(Ordering::Relaxed),
                "delivered": stats.rows_delivered.load(Ordering::Relaxed),
                "transactions": stats.transactions.load(Ordering::Relaxed),
            },
            "dead_letters": of_letters(process),
            "copy": inner.copies.totals().json(process.pace.is_paused()),
            "copying": stats.copying.load(Ordering::Acquire),
            "copies": inner.copies.tables_json(),
            "plugins": plugins,
            "states": stats.states.sizes().iter().map(of_state).collect::<Vec<_>>(),
            "sinks": sinks,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version that is about to take over, as long as it is shown.
pub(super) struct Candidate<'a> {
    board: &'a StatusBoard,
    plugin: String,
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        if let Some(status) = self.board.lock().plugins.get_mut(&self.plugin) {
            status.candidate = None;
        }
    }
}

/// How long ago the last transaction that went through the plugins was committed; 0 once the stream has caught up.
pub(super) fn lag_seconds(process: &Process) -> f64 {
    let stats = &process.stats;
    let server = process.status.health().wal_lsn;
    let commit_us = stats.commit_us.load(Ordering::Relaxed).cast_signed();
    if commit_us == 0 || stats.position.load(Ordering::Relaxed) >= server {
        return 0.0;
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_micros() as i64);
    ((now - POSTGRES_EPOCH_US - commit_us) as f64 / 1e6).max(0.0)
}

fn of_letters(process: &Process) -> Value {
    let counts = process.dead_letters.counts();
    json!({
        "letters": counts.letters,
        "blocked_keys": counts.blocked_keys,
        "bytes": counts.bytes,
    })
}

fn of_sink(name: &str, sink: &SinkHandle) -> Value {
    json!({
        "name": name,
        "state": sink.state().name(),
        "rows": sink.rows_delivered(),
        "queued_bytes": sink.queued_bytes(),
        "retries": sink.retries(),
    })
}

fn of_plugin(process: &Process, name: &str, plugin: &PluginStatus) -> Value {
    let config = process.config();
    let routes = config.routes.iter().zip(route_names(&config.routes));
    let routes = routes.filter(|(route, _)| route.plugins.iter().any(|used| used == name));
    let routes: Vec<String> = routes.map(|(_, name)| name).collect();
    let refused = plugin
        .refused
        .as_ref()
        .map(|(hash, reason)| json!({ "hash": hash, "reason": reason }));
    let candidate = plugin.candidate.as_ref();
    let candidate = candidate.map(|(hash, step)| json!({ "hash": hash, "step": step }));
    json!({
        "name": name,
        "version": plugin.version,
        "hash": plugin.running,
        "routes": routes,
        "since": plugin.since,
        "on_probation": !plugin.on_probation.is_empty(),
        "rollbacks": plugin.rollbacks,
        "reloads": plugin.reloads,
        "reloads_refused": plugin.reloads_refused,
        "candidate": candidate,
        "refused": refused,
    })
}

fn of_state((plugin, route, size): &(String, String, StateSize)) -> Value {
    json!({
        "plugin": plugin,
        "route": route,
        "bytes": size.bytes,
        "version": size.version,
        "age_seconds": size.age_seconds(),
    })
}

/// As much of a hash as people read.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::super::run::process;
    use super::*;
    use crate::console::Tail;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[test]
    fn a_plugin_of_two_routes_is_on_probation_until_both_have_passed() {
        let board = StatusBoard::new();
        board.lock().plugins.insert("mask".to_owned(), PluginStatus::default());
        let is_told = || !board.lock().plugins["mask"].on_probation.is_empty();
        board.on_probation("mask", "one");
        board.on_probation("mask", "two");
        board.passed_probation("mask", "one");
        assert!(is_told());
        board.passed_probation("mask", "two");
        assert!(!is_told());
    }

    /// The whole host stood still once: the status held what the monitor reported and asked for it again, while the
    /// next report waited for the first to be let go.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_status_is_told_whatever_is_reported_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name: shop
source: { postgres: { url: postgresql://u@127.0.0.1:1/d, tables: [public.a] } }
routes: [{ tables: [public.a], sinks: [out] }]
sinks: { out: { file: { path: out.jsonl } } }
";
        let config = crate::config::load_text(&folder.path().join("pipeline.yaml"), text, &|_| None).unwrap();
        let process = Arc::new(process(config, Tail::default()).unwrap());
        let is_over = Arc::new(AtomicBool::new(false));
        let (reporting, over) = (Arc::clone(&process), Arc::clone(&is_over));
        let monitor = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                reporting.status.health_reports().send_replace(SlotHealth::default());
            }
        });
        let asking = tokio::task::spawn_blocking(move || (0..20_000).for_each(|_| drop(process.status.json(&process))));
        let told = tokio::time::timeout(Duration::from_secs(60), asking).await;
        is_over.store(true, Ordering::Relaxed);
        // Threads that wait for each other can't be ended: the process is.
        if told.is_err() {
            eprintln!("the status isn't told any more");
            std::process::abort();
        }
        monitor.join().unwrap();
    }
}
