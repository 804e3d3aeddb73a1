//! What has been shown, in numbers.

use super::page::{grouped, millis};
use super::swap::{FIRST, Phase, SECOND};
use super::verify::{Feed, Verified};
use super::view::View;
use serde_json::{Value, json};
use std::time::Duration;

/// The end of a demo.
#[derive(Debug)]
pub struct Summary {
    pub(super) elapsed: Duration,
    pub(super) view: View,
    pub(super) phase: Phase,
    /// `None` where plugins were changed by hand, so that nobody knows what should have come out.
    pub(super) verified: Option<Verified>,
    pub(super) feed: Feed,
}

impl Summary {
    fn reloads(&self) -> u64 {
        self.view.plugins.iter().map(|plugin| plugin.reloads).sum()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let verified = self.verified.as_ref();
        let verified = verified.map(|found| json!({ "customers": found.customers, "orders": found.orders }));
        json!({
            "seconds": self.elapsed.as_secs_f64(),
            "rows_in": self.view.rows_in(),
            "rows_copied": self.view.copied,
            "rows_streamed": self.view.streamed,
            "rows_out": self.view.rows_out(),
            "rows_kept_back": self.view.kept_back(),
            "rows_masked": self.feed.masked,
            "reloads": self.reloads(),
            "lag_highest_seconds": self.view.seen.lag_highest.as_secs_f64(),
            "warehouse_verified": verified,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let view = &self.view;
        let line = |name: &str, number: String, more: String| {
            format!("  {name:<16}{number:>9}   {more}").trim_end().to_owned() + "\n"
        };
        let parts = format!("{} copied, {} streamed", grouped(view.copied), grouped(view.streamed));
        let sinks: Vec<String> = view
            .sinks
            .iter()
            .map(|sink| format!("{} {}", sink.name, grouped(sink.rows)))
            .collect();
        let mut text = format!("rowmill demo, {} s\n\n", self.elapsed.as_secs());
        text += &line("rows in", grouped(view.rows_in()), parts);
        text += &line("rows out", grouped(view.rows_out()), sinks.join(", "));
        text += &line("kept back", grouped(view.kept_back()), "by the filter".into());
        text += &line(
            "masked",
            grouped(self.feed.masked),
            "rows of customers; the feed holds no address".into(),
        );
        text += &line("plugin reloads", grouped(self.reloads()), self.swap());
        text += &line(
            "highest lag",
            millis(view.seen.lag_highest),
            "from the shop's statement to behind the plugins".into(),
        );
        let (word, verdict) = self.verdict();
        text += &line("warehouse", word.to_owned(), verdict);
        text
    }

    fn swap(&self) -> String {
        match self.phase {
            Phase::Done { at, .. } => {
                let shipped = self.verified.as_ref().map_or(0, |verified| verified.shipped);
                let shipped = grouped(shipped as u64);
                format!(
                    "{FIRST} became {SECOND} at {} s; {shipped} shipped orders are there since",
                    at.as_secs()
                )
            }
            Phase::ByHand => "versions that you have built".to_owned(),
            Phase::First | Phase::Waiting { .. } => String::new(),
        }
    }

    fn verdict(&self) -> (&'static str, String) {
        match &self.verified {
            Some(found) => {
                let (customers, orders) = (grouped(found.customers as u64), grouped(found.orders as u64));
                let compared = format!("{customers} customers, {orders} orders: none missing, extra or different");
                ("verified", compared)
            }
            None => ("-", "not compared: plugins were changed by hand".to_owned()),
        }
    }
}
