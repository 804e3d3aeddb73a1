//! Metrics that plugins bring themselves: their names are known only once a plugin uses them.

use crate::plugin::{Metric, metrics as metric};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

type Labels = [(&'static str, String); 2];

/// All that plugins have counted since the process began.
#[derive(Debug, Default)]
pub(super) struct GuestTotals(Mutex<BTreeMap<(String, i32), BTreeMap<Labels, Metric>>>);

impl GuestTotals {
    pub fn add(&self, pipeline: &str, plugin: &str, more: &Metric) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = [("pipeline", pipeline.to_owned()), ("plugin", plugin.to_owned())];
        let of_name = all.entry((metric_name(&more.name), more.kind)).or_default();
        match of_name.get_mut(&labels) {
            Some(total) => total.add(more),
            None => {
                of_name.insert(labels, more.clone());
            }
        }
    }
}

impl Collector for GuestTotals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = None;
        for ((name, kind), series) in &*all {
            // One name has one type: of plugins that disagree, the first kind is shown.
            if before == Some(name) {
                continue;
            }
            before = Some(name);
            let kind = match *kind {
                metric::COUNTER => MetricType::Counter,
                metric::GAUGE => MetricType::Gauge,
                _ => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, "Counted by a plugin", None, kind)?;
            for (labels, total) in series {
                let mut encoder = family.encode_family(labels)?;
                match total.kind {
                    metric::COUNTER => ConstCounter::new(total.value).encode(encoder)?,
                    metric::GAUGE => ConstGauge::new(total.value).encode(encoder)?,
                    _ => {
                        let bounds = metric::BUCKETS.into_iter().zip(total.buckets.iter().copied());
                        let above = total.count - total.buckets.iter().sum::<u64>();
                        let buckets: Vec<(f64, u64)> = bounds.chain([(f64::INFINITY, above)]).collect();
                        encoder.encode_histogram::<Labels>(total.value, total.count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `plugin_` and what a metric's name may have.
fn metric_name(name: &str) -> String {
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() || character == '_' {
            character
        } else {
            '_'
        }
    };
    format!("plugin_{}", name.chars().map(allowed).collect::<String>())
}
