//! What the pipeline knows of itself, brought into its metrics once a second: nothing of it is on the way of a row.

use super::process::Process;
use super::run::Running;
use super::status::lag_seconds;
use super::stop::{Stop, StopRequest};
use crate::sink::driver::{SinkHandle, SinkState};
use crate::telemetry::{Metrics, PluginMetrics, Registry, SinkMetrics};
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shorter than any interval at which metrics are asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often the log says how far a copy has come.
const COPY_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the metrics of a pipeline up to date until it is told to stop, and brings them up to date once more then.
pub fn feed_metrics(
    running: &Running,
    registry: &Arc<Registry>,
    mut stop: StopRequest,
) -> impl Future<Output = ()> + Send + use<> {
    let mut feed = Feed::new(Arc::clone(&running.process), Arc::clone(registry));
    async move {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = Instant::now();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    feed.update();
                    if said.elapsed() >= COPY_INTERVAL {
                        said = Instant::now();
                        feed.say_copy();
                    }
                }
                () = stop.requested(Stop::Drain) => break,
            }
        }
        feed.update();
    }
}

/// The handles, resolved once, and what was counted into them so far.
struct Feed {
    process: Arc<Process>,
    registry: Arc<Registry>,
    metrics: Metrics,
    sinks: HashMap<String, SinkFeed>,
    plugins: HashMap<String, PluginMetrics>,
}

struct SinkFeed {
    metrics: SinkMetrics,
    /// The driver of the session that was seen last, with what was counted of it. Each session has its own.
    last: Option<SinkHandle>,
    rows: u64,
    retries: u64,
    missing: u64,
    conflicts: u64,
}

impl Feed {
    fn new(process: Arc<Process>, registry: Arc<Registry>) -> Self {
        let name = process.name.clone();
        let of_sink = |sink: &crate::config::Sink| (sink.name.clone(), SinkFeed::new(&registry, &name, &sink.name));
        let of_plugin = |plugin: &crate::config::Plugin| (plugin.name.clone(), registry.plugin(&name, &plugin.name));
        Self {
            sinks: process.config().sinks.iter().map(of_sink).collect(),
            plugins: process.config().plugins.iter().map(of_plugin).collect(),
            metrics: registry.pipeline(&name),
            process,
            registry,
        }
    }

    fn update(&mut self) {
        self.pipeline();
        for (name, handle) in self.process.status.sinks() {
            let of_sink = || SinkFeed::new(&self.registry, &self.process.name, &name);
            self.sinks.entry(name.clone()).or_insert_with(of_sink).update(handle);
        }
        for (plugin, metric) in self.process.metrics.take() {
            self.registry.guest(&self.process.name, &plugin, &metric);
        }
        for (name, reloads, refused) in self.process.status.reloads() {
            let of_plugin = || self.registry.plugin(&self.process.name, &name);
            let plugin = self.plugins.entry(name.clone()).or_insert_with(of_plugin);
            raise(&plugin.reloads, reloads);
            raise(&plugin.reloads_refused, refused);
        }
    }

    fn say_copy(&self) {
        if let Some(copy) = self.process.status.copying() {
            copy.say(self.process.pace.is_paused());
        }
    }

