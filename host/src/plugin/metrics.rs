//! What plugins count themselves, on its way to whoever shows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Upper bounds of a histogram's buckets: powers of ten, as nothing is known of what a plugin measures.
pub const BUCKETS: [f64; 13] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Names that a plugin may use, those of its instances together. What is beyond is passed over.
pub const METRICS_MAX: usize = 100;
/// A counter, of which the sum counts.
pub const COUNTER: i32 = 0;
/// A gauge, of which the last value counts.
pub const GAUGE: i32 = 1;
/// A histogram.
pub const HISTOGRAM: i32 = 2;

/// A metric of a plugin, since it was last taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: String,
    /// [`COUNTER`], [`GAUGE`] or [`HISTOGRAM`].
    pub kind: i32,
    /// The sum, or a gauge's last value.
    pub value: f64,
    pub count: u64,
    /// How many values of a histogram lie in each of [`BUCKETS`], the bounds included; none for others.
    pub buckets: Vec<u64>,
}

impl Metric {
    pub(crate) fn new(kind: i32, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            value: 0.0,
            count: 0,
            buckets: vec![0; if kind == HISTOGRAM { BUCKETS.len() } else { 0 }],
        }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        self.value = if self.kind == GAUGE { value } else { self.value + value };
        self.count += 1;
        if let Some(at) = BUCKETS.iter().position(|bound| value <= *bound)
            && let Some(bucket) = self.buckets.get_mut(at)
        {
            *bucket += 1;
        }
    }

    /// Adds what was counted after this.
    pub fn add(&mut self, later: &Self) {
        self.value = if self.kind == GAUGE {
            later.value
        } else {
            self.value + later.value
        };
        self.count += later.count;
        self.buckets
            .iter_mut()
            .zip(&later.buckets)
            .for_each(|(sum, more)| *sum += more);
    }
}

/// Collects from several lanes what one reader takes.
#[derive(Debug, Default)]
pub struct GuestMetrics(Mutex<BTreeMap<(String, i32, String), Metric>>);

impl GuestMetrics {
    pub fn add(&self, plugin: &str, metric: Metric) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (plugin.to_owned(), metric.kind, metric.name.clone());
        match all.get_mut(&key) {
            Some(known) => known.add(&metric),
            None => {
                all.insert(key, metric);
            }
        }
    }

    /// What came in since the last time, with the plugin's name.
    pub fn take(&self) -> Vec<(String, Metric)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *all).into_iter();
        taken.map(|((plugin, _, _), metric)| (plugin, metric)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_add_up() {
        let all = GuestMetrics::default();
        for value in [0.5, 3.0] {
            for kind in [COUNTER, GAUGE, HISTOGRAM] {
                let mut metric = Metric::new(kind, "size");
                metric.observe(value);
                all.add("p", metric);
            }
        }
        let taken = all.take();
        let values: Vec<_> = taken.iter().map(|(_, metric)| (metric.kind, metric.value)).collect();
        assert_eq!(values, [(COUNTER, 3.5), (GAUGE, 3.0), (HISTOGRAM, 3.5)]);
        assert_eq!((taken[2].1.buckets[6], taken[2].1.buckets[7]), (1, 1));
        assert!(all.take().is_empty());
    }
}
