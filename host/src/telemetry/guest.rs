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

/// All that plugins have counted since the process began. Each has so many names, however many instances and versions there
/// were of it: the first ones.
#[derive(Debug, Default)]
pub(super) struct GuestTotals(Mutex<BTreeMap<(String, i32), BTreeMap<Labels, Metric>>>);

impl GuestTotals {
    pub fn add(&self, pipeline: &str, plugin: &str, more: &Metric) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = [("pipeline", pipeline.to_owned()), ("plugin", plugin.to_owned())];
        let name = (metric_name(&more.name), more.kind);
        if let Some(total) = all.get_mut(&name).and_then(|of_name| of_name.get_mut(&labels)) {
            return total.add(more);
        }
        if all.values().filter(|of_name| of_name.contains_key(&labels)).count() < metric::METRICS_MAX {
            all.entry(name).or_default().insert(labels, more.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_a_hundred_names_whatever_its_instances_bring() {
        let totals = GuestTotals::default();
        let count = |plugin: &str, name: &str| {
            let mut one = Metric::new(metric::COUNTER, name);
            one.observe(1.0);
            totals.add("orders", plugin, &one);
        };
        count("other", "rows");
        (0..1_000).for_each(|at| count("many", &format!("n{at}")));
        (0..1_000).for_each(|at| count("many", &format!("n{}", at % 100)));
        count("other", "seen");
        let all = totals.0.lock().unwrap();
        let of = |plugin: &str| {
            let labels = [("pipeline", "orders".to_owned()), ("plugin", plugin.to_owned())];
            let series = all
                .values()
                .filter_map(|of_name| of_name.get(&labels).map(|total| total.value));
            series.collect::<Vec<_>>()
        };
        assert_eq!(of("many"), [11.0; 100]);
        assert_eq!(of("other"), [1.0; 2]);
        assert_eq!(all.len(), 102, "no name without a plugin that has counted it");
    }
}
