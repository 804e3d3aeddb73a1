//! What the demo knows of its pipeline at a moment, as terminal and summary need it.

use super::changes::Seen;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how long rates are measured.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// A table's copy.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub table: String,
    pub rows: u64,
    pub done: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PluginView {
    pub name: String,
    pub hash: String,
    pub reloads: u64,
    /// Why the newest file isn't what runs.
    pub refused: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct SinkView {
    pub name: String,
    pub rows: u64,
    pub state: String,
}

/// Numbers of the pipeline, from its status.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub state: String,
    pub copied: u64,
    pub streamed: u64,
    pub acknowledged: u64,
    pub copies: Vec<Copied>,
    pub plugins: Vec<PluginView>,
    pub sinks: Vec<SinkView>,
    pub seen: Seen,
}

impl View {
    /// `status` is one pipeline's, as the console shows it.
    pub(super) fn new(status: &Value, seen: Seen) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let acknowledged = status["position"]["acknowledged"].as_str();
        let acknowledged = acknowledged.and_then(|lsn| lsn.parse::<crate::batch::Lsn>().ok());
        Self {
            state: text(&status["state"]),
            copied: number(&status["rows"]["copied"]),
            streamed: number(&status["rows"]["received"]),
            acknowledged: acknowledged.map_or(0, |lsn| lsn.0),
            copies: list(&status["copies"])
                .iter()
                .map(|copy| Copied {
                    table: text(&copy["table"]),
                    rows: number(&copy["rows"]),
                    done: copy["done"] == true,
                })
                .collect(),
            plugins: list(&status["plugins"])
                .iter()
                .map(|plugin| PluginView {
                    name: text(&plugin["name"]),
                    hash: text(&plugin["hash"]).chars().take(12).collect(),
                    reloads: number(&plugin["reloads"]),
                    refused: plugin["refused"]["reason"].as_str().map(str::to_owned),
                })
                .collect(),
            sinks: list(&status["sinks"])
                .iter()
                .map(|sink| SinkView {
                    name: text(&sink["name"]),
                    rows: number(&sink["rows"]),
                    state: text(&sink["state"]),
                })
                .collect(),
            seen,
        }
    }

    pub(super) fn rows_in(&self) -> u64 {
        self.copied + self.streamed
    }

    /// Rows at the sink that has most; the example's sinks get the same.
    pub(super) fn rows_out(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.rows).max().unwrap_or(0)
    }

    /// Rows that went in and not out, kept back by a filter or still on their way.
    pub(super) fn kept_back(&self) -> u64 {
        self.rows_in().saturating_sub(self.rows_out())
    }

    pub(super) fn is_copied(&self) -> bool {
        !self.copies.is_empty() && self.copies.iter().all(|copy| copy.done)
    }

    pub(super) fn reloads(&self, plugin: &str) -> u64 {
        let plugin = self.plugins.iter().find(|found| found.name == plugin);
        plugin.map_or(0, |plugin| plugin.reloads)
    }
}

/// Rows in and out per second of late.
#[derive(Default)]
pub(super) struct Rates(VecDeque<(Instant, u64, u64)>);

impl Rates {
    pub(super) fn add(&mut self, view: &View) {
        let now = Instant::now();
        self.0.push_back((now, view.rows_in(), view.rows_out()));
        while self.0.front().is_some_and(|(at, ..)| now - *at > RATE_WINDOW) {
            self.0.pop_front();
        }
    }

    pub(super) fn per_second(&self) -> (u64, u64) {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return (0, 0);
        };
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds == 0.0 {
            return (0, 0);
        }
        let rate = |from: u64, to: u64| (to.saturating_sub(from) as f64 / seconds).round() as u64;
        (rate(first.1, last.1), rate(first.2, last.2))
    }
}
