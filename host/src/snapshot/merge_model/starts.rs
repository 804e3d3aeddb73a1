//! How a run begins, after the host was killed, and how another copy of the table does.

use super::server::{Row, State};
use super::{World, space};
use crate::batch::Lsn;
use crate::snapshot::floors::Floors;
use crate::snapshot::merge::KeyedMerge;
use crate::snapshot::visibility::Snapshot;

/// How far a copy has come that waits for what the stream has brought to be visible.
#[derive(Debug)]
pub(super) enum Barrier {
    Before,
    /// For these writers.
    Waits(Vec<usize>),
    Through,
}

impl World {
    /// The host is killed, and started again.
    pub(super) fn crash(&mut self) {
        self.crashes += 1;
        self.forget();
        let (target, _) = self.durable.clone();
        self.target = target;
        self.sent = self.stored.clone();
        self.durable.1 = self.stored.clone();
        self.position = self.stored.position;
        if self.by_place && self.server.file() != self.basis {
            self.read_all();
        }
        (self.file, self.basis) = (self.server.file(), self.server.file());
        (self.over, self.requested) = (self.stored.is_over, false);
        self.merged = self.stored.counted.clone();
        let space = space(self.by_place);
        self.uncut = (0..space).filter(|at| !self.merged.contains(at)).collect();
        // What committed before the stream's beginning is visible before anything is read.
        for writer in self.server.writers.iter_mut().filter(|w| w.state == State::Committed) {
            writer.state = State::Ended;
        }
        self.floors = Floors::new(self.server.snapshot());
        self.begun = self.server.insert_lsn();
        self.barrier = Barrier::Through;
        if self.stored.empties {
            self.empty();
        }
        if !self.over {
            self.ahead.retain(|ahead| ahead.finish > self.position);
            for ahead in &self.ahead {
                self.merge
                    .restore(&ahead.snapshot, ahead.finish, &ahead.keys, ahead.repair);
            }
            self.owes = self.merge.owes();
        }
    }

    /// Somebody wants the table copied again, as the target has lost one row and has one that nobody would take away. What
    /// the copy under way still reports counts for nothing.
    pub(super) fn request(&mut self, lost: u8, never_there: u8) {
        self.requested = true;
        let wrong = Row {
            version: u64::MAX,
            toast: 0,
            place: 0,
        };
        for table in [&mut self.target.table, &mut self.durable.0.table] {
            table.remove(&lost);
            table.insert(never_there, wrong);
        }
        for ledger in [&mut self.sent, &mut self.durable.1, &mut self.stored] {
            ledger.counted.clear();
            (ledger.is_over, ledger.empties) = (false, true);
        }
    }

    /// The other copy begins where the stream stands.
    pub(super) fn join(&mut self) {
        if !std::mem::take(&mut self.requested) {
            return;
        }
        let owed = self.owes;
        self.forget();
        self.read_all();
        (self.file, self.basis) = (self.server.file(), self.server.file());
        self.over = false;
        (self.barrier, self.begun) = (Barrier::Before, Lsn(u64::MAX));
        self.floors = Floors::new(Snapshot::nothing());
        self.empty();
        if owed {
            self.sent.position = self.position;
        }
    }

    /// The target begins from nothing.
    pub(super) fn empty(&mut self) {
        self.target.table.clear();
        self.target.newest.clear();
        self.sent.empties = false;
        self.delivered();
    }

    /// Of what has committed when the copy begins to wait, all has to be visible; who still runs commits behind it.
    pub(super) fn wait(&mut self) {
        let writers = &self.server.writers;
        let state = |at: &usize| writers[*at].state;
        match &self.barrier {
            Barrier::Before => {
                let committed = (0..writers.len()).filter(|at| state(at) == State::Committed);
                self.barrier = Barrier::Waits(committed.collect());
            }
            Barrier::Waits(of) if of.iter().all(|at| state(at) == State::Ended) => {
                self.floors.saw(&self.server.snapshot());
                self.begun = self.server.insert_lsn();
                self.barrier = Barrier::Through;
            }
            Barrier::Waits(_) | Barrier::Through => {}
        }
    }

    pub(super) fn forget(&mut self) {
        self.merge = KeyedMerge::default();
        self.owes = false;
        self.uncounted.clear();
        self.give_up_units();
        (self.last_finish, self.units_finish) = (Lsn(0), Lsn(0));
    }

    pub(super) fn give_up_units(&mut self) {
        let reading = self.units.iter().filter(|u| u.snapshot.is_some() && u.finish.is_none());
        self.server.readers -= reading.count();
        self.units.clear();
        self.floors.end_all(|_| true);
    }
}
