//! Holds what arrives against what was written.

use super::arrivals::Arrival;
use super::ledger::{Change, Ledger, Lsn, Table, masked};
use super::positions::Sample;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// So many are kept: the first ones tell.
const VIOLATIONS_MAX: usize = 40;

/// What a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    ExactlyOnce,
    /// After a fault the end of what came comes again, as it came.
    AtLeastOnce,
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: char,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.rule, self.what)
    }
}

/// What has come of one key, and how far into that a replay is.
#[derive(Debug, Default)]
struct History {
    ids: Vec<u64>,
    next: usize,
}

#[derive(Debug)]
struct Sink {
    name: &'static str,
    promise: Promise,
    /// Whether it shows changes of this table one by one.
    has_accounts: bool,
    seen: HashSet<u64>,
    of_key: HashMap<(Table, u64), History>,
    /// Of this round: a change, its transaction, and where it arrived.
    round: Vec<(u64, u64, u64)>,
    tags: HashMap<u64, String>,
    spans: HashMap<u64, (u64, u64)>,
    faults_before: u64,
}

/// Judges sinks. The rows that are there at the start are copied: until [`Judge::copied`] a row may come twice.
#[derive(Debug)]
pub struct Judge {
    sinks: Vec<Sink>,
    violations: Vec<Violation>,
    positions: HashMap<u64, Lsn>,
    copying: bool,
    pub(super) arrived: u64,
    pub(super) twice: u64,
}

