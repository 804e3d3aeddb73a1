//! Each change twice: as the shop committed it, and as it left after the plugins. They are paired by transaction, for
//! each of the load's has one row.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Changes that wait for their counterpart at most; more of them are only missing from the view.
const WAITING_MAX: usize = 10_000;

/// The changes that a shop makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Customer,
    Contact,
    Order,
    Paid,
    Shipped,
    Deleted,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [
        Self::Customer,
        Self::Contact,
        Self::Order,
        Self::Paid,
        Self::Shipped,
        Self::Deleted,
    ];

    pub(super) fn is_customers(self) -> bool {
        matches!(self, Self::Customer | Self::Contact)
    }
}

/// A change and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub raw: String,
    /// `None` where a plugin kept it back.
    pub out: Option<String>,
}

struct Waiting {
    kind: Kind,
    raw: String,
    sent: Instant,
}

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<u64, Waiting>,
    /// Rows that left before the load was told of their commit.
    early: BTreeMap<u64, (String, Instant)>,
    newest: u64,
    latest: BTreeMap<Kind, Pair>,
    lag: Duration,
    lag_highest: Duration,
}

/// What the view takes from here.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The latest of each kind whose fate is known.
    pub latest: BTreeMap<Kind, Pair>,
    /// From the statement at the shop until the row had gone through the plugins.
    pub lag: Duration,
    pub lag_highest: Duration,
}

/// Fed by the load and by the pipeline's live view.
#[derive(Default)]
pub(super) struct Changes(Mutex<Inner>);

impl Changes {
    /// The shop has committed a change, whose statement was sent at `sent`.
    pub(super) fn committed(&self, xid: u64, kind: Kind, raw: String, sent: Instant) {
        let mut inner = self.lock();
        inner.newest = xid;
        let change = Waiting { kind, raw, sent };
        if let Some((out, left)) = inner.early.remove(&xid) {
            inner.settle(change, Some((out, left)));
        } else {
            inner.waiting.insert(xid, change);
        }
        while inner.waiting.len() > WAITING_MAX {
            inner.waiting.pop_first();
        }
    }

    /// A line of the live view. Each row comes once for every sink; the first one counts.
    pub(super) fn left(&self, line: &str) {
        let left = Instant::now();
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            return;
        };
        // Copied rows have no transaction.
        let Some(xid) = line["xid"].as_u64() else { return };
        let mut inner = self.lock();
        let text = describe(&line);
        if let Some(change) = inner.waiting.remove(&xid) {
            inner.kept_back_before(xid, change.kind.is_customers());
            inner.settle(change, Some((text, left)));
        } else if xid > inner.newest && inner.early.len() < WAITING_MAX {
            inner.early.entry(xid).or_insert((text, left));
        }
    }

    /// Lines were missed: nothing can be said of what is waiting.
    pub(super) fn missed(&self) {
        self.lock().waiting.clear();
    }

    pub(super) fn seen(&self) -> Seen {
        let inner = self.lock();
        Seen {
            latest: inner.latest.clone(),
            lag: inner.lag,
            lag_highest: inner.lag_highest,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn settle(&mut self, change: Waiting, out: Option<(String, Instant)>) {
        let out = out.map(|(text, left)| {
            self.lag = left.saturating_duration_since(change.sent);
            self.lag_highest = self.lag_highest.max(self.lag);
            text
        });
        self.latest.insert(change.kind, Pair { raw: change.raw, out });
    }

    /// A route keeps the order of commits: earlier changes of the table that haven't left, don't.
    fn kept_back_before(&mut self, xid: u64, customers: bool) {
        let earlier = self.waiting.range(..xid);
        let kept: Vec<u64> = earlier
            .filter(|(_, change)| change.kind.is_customers() == customers)
            .map(|(xid, _)| *xid)
            .collect();
        for xid in kept {
            if let Some(change) = self.waiting.remove(&xid) {
                self.settle(change, None);
            }
        }
    }
}

/// A row that left, as short as the load's own text of it.
fn describe(line: &Value) -> String {
    let row = if line["new"].is_object() {
        &line["new"]
    } else {
        &line["old"]
    };
    let text = |column: &str| row[column].as_str().unwrap_or("-").to_owned();
    let head = format!("{:<6} #{}", line["op"].as_str().unwrap_or("-"), row["id"]);
    match (line["table"].as_str(), line["op"].as_str()) {
        (_, Some("delete")) => head,
        (Some("customers"), _) => format!(
            "{head} {} {} {}",
            text("name"),
            shortened(&text("email")),
            shortened(&text("phone"))
        ),
        _ => format!("{head} {} {} {}", text("status"), text("total"), text("item")),
    }
}

/// A hash, shown by its beginning; anything else as it is.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 10;
    let is_hash = value.len() > 2 * SHOWN && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    match value.get(..SHOWN).filter(|_| is_hash) {
        Some(start) => format!("{start}…"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(xid: u64) -> String {
        format!(
            r#"{{"op":"insert","table":"orders","new":{{"id":{xid},"status":"paid","total":"9.50","item":"lamp"}},"xid":{xid}}}"#
        )
    }

    #[test]
    fn a_change_meets_its_row_and_those_passed_over_were_kept_back() {
        let changes = Changes::default();
        changes.committed(7, Kind::Order, "insert #7 open".into(), Instant::now());
        changes.committed(8, Kind::Customer, "insert #1".into(), Instant::now());
        changes.committed(9, Kind::Paid, "update #9".into(), Instant::now());
        changes.left(&paid(9));
        let seen = changes.seen();
        assert!(seen.latest[&Kind::Order].out.is_none());
        assert!(!seen.latest.contains_key(&Kind::Customer), "another table's turn comes");
        assert_eq!(
            seen.latest[&Kind::Paid].out.as_deref(),
            Some("insert #9 paid 9.50 lamp")
        );
    }

    #[test]
    fn a_row_may_leave_before_its_commit_is_told_and_comes_once_for_each_sink() {
        let changes = Changes::default();
        changes.left(&paid(9));
        changes.committed(9, Kind::Paid, "update #9".into(), Instant::now());
        changes.left(&paid(9));
        assert!(changes.seen().latest[&Kind::Paid].out.is_some());
        assert!(changes.lock().early.is_empty());
    }

    #[test]
    fn hashes_are_shown_by_their_beginning() {
        assert_eq!(shortened(&"0a".repeat(32)), "0a0a0a0a0a…");
        assert_eq!(shortened("ada.1@example.org"), "ada.1@example.org");
    }
}
