//! What every snapshot that is still to be merged is known to see.

use super::visibility::Snapshot;

/// The newest snapshot known, and for each unit under way one that its own is not older than.
///
/// Whoever begins a unit says so first and takes the snapshot then: so it is never older than what was the newest
/// at that moment, and nothing that it may not see is forgotten in between.
#[derive(Debug)]
pub(super) struct Floors<U> {
    newest: Snapshot,
    open: Vec<(U, Snapshot)>,
}

impl<U: PartialEq> Floors<U> {
    pub(super) fn new(newest: Snapshot) -> Self {
        Self {
            newest,
            open: Vec::new(),
        }
    }

    /// `unit` is about to take its snapshot, maybe once more.
    pub(super) fn begin(&mut self, unit: U) {
        self.end(&unit);
        self.open.push((unit, self.newest.clone()));
    }

    /// `unit` has taken its snapshot.
    pub(super) fn took(&mut self, unit: &U, snapshot: &Snapshot) {
        self.saw(snapshot);
        if let Some((_, floor)) = self.open.iter_mut().find(|(open, _)| open == unit) {
            *floor = snapshot.clone();
        }
    }

    /// Every snapshot that is taken from now on is not older than this.
    pub(super) fn saw(&mut self, snapshot: &Snapshot) {
        if snapshot.is_newer_than(&self.newest) {
            self.newest = snapshot.clone();
        }
    }

    /// `unit` is merged, or given up.
    pub(super) fn end(&mut self, unit: &U) {
        self.open.retain(|(open, _)| open != unit);
    }

    /// Gives up every unit of which `which` holds.
    pub(super) fn end_all(&mut self, which: impl Fn(&U) -> bool) {
        self.open.retain(|(open, _)| !which(open));
    }

    /// Whether every open and every coming snapshot of the units of which `which` holds sees the transaction.
    pub(super) fn all_see(&self, xid: u32, which: impl Fn(&U) -> bool) -> bool {
        self.newest.sees(xid) && self.open.iter().all(|(unit, floor)| !which(unit) || floor.sees(xid))
    }
}
