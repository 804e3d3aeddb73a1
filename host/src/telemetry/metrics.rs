//! Metrics under `rowmill_`, for Prometheus.
//!
//! Handles are resolved once, when a pipeline starts; whoever knows a number sets it once a second.

use super::build::{VERSION, WASM_ENGINE};
use super::guest::GuestTotals;
use crate::plugin::Metric;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A gauge of positions, sizes and counts, none of which is ever negative.
pub type Level = Gauge<u64, AtomicU64>;

/// A gauge of what has fractions, or no bound: seconds mostly.
pub type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    pipeline: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    pipeline: String,
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    pipeline: String,
    plugin: String,
    outcome: &'static str,
}

/// Declares families with their names and help, and the handles resolved from them.
macro_rules! metrics {
    ($families:ident, $handles:ident, $labels:ty, $about:literal;
     $($name:ident: $type:ty = $metric:literal, $help:literal;)*) => {
        #[derive(Clone, Default)]
        struct $families { $($name: Family<$labels, $type>,)* }

        impl $families {
            fn register(registry: &mut registry::Registry) -> Self {
                let families = Self::default();
                $(registry.register($metric, $help, families.$name.clone());)*
                families
            }

            fn resolve(&self, labels: &$labels) -> $handles {
                $handles { $($name: self.$name.get_or_create_owned(labels),)* }
            }
        }

        #[doc = $about]
        #[derive(Clone, Debug)]
        pub struct $handles { $(#[doc = $help] pub $name: $type,)* }
    };
}

metrics! {
    PipelineFamilies, Metrics, PipelineLabel, "What one pipeline counts, sinks and plugins apart.";
    bytes_received: Counter = "bytes_received", "Bytes received from the replication connection";
    rows_received: Counter = "rows_received", "Rows received from the replication connection";
    transactions_received: Counter = "transactions_received", "Transactions received to their end";
    batches_received: Counter = "batches_received", "Batches that rows were received in";
    rows_copied: Counter = "rows_copied", "Rows copied by the snapshot";
    reconnects: Counter = "source_reconnects", "Times the stream was begun again after a failure";
    lsn_server: Level = "lsn_server", "Where the server's WAL ended when it was last asked, as a number";
    lsn_transformed: Level = "lsn_transformed", "Position that went through the plugins, as a number";
    lsn_acknowledged: Level = "lsn_acknowledged", "Position acknowledged to the server, as a number";
    lag_bytes: Level = "lag_bytes", "Bytes of WAL between the server's end and what is acknowledged";
    lag_seconds: Seconds = "lag_seconds", "Age of the last commit that went through the plugins; 0 when caught up";
    slot_retained_bytes: Level = "slot_retained_bytes", "Bytes of WAL that the server keeps for the slot";
    slot_wal_status: Level = "slot_wal_status", "wal_status of the slot: 1 reserved, 2 extended, 3 unreserved, 4 lost; 0 where it isn't known";
    slot_safe_wal_bytes: Seconds = "slot_safe_wal_bytes", "Bytes of WAL that may still be written before the slot is lost; +Inf without a limit";
    slot_lost: Level = "slot_lost", "1 once the server has given away WAL that the slot stood for";
    spill_transactions: Level = "spill_transactions", "Transactions in progress that are received already";
    prepared_transactions: Level = "prepared_transactions", "Transactions that are prepared and kept until they commit";
    spilled_bytes: Level = "spilled_bytes", "Bytes on disk of transactions in progress, of prepared ones, and of changes that wait for the copy of their table";
    state_bytes: Level = "state_bytes", "Bytes of state that the plugins gave at the last checkpoint";
    state_age_seconds: Seconds = "state_age_seconds", "Age of the last checkpoint of the plugins' state; 0 without one";
    checkpoints: Counter = "checkpoints", "Times the plugins were asked for their state";
    dead_letters: Level = "dead_letters", "Changes that stand in dead letters";
    dead_letter_blocked_keys: Level = "dead_letter_blocked_keys", "Keys whose changes wait behind a dead letter";
    dead_letter_bytes: Level = "dead_letter_bytes", "Bytes of the dead letters' file";
    dead_letters_set_aside: Counter = "dead_letters_set_aside", "Changes set aside";
    dead_letters_replayed: Counter = "dead_letters_replayed", "Dead letters delivered in the end";
    dead_letters_dropped: Counter = "dead_letters_dropped", "Dead letters dropped by hand";
    dead_letters_expired: Counter = "dead_letters_expired", "Dead letters dropped for their age";
    copying: Level = "copying", "1 while tables are being copied";
    copy_paused: Level = "copy_paused", "1 while the copy is paused";
    copy_rows: Level = "copy_rows", "Rows of the tables under copy that have been copied, by earlier runs too";
    copy_bytes: Level = "copy_bytes", "Bytes of the tables under copy that have been copied, by earlier runs too";
    copy_rows_estimated: Level = "copy_rows_estimated", "Rows of the tables under copy, as the statistics know";
    copy_eta_seconds: Seconds = "copy_eta_seconds", "Time until all is copied; 0 where that can't be told";
    ready: Level = "ready", "1 while the pipeline makes progress";
}

metrics! {
    SinkFamilies, SinkMetrics, SinkLabels, "What is counted for one sink.";
    rows_delivered: Counter = "rows_delivered", "Rows delivered to the sink, those sent again counted again";
    retries: Counter = "sink_retries", "Times the sink was opened again after a failure";
    rows_missing: Counter = "sink_rows_missing", "Updates and deletes of rows that the sink didn't have";
    conflicts: Counter = "sink_conflicts", "Changes skipped as the sink had another row of the same key";
    queue_bytes: Level = "sink_queue_bytes", "Bytes in the queue before the sink";
    running: Level = "sink_running", "1 while the sink is open and takes rows";
}

/// What is counted for one plugin.
#[derive(Clone, Debug)]
pub struct PluginMetrics {
    /// Versions taken up while running.
    pub reloads: Counter,
    /// Versions refused, the one before kept.
    pub reloads_refused: Counter,
}

/// All metrics of the process.
pub struct Registry {
    registry: registry::Registry,
    pipelines: PipelineFamilies,
    sinks: SinkFamilies,
    reloads: Family<ReloadLabels, Counter>,
    guests: Arc<GuestTotals>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    pub fn new() -> Self {
        let mut registry = registry::Registry::with_prefix("rowmill");
        let build = Info::new([("version", VERSION), ("wasm_engine", WASM_ENGINE)]);
        registry.register("build", "What this binary is made of", build);
        let reloads = Family::default();
        registry.register(
            "plugin_reloads",
            "New versions of a plugin, by outcome",
            reloads.clone(),
        );
        let guests = Arc::<GuestTotals>::default();
        registry.register_collector(Box::new(Arc::clone(&guests)));
        Self {
            pipelines: PipelineFamilies::register(&mut registry),
            sinks: SinkFamilies::register(&mut registry),
            registry,
            reloads,
            guests,
        }
    }

    /// The handles of a pipeline.
    pub fn pipeline(&self, pipeline: &str) -> Metrics {
        let pipeline = pipeline.to_owned();
        self.pipelines.resolve(&PipelineLabel { pipeline })
    }

    pub fn sink(&self, pipeline: &str, sink: &str) -> SinkMetrics {
        self.sinks.resolve(&sink_labels(pipeline, sink))
    }

    pub fn plugin(&self, pipeline: &str, plugin: &str) -> PluginMetrics {
        let reloads = |outcome| {
            self.reloads.get_or_create_owned(&ReloadLabels {
                pipeline: pipeline.to_owned(),
                plugin: plugin.to_owned(),
                outcome,
            })
        };
        PluginMetrics {
            reloads: reloads("ok"),
            reloads_refused: reloads("refused"),
        }
    }

    /// Adds what a plugin has counted itself.
    pub fn guest(&self, pipeline: &str, plugin: &str, metric: &Metric) {
        self.guests.add(pipeline, plugin, metric);
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing into a String can't fail; what is there is shown.
        let _ = text::encode(&mut encoded, &self.registry);
        encoded
    }
}

fn sink_labels(pipeline: &str, sink: &str) -> SinkLabels {
    SinkLabels {
        pipeline: pipeline.to_owned(),
        sink: sink.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_count_where_their_labels_say() {
        let registry = Registry::new();
        let metrics = registry.pipeline("shop");
        metrics.rows_received.inc_by(3);
        metrics.lsn_transformed.set(0x16B_3748);
        registry.sink("shop", "feed").rows_delivered.inc_by(2);
        registry.plugin("shop", "mask").reloads_refused.inc();
        let text = registry.encode();
        for line in [
            "rowmill_rows_received_total{pipeline=\"shop\"} 3",
            "rowmill_lsn_transformed{pipeline=\"shop\"} 23803720",
            "rowmill_rows_delivered_total{pipeline=\"shop\",sink=\"feed\"} 2",
            "rowmill_plugin_reloads_total{pipeline=\"shop\",plugin=\"mask\",outcome=\"refused\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("wasm_engine=\"wasmtime 48.0.8\""), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_plugins_count_stands_under_their_name() {
        let registry = Registry::new();
        let metric = |kind, name: &str, values: &[f64]| {
            let mut metric = Metric::new(kind, name);
            values.iter().for_each(|value| metric.observe(*value));
            metric
        };
        registry.guest("shop", "mask", &metric(0, "rows masked", &[2.0]));
        registry.guest("shop", "mask", &metric(0, "rows masked", &[3.0]));
        registry.guest("shop", "mask", &metric(1, "size", &[7.0, 4.0]));
        registry.guest("shop", "mask", &metric(2, "length", &[0.05, 5e9]));
        let text = registry.encode();
        for line in [
            "rowmill_plugin_rows_masked_total{pipeline=\"shop\",plugin=\"mask\"} 5.0",
            "rowmill_plugin_size{pipeline=\"shop\",plugin=\"mask\"} 4.0",
            "rowmill_plugin_length_count{pipeline=\"shop\",plugin=\"mask\"} 2",
            "rowmill_plugin_length_bucket{le=\"0.1\",pipeline=\"shop\",plugin=\"mask\"} 1",
            "rowmill_plugin_length_bucket{le=\"+Inf\",pipeline=\"shop\",plugin=\"mask\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_metric_is_described_once() {
        let registry = Registry::new();
        for pipeline in ["a", "b"] {
            registry.pipeline(pipeline);
            registry.sink(pipeline, "s");
        }
        let text = registry.encode();
        let mut types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
    }
}
