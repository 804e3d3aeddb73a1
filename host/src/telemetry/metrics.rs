//! Metrics under `rowmill_`, for Prometheus.
//!
//! Handles are resolved once, when a pipeline starts; on the row path a metric is one atomic addition.

use super::build::{VERSION, WASM_ENGINE};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry;
use std::sync::atomic::AtomicU64;

/// A gauge of positions, sizes and counts, none of which is ever negative.
pub type Level = Gauge<u64, AtomicU64>;

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
struct PluginLabels {
    pipeline: String,
    plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    pipeline: String,
    plugin: String,
    outcome: &'static str,
}

/// From 1 ms to 65 s, each bound twice the one before.
fn seconds() -> Histogram {
    Histogram::new((0..17).map(|power| 0.001 * f64::from(1_u32 << power)))
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
    messages_received: Counter = "messages_received", "Messages received from the replication connection";
    rows_decoded: Counter = "rows_decoded", "Rows decoded into batches";
    transactions_decoded: Counter = "transactions_decoded", "Transactions whose commit was decoded";
    batches_decoded: Counter = "batches_decoded", "Batches decoded";
    rows_transformed: Counter = "rows_transformed", "Rows that went through plugins";
    rows_filtered: Counter = "rows_filtered", "Rows that plugins kept back";
    reconnects: Counter = "source_reconnects", "Times the replication connection was opened again";
    snapshot_rows: Counter = "snapshot_rows", "Rows copied by the snapshot";
    snapshot_units_merged: Level = "snapshot_units_merged", "Units of the snapshot merged into the stream";
    snapshot_units_total: Level = "snapshot_units", "Units of the snapshot in all";
    lsn_received: Level = "lsn_received", "Position received, as a number";
    lsn_durable: Level = "lsn_durable", "Position durable at every sink, as a number";
    lsn_acknowledged: Level = "lsn_acknowledged", "Position acknowledged to the server, as a number";
    lag_bytes: Level = "lag_bytes", "Bytes of WAL between the server's end and what is acknowledged";
    ready: Level = "ready", "1 while the pipeline makes progress";
}

metrics! {
    SinkFamilies, SinkMetrics, SinkLabels, "What is counted for one sink.";
    rows_delivered: Counter = "rows_delivered", "Rows delivered to the sink";
    bytes_delivered: Counter = "bytes_delivered", "Bytes delivered to the sink";
    rows_durable: Counter = "rows_durable", "Rows durable at the sink";
    retries: Counter = "sink_retries", "Times the sink was opened again after a failure";
    lsn_durable: Level = "sink_lsn_durable", "Position durable at the sink, as a number";
    lag_bytes: Level = "sink_lag_bytes", "Bytes of WAL between what is received and what is durable at the sink";
    queue_bytes: Level = "sink_queue_bytes", "Bytes in the queue before the sink";
}

metrics! {
    PluginFamilies, PluginMetricsCounters, PluginLabels, "What is counted for one plugin, reloads apart.";
    rows_in: Counter = "plugin_rows", "Rows handed to the plugin";
    faults: Counter = "plugin_faults", "Times the plugin trapped, ran out of a limit or answered wrongly";
    cpu_nanos: Counter = "plugin_nanoseconds", "Nanoseconds spent in the plugin";
}

/// What is counted for one plugin.
#[derive(Clone, Debug)]
pub struct PluginMetrics {
    pub rows_in: Counter,
    pub faults: Counter,
    pub cpu_nanos: Counter,
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
    plugins: PluginFamilies,
    reloads: Family<ReloadLabels, Counter>,
    latency: Family<SinkLabels, Histogram, fn() -> Histogram>,
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
        let latency: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(seconds);
        registry.register(
            "commit_to_durable_seconds",
            "From the commit at the source until it is durable at the sink",
            latency.clone(),
        );
        Self {
            pipelines: PipelineFamilies::register(&mut registry),
            sinks: SinkFamilies::register(&mut registry),
            plugins: PluginFamilies::register(&mut registry),
            registry,
            reloads,
            latency,
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

    /// Seconds from commit to durable, observed once per transaction or batch.
    pub fn latency(&self, pipeline: &str, sink: &str) -> Histogram {
        self.latency.get_or_create_owned(&sink_labels(pipeline, sink))
    }

    pub fn plugin(&self, pipeline: &str, plugin: &str) -> PluginMetrics {
        let labels = PluginLabels {
            pipeline: pipeline.to_owned(),
            plugin: plugin.to_owned(),
        };
        let reloads = |outcome| {
            self.reloads.get_or_create_owned(&ReloadLabels {
                pipeline: pipeline.to_owned(),
                plugin: plugin.to_owned(),
                outcome,
            })
        };
        let counters = self.plugins.resolve(&labels);
        PluginMetrics {
            rows_in: counters.rows_in,
            faults: counters.faults,
            cpu_nanos: counters.cpu_nanos,
            reloads: reloads("ok"),
            reloads_refused: reloads("refused"),
        }
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
        metrics.rows_decoded.inc_by(3);
        metrics.lsn_received.set(0x16B_3748);
        registry.sink("shop", "feed").rows_delivered.inc_by(2);
        registry.plugin("shop", "mask").reloads_refused.inc();
        registry.latency("shop", "feed").observe(0.003);
        let text = registry.encode();
        for line in [
            "rowmill_rows_decoded_total{pipeline=\"shop\"} 3",
            "rowmill_lsn_received{pipeline=\"shop\"} 23803720",
            "rowmill_rows_delivered_total{pipeline=\"shop\",sink=\"feed\"} 2",
            "rowmill_plugin_reloads_total{pipeline=\"shop\",plugin=\"mask\",outcome=\"refused\"} 1",
            "rowmill_commit_to_durable_seconds_bucket{le=\"0.004\",pipeline=\"shop\",sink=\"feed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("wasm_engine=\"wasmtime 48.0.8\""), "{text}");
        assert!(text.ends_with("# EOF\n"));
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