    fn pipeline(&self) {
        let (metrics, process) = (&self.metrics, &self.process);
        let (stats, status) = (&process.stats, &process.status);
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        raise(&metrics.bytes_received, of(&stats.bytes_received));
        raise(&metrics.rows_received, of(&stats.rows_received));
        raise(&metrics.transactions_received, of(&stats.transactions));
        raise(&metrics.batches_received, of(&stats.batches));
        raise(&metrics.rows_copied, of(&stats.rows_copied));
        raise(&metrics.reconnects, of(&status.reconnects));
        let (transformed, acknowledged) = (of(&stats.position), of(&status.acknowledged));
        let health = status.health();
        // Positions are asked for less often than they move.
        let server = health.wal_lsn.max(transformed);
        metrics.lsn_server.set(server);
        metrics.lsn_transformed.set(transformed);
        metrics.lsn_acknowledged.set(acknowledged);
        // Before the first acknowledgement there is nothing to measure from.
        let lag = if acknowledged == 0 {
            0
        } else {
            server.saturating_sub(acknowledged)
        };
        metrics.lag_bytes.set(lag);
        metrics.lag_seconds.set(lag_seconds(process));
        let retained = health.retained.and_then(|bytes| u64::try_from(bytes).ok());
        metrics.slot_retained_bytes.set(retained.unwrap_or(0));
        let wal_status = health.wal_status.as_deref();
        metrics.slot_wal_status.set(match wal_status {
            Some("reserved") => 1,
            Some("extended") => 2,
            Some("unreserved") => 3,
            Some("lost") => 4,
            _ => 0,
        });
        let safe_bytes = health.safe_wal_size.map_or(f64::INFINITY, |bytes| bytes as f64);
        metrics.slot_safe_wal_bytes.set(safe_bytes);
        metrics.slot_lost.set((wal_status == Some("lost")).into());
        metrics.spill_transactions.set(of(&process.spill.transactions));
        metrics.prepared_transactions.set(of(&process.spill.prepared));
        metrics.spilled_bytes.set(of(&process.spill.disk_bytes));
        let sizes = stats.states.sizes();
        metrics
            .state_bytes
            .set(sizes.iter().map(|(_, _, size)| size.bytes).sum());
        let taken = sizes.iter().map(|(_, _, size)| size.age_seconds());
        metrics.state_age_seconds.set(taken.fold(0.0, f64::max));
        raise(&metrics.checkpoints, of(&stats.states.checkpoints));
        let letters = process.dead_letters.counts();
        metrics.dead_letters.set(letters.letters as u64);
        metrics.dead_letter_blocked_keys.set(letters.blocked_keys as u64);
        metrics.dead_letter_bytes.set(letters.bytes);
        raise(&metrics.dead_letters_set_aside, letters.set_aside);
        raise(&metrics.dead_letters_replayed, letters.replayed);
        raise(&metrics.dead_letters_dropped, letters.dropped);
        raise(&metrics.dead_letters_expired, letters.expired);
        let copy = status.copying().unwrap_or_default();
        metrics.copy_rows.set(copy.rows);
        metrics.copy_bytes.set(copy.bytes);
        metrics.copy_rows_estimated.set(copy.rows_estimated);
        metrics.copy_eta_seconds.set(copy.eta_seconds.unwrap_or(0.0));
        metrics.copy_paused.set(process.pace.is_paused().into());
        metrics.copying.set(stats.copying.load(Ordering::Relaxed).into());
        metrics.ready.set(status.not_ready().is_none().into());
    }
}

impl SinkFeed {
    fn new(registry: &Registry, pipeline: &str, sink: &str) -> Self {
        Self {
            metrics: registry.sink(pipeline, sink),
            last: None,
            rows: 0,
            retries: 0,
            missing: 0,
            conflicts: 0,
        }
    }

    fn update(&mut self, handle: SinkHandle) {
        if let Some(last) = self.last.take()
            && !last.is_same(&handle)
        {
            self.count(&last);
            (self.rows, self.retries, self.missing, self.conflicts) = (0, 0, 0, 0);
        }
        self.count(&handle);
        self.metrics.queue_bytes.set(handle.queued_bytes() as u64);
        self.metrics.running.set((handle.state() == SinkState::Running).into());
        self.last = Some(handle);
    }

    fn count(&mut self, handle: &SinkHandle) {
        let (rows, retries) = (handle.rows_delivered(), handle.retries());
        self.metrics.rows_delivered.inc_by(rows.saturating_sub(self.rows));
        self.metrics.retries.inc_by(retries.saturating_sub(self.retries));
        let passed_over = handle.passed_over();
        let missing = passed_over.missing.load(Ordering::Relaxed);
        let conflicts = passed_over.conflicts.load(Ordering::Relaxed);
        self.metrics.rows_missing.inc_by(missing.saturating_sub(self.missing));
        self.metrics.conflicts.inc_by(conflicts.saturating_sub(self.conflicts));
        (self.rows, self.retries) = (rows, retries);
        (self.missing, self.conflicts) = (missing, conflicts);
    }
}

/// Brings a counter to what something that only grows has come to.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
