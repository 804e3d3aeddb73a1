//! What came of a chain's call beside the rows: changes that were set aside, and counts.

use super::error::{Fault, PluginError, RowError, RowErrorKind, RowPlace};
use crate::batch::{Batch, Row};
use crate::problem::Problem;

/// A change that didn't go on through the chain.
#[derive(Clone, Debug)]
pub struct Aside {
    /// As it came into the chain: a replay goes through the whole chain again.
    pub row: Row,
    /// The plugin that it stuck at.
    pub plugin: String,
    /// The plugin's version, as its manifest has it.
    pub version: Option<String>,
    /// SHA-256 of the plugin's module, in hex.
    pub hash: String,
    /// The change, as the plugin met it: its table is that of the plugins before.
    pub place: RowPlace,
    pub cause: AsideCause,
    pub(super) traces: Traces,
}

/// How a change that is set aside and what the chain's plugins keep hang together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traces {
    /// The plugin's place in the chain.
    pub stage: usize,
    /// Whether it may be in what one of them keeps.
    pub left: bool,
    /// Whether that it failed may follow from what one of them keeps.
    pub met: bool,
}

#[derive(Clone, Debug)]
pub enum AsideCause {
    /// The plugin rejected it, or it can't be given to the plugin.
    Row(RowErrorKind),
    /// The plugin breaks on it.
    Fault(Box<Fault>),
}

impl Aside {
    /// As an error, for whoever can't set it aside.
    pub fn problem(&self) -> Problem {
        let error = match &self.cause {
            AsideCause::Row(kind) => PluginError::Row(Box::new(RowError {
                plugin: self.plugin.clone(),
                row: self.place.clone(),
                kind: kind.clone(),
            })),
            AsideCause::Fault(fault) => PluginError::Fault(fault.clone()),
        };
        error.problem()
    }
}

/// What came of a call beside the rows. The caller clears it, and keeps it from batch to batch.
#[derive(Debug, Default)]
pub struct Processed {
    /// In the order of the changes, each at most once.
    pub aside: Vec<Aside>,
    /// Rows that wait behind those, as they came: no plugin keeps anything of them, and they don't go on.
    pub waiting: Vec<Row>,
    pub counts: Counts,
}

impl Processed {
    pub fn clear(&mut self) {
        self.aside.clear();
        self.waiting.clear();
        self.counts = Counts::default();
    }
}

/// Which rows have to wait behind changes that are set aside.
pub trait Waits {
    /// Whether none waits, as nothing is set aside so far.
    fn is_idle(&self) -> bool;

    /// The change is set aside: later ones of its key wait.
    fn set_aside(&mut self, batch: &Batch, row: &Row);

    /// Whether the row waits. Then later ones wait behind it in turn. A row that waits always does.
    fn waits(&mut self, batch: &Batch, row: &Row) -> bool;
}

/// For whoever has no order to keep.
#[derive(Clone, Copy, Debug)]
pub struct NoneWaits;

impl Waits for NoneWaits {
    fn is_idle(&self) -> bool {
        true
    }

    fn set_aside(&mut self, _: &Batch, _: &Row) {}

    fn waits(&mut self, _: &Batch, _: &Row) -> bool {
        false
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that a plugin rejected or that couldn't be given to it, whatever became of them.
    pub rejected: u64,
    /// Of those: changes that `on_error: drop` left out.
    pub dropped_by_policy: u64,
    /// Of those: rows that `on_error: pass` let go by.
    pub passed_by_policy: u64,
    /// Calls that broke, each counted once however often its rows were tried, and each further row found to blame.
    pub faults: u64,
    /// Rows that `on_fault: bypass` let go by.
    pub bypassed: u64,
    /// Calls made again since the plugin said that they may be.
    pub retries: u64,
    /// Instances made in place of broken ones.
    pub instances_made: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.dropped_by_policy += other.dropped_by_policy;
        self.passed_by_policy += other.passed_by_policy;
        self.faults += other.faults;
        self.bypassed += other.bypassed;
        self.retries += other.retries;
        self.instances_made += other.instances_made;
    }
}
