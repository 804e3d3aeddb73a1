//! All copies of a session: those that it began with, and those that have begun since, each with its own tables.
//!
//! A copy that begins while the stream runs is to its tables what the session's beginning is to the others: the place in
//! the stream at which it joins is where the stream begins for them. `mod.rs` has the argument.

use super::merger::{CountedUnit, MergedUnit, Merger, TableEpoch};
use super::plan::{Ahead, TableProgress};
use crate::batch::{Batch, Lsn};
use crate::problem::Problem;

/// As a [`Merger`], of several copies. No table is in two of them.
pub struct Mergers {
    copies: Vec<Merger>,
    /// Which of them is asked first: the one behind that which has waited last (`patience`).
    first: usize,
    /// How far those have come that are through.
    over: Vec<TableProgress>,
}

impl Mergers {
    /// With the copy that a session begins with.
    pub fn new(first: Merger) -> Self {
        Self {
            copies: vec![first],
            first: 0,
            over: Vec::new(),
        }
    }

    /// A copy begins here, at a commit's end or outside of transactions: everything before `position` has been passed on.
    /// What is under way of its tables is given up. Returns what empties their targets, to be passed on at once.
    pub fn join(&mut self, mut merger: Merger, position: Lsn) -> Vec<(TableEpoch, Batch)> {
        for oid in merger.oids() {
            self.copies.iter_mut().for_each(|copy| copy.give_up(oid));
            self.over.retain(|progress| progress.oid != oid);
        }
        if let Some(other) = self.copies.first() {
            merger.share_budget(other);
        }
        let emptying = merger.to_empty(position);
        merger.begin();
        self.copies.push(merger);
        emptying
    }

    /// See [`Merger::to_empty`].
    pub fn to_empty(&mut self, position: Lsn) -> Vec<(TableEpoch, Batch)> {
        self.all(|copy| copy.to_empty(position))
    }

    /// See [`Merger::stream`].
    pub fn stream(&mut self, batch: &mut Batch) -> Result<(), Box<Problem>> {
        self.copies.iter_mut().try_for_each(|copy| copy.stream(batch))
    }

    /// See [`Merger::at_boundary`].
    pub fn at_boundary(&mut self, position: Lsn) -> Result<Vec<MergedUnit>, Box<Problem>> {
        let mut out = Vec::new();
        let (first, count) = (self.first, self.copies.len());
        for at in (first..first + count).map(|at| at % count) {
            let spent = self.copies[at].spent();
            out.extend(self.copies[at].at_boundary(position)?);
            if self.copies[at].spent() != spent {
                self.first = at + 1;
            }
        }
        Ok(out)
    }

    /// See [`Merger::owes`].
    pub fn owes(&self) -> bool {
        self.copies.iter().any(Merger::owes)
    }

    /// See [`Merger::counted`].
    pub fn counted(&mut self) -> Vec<CountedUnit> {
        self.all(Merger::counted)
    }

    /// See [`Merger::over`].
    pub fn over(&mut self) -> Vec<TableEpoch> {
        self.all(Merger::over)
    }

    /// See [`Merger::ahead`].
    pub fn ahead(&mut self) -> Vec<Ahead> {
        self.all(Merger::ahead)
    }

    /// See [`Merger::restarted`].
    pub fn restarted(&mut self) -> Vec<TableEpoch> {
        self.all(Merger::restarted)
    }

    /// Lets go of the copies that are through, and of their connections, once [`Self::counted`] and [`Self::over`] have told
    /// all of them.
    pub fn let_go(&mut self) {
        let over = self.copies.extract_if(.., |copy| copy.is_done());
        self.over.extend(over.flat_map(|copy| copy.progress()));
    }

    /// See [`Merger::is_even`].
    pub fn is_even(&self) -> bool {
        self.copies.iter().all(Merger::is_even)
    }

    /// Whether no table is under copy any more.
    pub fn is_done(&self) -> bool {
        self.copies.iter().all(Merger::is_done)
    }

    /// See [`Merger::is_copying`].
    pub fn is_copying(&self, oid: u32) -> bool {
        self.copies.iter().any(|copy| copy.is_copying(oid))
    }

    /// See [`Merger::fills_in`].
    pub fn fills_in(&self, oid: u32) -> bool {
        self.copies.iter().any(|copy| copy.fills_in(oid))
    }

    /// How far each table has come, of those too whose copy is through.
    pub fn progress(&self) -> Vec<TableProgress> {
        let under_way = self.copies.iter().flat_map(Merger::progress);
        self.over.iter().cloned().chain(under_way).collect()
    }

    fn all<T>(&mut self, of: impl Fn(&mut Merger) -> Vec<T>) -> Vec<T> {
        self.copies.iter_mut().flat_map(of).collect()
    }
}