impl Judge {
    /// Of sinks with their promises, and whether they show every change of `accounts`.
    pub fn new(sinks: &[(&'static str, Promise, bool)]) -> Self {
        let sink = |(name, promise, has_accounts): &(&'static str, Promise, bool)| Sink {
            name,
            promise: *promise,
            has_accounts: *has_accounts,
            seen: HashSet::new(),
            of_key: HashMap::new(),
            round: Vec::new(),
            tags: HashMap::new(),
            spans: HashMap::new(),
            faults_before: 0,
        };
        Self {
            sinks: sinks.iter().map(sink).collect(),
            violations: Vec::new(),
            positions: HashMap::new(),
            copying: true,
            arrived: 0,
            twice: 0,
        }
    }

    /// The copy is through: from now on nothing comes but by the stream.
    pub fn copied(&mut self) {
        self.copying = false;
    }

    pub fn broken(&mut self, rule: char, what: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let what = what.into();
            self.violations.push(Violation { rule, what });
        }
    }

    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Changes that arrived, at all sinks together.
    pub fn arrivals(&self) -> u64 {
        self.arrived
    }

    /// Those of them that had arrived there before.
    pub fn twice(&self) -> u64 {
        self.twice
    }

    /// Takes what has arrived at a sink. All that the ledger doesn't know by then was never written.
    pub fn arrive(&mut self, sink: usize, arrivals: &[Arrival], ledger: &Ledger) {
        for arrival in arrivals {
            self.arrived += 1;
            if let Some(what) = self.contents(sink, arrival, ledger) {
                self.violate(sink, arrival, what);
            }
            if let Some(what) = self.order(sink, arrival, ledger) {
                self.violate(sink, arrival, what);
            }
            // A delete's old image has the transaction of what it deletes.
            let written = ledger.due.get(&arrival.id());
            let transaction = written.map_or(arrival.transaction, |change| change.transaction);
            if let Some(lsn) = arrival.lsn {
                self.positions.insert(transaction, lsn);
            }
            let sink = &mut self.sinks[sink];
            sink.round.push((arrival.id(), transaction, arrival.at));
            if !self.copying {
                let span = sink.spans.entry(transaction).or_insert((arrival.at, arrival.at));
                span.1 = arrival.at;
            }
        }
    }

    fn violate(&mut self, sink: usize, arrival: &Arrival, (rule, what): (char, String)) {
        let Arrival {
            table,
            key,
            number,
            transaction,
            is_delete,
            at,
            ..
        } = arrival;
        let name = self.sinks[sink].name;
        let place =
            format!("{table:?} key {key}, change {number}, delete {is_delete}, transaction {transaction}, at {at}");
        self.broken(rule, format!("{name}: {what}: {place}"));
    }

    /// Rules b and c.
    fn contents(&mut self, sink: usize, arrival: &Arrival, ledger: &Ledger) -> Option<(char, String)> {
        let id = arrival.id();
        let Some(change) = ledger.due.get(&id) else {
            let forbidden = ledger.forbidden.contains(&id);
            let what = if forbidden {
                "it was rolled back"
            } else {
                "nobody wrote it"
            };
            return Some(('b', what.into()));
        };
        if (change.table, change.key) != (arrival.table, arrival.key) {
            return Some(('c', format!("it was written to {:?}, key {}", change.table, change.key)));
        }
        let written = Change {
            is_delete: false,
            ..*change
        };
        if arrival.payload != written.payload() {
            return Some(('c', "another payload than was written".into()));
        }
        if arrival.email != masked(&written) {
            return Some(('c', "the email isn't masked as it has to be".into()));
        }
        if !ledger.tags.contains(&arrival.tag) {
            return Some(('c', format!("tag {:?} of no version that was installed", arrival.tag)));
        }
        // A delete has the transaction of the version that it deletes, in its old image.
        if !arrival.is_delete && change.transaction != arrival.transaction {
            return Some(('c', format!("it was written by transaction {}", change.transaction)));
        }
        if arrival.is_delete || arrival.is_copy || self.copying {
            return None;
        }
        if let (Some(lsn), Some((from, to))) = (arrival.lsn, ledger.between.get(&arrival.transaction))
            && !(*from..=*to).contains(&lsn)
        {
            return Some(('c', format!("position {lsn:X}, committed between {from:X} and {to:X}")));
        }
        let tags = &mut self.sinks[sink].tags;
        let tag = tags.entry(arrival.transaction).or_insert_with(|| arrival.tag.clone());
        (*tag != arrival.tag).then(|| ('c', format!("two versions in a transaction: {tag} and {}", arrival.tag)))
    }

    /// Rules d and e.
    fn order(&mut self, sink: usize, arrival: &Arrival, ledger: &Ledger) -> Option<(char, String)> {
        let id = arrival.id();
        let sink = &mut self.sinks[sink];
        let is_again = !sink.seen.insert(id);
        // Copied rows of other keys may come whenever they do; which is which the target doesn't tell.
        let any_order = arrival.table == Table::Events && (arrival.is_copy || self.copying);
        if any_order || (self.copying && (is_again && arrival.is_copy || sink.promise == Promise::AtLeastOnce)) {
            return None;
        }
        let history = sink.of_key.entry((arrival.table, arrival.key)).or_default();
        if !is_again {
            if history.next < history.ids.len() {
                return Some(('d', "a replay that doesn't come to its end".into()));
            }
            if let Some(last) = history.ids.last().filter(|last| **last > id) {
                return Some(('d', format!("behind change {} of its key", last / 2)));
            }
            history.ids.push(id);
            history.next = history.ids.len();
            return None;
        }
        self.twice += 1;
        if sink.promise == Promise::ExactlyOnce {
            return Some(('e', "it is there twice".into()));
        }
        if ledger.faults == sink.faults_before {
            return Some(('e', "it is there twice without a fault".into()));
        }
        if history.ids.get(history.next) == Some(&id) {
            history.next += 1;
            return None;
        }
        match history.ids.iter().position(|seen| *seen == id) {
            // A replay begins, or begins again.
            Some(place) if place < history.next => {
                history.next = place + 1;
                None
            }
            _ => Some(('d', "no exact replay of what came".into())),
        }
    }

    /// Whether this change has arrived at every sink that shows its table.
    pub fn is_everywhere(&self, change: u64) -> bool {
        self.sinks.iter().all(|sink| sink.seen.contains(&change))
    }

    /// How many obligations of this round haven't arrived at a sink that has to have them.
    pub fn missing(&self, ledger: &Ledger) -> usize {
        let of = |sink: &Sink| missing_at(sink, ledger, self.copying).count();
        self.sinks.iter().map(of).sum()
    }

    /// The present state of the accounts at the first sink, which doesn't show their changes: rules a to c.
    pub fn accounts(&mut self, ledger: &Ledger, found: &[Arrival]) {
        let mut left: HashMap<u64, u64> = HashMap::new();
        left.extend(
            ledger
                .accounts
                .iter()
                .filter_map(|(key, number)| Some((*key, (*number)?))),
        );
        for row in found {
            let expected = left.remove(&row.key);
            if expected != Some(row.number) {
                self.broken(
                    'a',
                    format!("account {}: version {}, not {expected:?}", row.key, row.number),
                );
            } else if let Some(what) = self.contents(0, row, ledger) {
                self.violate(0, row, what);
            }
        }
        for (key, number) in left {
            self.broken('a', format!("account {key}: not there, version {number} should be"));
        }
    }

    /// The round is over, and nothing is written any more: rules a and f. `samples` were taken since the last round,
    /// each with where every sink was, in their order.
    pub fn settle(&mut self, ledger: &mut Ledger, samples: &[Sample]) {
        let mut broken = Vec::new();
        for sink in &self.sinks {
            let lost: Vec<&Change> = missing_at(sink, ledger, self.copying).collect();
            if let Some(first) = lost.iter().min_by_key(|change| change.number) {
                broken.push((
                    'a',
                    format!("{}: {} changes are missing, first {first:?}", sink.name, lost.len()),
                ));
            }
        }
        for (place, sink) in self.sinks.iter().enumerate() {
            broken.extend(ahead(sink, place, &self.positions, samples));
            if place == 0 && !self.copying {
                broken.extend(halves(sink, samples));
            }
        }
        for (rule, what) in broken {
            self.broken(rule, what);
        }
        for sink in &mut self.sinks {
            sink.round.clear();
            sink.tags.clear();
            sink.spans.clear();
            sink.faults_before = ledger.faults;
        }
        self.positions.clear();
        ledger.unsettled.clear();
    }
}

fn missing_at<'a>(sink: &'a Sink, ledger: &'a Ledger, copying: bool) -> impl Iterator<Item = &'a Change> {
    let unsettled = ledger.unsettled.iter().filter_map(|id| ledger.due.get(id));
    unsettled.filter(move |change| {
        let shows = sink.has_accounts || change.table == Table::Events;
        shows && !sink.seen.contains(&change.id()) && !(copying && is_passed_over(change, ledger))
    })
}

/// A copy has the present version of a row, and none of a row that is gone.
fn is_passed_over(change: &Change, ledger: &Ledger) -> bool {
    let present = ledger.accounts.get(&change.key).copied().flatten();
    change.table == Table::Accounts && present != Some(change.number)
}

/// Samples at which a position was acknowledged though something before it wasn't delivered yet.
fn ahead(sink: &Sink, place: usize, positions: &HashMap<u64, Lsn>, samples: &[Sample]) -> Option<(char, String)> {
    let mut first_seen = HashMap::new();
    for (id, transaction, at) in &sink.round {
        let seen = first_seen.entry(*id).or_insert((*transaction, *at));
        seen.1 = seen.1.min(*at);
    }
    let placed = first_seen
        .values()
        .filter_map(|(transaction, at)| Some((*positions.get(transaction)?, *at)));
    let mut arrivals: Vec<(Lsn, u64)> = placed.collect();
    arrivals.sort_unstable();
    let mut furthest = 0;
    for arrival in &mut arrivals {
        furthest = arrival.1.max(furthest);
        arrival.1 = furthest;
    }
    samples.iter().find_map(|sample| {
        let had = sample.sinks.get(place).copied().flatten()?;
        // The server forgets what was committed before the position.
        let before = arrivals.partition_point(|(lsn, _)| *lsn < sample.acknowledged);
        let needed = arrivals.get(before.checked_sub(1)?)?.1;
        let what = || {
            format!(
                "{}: {:X} was acknowledged when {had} of {needed} was there",
                sink.name, sample.acknowledged
            )
        };
        (needed > had).then(|| ('f', what()))
    })
}

/// Samples at which the sink showed a part of a transaction.
fn halves(sink: &Sink, samples: &[Sample]) -> Option<(char, String)> {
    let mut spans: Vec<(u64, u64, u64)> = sink.spans.iter().map(|(txn, (from, to))| (*from, *to, *txn)).collect();
    spans.sort_unstable();
    samples.iter().find_map(|sample| {
        let had = sample.sinks.first().copied().flatten()?;
        let before = spans.partition_point(|(from, ..)| *from <= had);
        let (from, to, transaction) = *spans.get(before.checked_sub(1)?)?;
        let what = || {
            format!(
                "{}: at {had} of {from} to {to} half of transaction {transaction} was there",
                sink.name
            )
        };
        (had < to).then(|| ('f', what()))
    })
}
