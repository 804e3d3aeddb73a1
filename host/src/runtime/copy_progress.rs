//! How far the copies have come, for people: rows, bytes, the rate, and when they will be through.

use crate::snapshot::TableProgress;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is that of about the last minute: sinks that hesitate don't make it jump.
const WINDOW: usize = 60;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The tables under copy, and what their rows were lately.
#[derive(Debug, Default)]
pub(super) struct CopyProgress {
    tables: Vec<TableProgress>,
    samples: VecDeque<(Instant, u64)>,
}

/// All tables together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CopyTotals {
    pub rows: u64,
    pub bytes: u64,
    /// As far as the statistics know; 0 where they know of no table.
    pub rows_estimated: u64,
    pub rows_per_second: f64,
    /// Seconds until it is through; `None` where that can't be told.
    pub eta_seconds: Option<f64>,
}

impl CopyProgress {
    pub(super) fn set(&mut self, tables: Vec<TableProgress>, now: Instant) {
        let rows = tables.iter().map(|table| table.rows).sum();
        let went_back = self.samples.back().is_some_and(|(_, before)| rows < *before);
        if went_back || tables.len() != self.tables.len() {
            self.samples.clear();
        }
        self.tables = tables;
        let is_due = |(last, _): &(Instant, u64)| now.duration_since(*last) >= SAMPLE_INTERVAL;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back((now, rows));
            if self.samples.len() > WINDOW {
                self.samples.pop_front();
            }
        }
    }

    pub(super) fn totals(&self) -> CopyTotals {
        let sum = |of: fn(&TableProgress) -> u64| self.tables.iter().map(of).sum::<u64>();
        let rows = sum(|table| table.rows);
        let rate = match (self.samples.front(), self.samples.back()) {
            (Some((first, before)), Some((last, after))) if last > first => {
                after.saturating_sub(*before) as f64 / last.duration_since(*first).as_secs_f64()
            }
            _ => 0.0,
        };
        let left = sum(left);
        let is_known = self
            .tables
            .iter()
            .all(|table| table.done || table.rows_estimated.is_some());
        let eta = if left == 0 { 0.0 } else { left as f64 / rate };
        CopyTotals {
            rows,
            bytes: sum(|table| table.bytes),
            rows_estimated: sum(|table| rows_expected(table).unwrap_or(0)),
            rows_per_second: rate,
            eta_seconds: (is_known && eta.is_finite()).then_some(eta),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.tables.iter().all(|table| table.done)
    }

    pub(super) fn tables_json(&self) -> Vec<Value> {
        self.tables.iter().map(of_table).collect()
    }
}

impl CopyTotals {
    pub(super) fn json(&self, paused: bool) -> Value {
        json!({
            "paused": paused,
            "rows": self.rows,
            "bytes": self.bytes,
            "rows_estimated": self.rows_estimated,
            "rows_per_second": self.rows_per_second.round() as u64,
            "eta_seconds": self.eta_seconds.filter(|_| !paused).map(|eta| eta.ceil() as u64),
        })
    }

    /// A line for the log.
    pub(super) fn say(&self, paused: bool) {
        let percent = (self.rows * 100)
            .checked_div(self.rows_estimated)
            .map(|percent| percent.min(99));
        let eta = self
            .eta_seconds
            .filter(|_| !paused)
            .map(|eta| format!("{}s", eta.ceil()));
        tracing::info!(
            rows = self.rows,
            bytes = self.bytes,
            percent = percent.map(tracing::field::display),
            rows_per_second = self.rows_per_second.round() as u64,
            eta = eta.map(tracing::field::display),
            "{}",
            if paused { "the copy is paused" } else { "copying" }
        );
    }
}

/// Statistics are old: a table has at least what was copied of it, and a copied one exactly that.
fn rows_expected(table: &TableProgress) -> Option<u64> {
    match table.done {
        true => Some(table.rows),
        false => table.rows_estimated.map(|rows| rows.max(table.rows)),
    }
}

fn left(table: &TableProgress) -> u64 {
    rows_expected(table).unwrap_or(0).saturating_sub(table.rows)
}

fn of_table(table: &TableProgress) -> Value {
    json!({
        "table": table.table,
        "rows": table.rows,
        "rows_estimated": rows_expected(table),
        "bytes": table.bytes,
        "units": table.units,
        "restarts": table.restarts,
        "done": table.done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: u64, rows_estimated: Option<u64>, done: bool) -> TableProgress {
        TableProgress {
            oid: 1,
            table: "public.orders".to_owned(),
            rows,
            bytes: rows * 10,
            rows_estimated,
            units: 1,
            restarts: 0,
            done,
        }
    }

    #[test]
    fn the_rate_of_the_last_minute_tells_how_long_it_takes() {
        let (mut progress, begun) = (CopyProgress::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        progress.set(vec![table(500, Some(9000), false), table(500, Some(10), true)], at(0));
        assert_eq!(progress.totals().eta_seconds, None, "no rate yet");
        for second in 1..=100 {
            progress.set(
                vec![table(500 + 50 * second, Some(9000), false), table(500, Some(10), true)],
                at(second),
            );
        }
        let totals = progress.totals();
        assert_eq!((totals.rows, totals.bytes, totals.rows_estimated), (6000, 60_000, 9500));
        assert_eq!((totals.rows_per_second, totals.eta_seconds), (50.0, Some(70.0)));
        assert_eq!(
            totals.json(true)["eta_seconds"],
            Value::Null,
            "a paused copy has no end"
        );
        assert_eq!(totals.json(false)["eta_seconds"], 70);
    }

    #[test]
    fn a_table_without_statistics_leaves_the_end_open() {
        let (mut progress, begun) = (CopyProgress::default(), Instant::now());
        progress.set(vec![table(0, None, false)], begun);
        progress.set(vec![table(10, None, false)], begun + Duration::from_secs(1));
        assert_eq!(progress.totals().eta_seconds, None);
        progress.set(vec![table(20, Some(5), true)], begun + Duration::from_secs(2));
        assert_eq!(progress.totals().eta_seconds, Some(0.0));
    }
}
