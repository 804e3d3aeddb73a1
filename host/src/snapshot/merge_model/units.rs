//! Units: read under snapshots, merged at boundaries, and counted.

use super::server::{Op, State, Table};
use super::starts::Barrier;
use super::{World, space};
use crate::batch::Lsn;
use crate::snapshot::merge::{Key, Reread};
use crate::snapshot::plan::Ahead;
use crate::snapshot::visibility::Snapshot;
use std::collections::BTreeSet;

#[derive(Debug)]
pub(super) struct Unit {
    pub(super) number: u32,
    pub(super) low: u8,
    pub(super) high: u8,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) rows: Table,
    pub(super) finish: Option<Lsn>,
    /// Taken out of it, and not read again yet.
    pub(super) rereads: Vec<Reread>,
}

impl World {
    pub(super) fn begin_unit(&mut self, size: u8) {
        if !matches!(self.barrier, Barrier::Through) {
            return;
        }
        let Some(low) = self.uncut.first().copied() else {
            return;
        };
        let space = space(self.by_place);
        let end = (low..space).find(|at| !self.uncut.contains(at)).unwrap_or(space);
        let high = end.min(low + size);
        self.uncut.retain(|key| *key >= high);
        self.floors.begin(self.next_unit);
        self.units.push(Unit {
            number: self.next_unit,
            low,
            high,
            snapshot: None,
            rows: Table::new(),
            finish: None,
            rereads: Vec::new(),
        });
        self.next_unit += 1;
    }

    pub(super) fn take_snapshot(&mut self, pick: u8) {
        if self.server.is_locked() {
            return;
        }
        if self.by_place && self.server.file() != self.file {
            return self.read_anew();
        }
        let by_place = self.by_place;
        let snapshot = self.server.snapshot();
        let rows = self.server.rows_seen_by(&snapshot);
        let mut waiting: Vec<&mut Unit> = self.units.iter_mut().filter(|u| u.snapshot.is_none()).collect();
        let count = waiting.len().max(1);
        if let Some(unit) = waiting.get_mut(pick as usize % count) {
            let range = unit.low..unit.high;
            unit.rows = rows;
            unit.rows
                .retain(|key, row| range.contains(if by_place { &row.place } else { key }));
            self.floors.took(&unit.number, &snapshot);
            unit.snapshot = Some(snapshot);
            self.server.readers += 1;
        }
    }

    pub(super) fn finish_unit(&mut self, pick: u8) {
        let reading = |unit: &&mut Unit| unit.snapshot.is_some() && unit.finish.is_none();
        let mut reading: Vec<&mut Unit> = self.units.iter_mut().filter(reading).collect();
        let count = reading.len().max(1);
        if let Some(unit) = reading.get_mut(pick as usize % count) {
            unit.finish = Some(self.server.insert_lsn());
            self.server.readers -= 1;
        }
    }

    /// The stream stands at a commit's end: what is ready is merged, everybody's memory is checked.
    pub(super) fn boundary(&mut self) {
        if self.over {
            return;
        }
        self.merge.advance(self.position);
        let (ready, rest) = std::mem::take(&mut self.units)
            .into_iter()
            .partition(|u| u.finish.is_some());
        self.units = rest;
        for unit in ready {
            self.merge_unit(unit);
        }
        if matches!(self.barrier, Barrier::Through) {
            let incomplete = self.merge.take_incomplete();
            if !incomplete.is_empty() && self.is_locked() {
                self.merge.put_back(incomplete);
            } else {
                self.read_again(incomplete, false);
            }
        }
        let is_out = self.merged.len() == space(self.by_place) as usize;
        if is_out && self.position >= self.units_finish && !self.merge.owes() {
            self.merge.rows_are_there();
        }
        let floors = &self.floors;
        self.merge.prune(|xid| floors.all_see(xid, |_| true));
        if self.owes && !self.merge.owes() {
            self.owes = false;
            self.sent.position = self.position;
        }
        self.count();
        self.check();
    }

    /// What the stream has passed is entered in the ledger, behind all that was sent before.
    pub(super) fn count(&mut self) {
        let position = self.position;
        for (keys, _) in self.uncounted.extract_if(.., |(_, finish)| *finish <= position) {
            // Marks of an earlier copy are passed over.
            if !self.requested {
                self.sent.counted.extend(keys);
            }
        }
        let is_out = self.merged.len() == space(self.by_place) as usize;
        if is_out && self.merge.is_settled() && position >= self.last_finish.max(self.begun) {
            self.over = true;
            self.sent.is_over = !self.requested;
        }
        self.delivered();
    }

    pub(super) fn merge_unit(&mut self, mut unit: Unit) {
        let (snapshot, finish) = (unit.snapshot.clone().unwrap(), unit.finish.unwrap());
        let stale = |key: &u8| self.merge.stale(&snapshot, &[*key]);
        let fresh: Vec<Reread> = unit.rows.keys().filter_map(stale).collect();
        for reread in &fresh {
            unit.rows.remove(&reread.key[0]);
        }
        let before = std::mem::take(&mut unit.rereads).into_iter();
        let mut stale: Vec<Reread> = before.map(|reread| self.merge.reread(reread.key)).collect();
        stale.extend(fresh);
        if !stale.is_empty() && self.is_locked() {
            unit.rereads = stale;
            self.units.push(unit);
            return;
        }
        self.go_out(&unit.rows, &snapshot, finish, true);
        self.units_finish = self.units_finish.max(finish);
        // Of a heap the unit may have them no longer when it is read again.
        let read_until = self.read_again(stale, !self.by_place);
        self.floors.end(&unit.number);
        let keys: BTreeSet<u8> = (unit.low..unit.high).collect();
        self.merged.extend(&keys);
        self.uncounted.push((keys, finish.max(read_until)));
    }

    fn is_locked(&mut self) -> bool {
        let is_locked = self.locked > 0;
        self.locked = self.locked.saturating_sub(1);
        is_locked
    }

    /// Returns the F of what was read.
    pub(super) fn read_again(&mut self, keys: Vec<Reread>, comes_again: bool) -> Lsn {
        if keys.is_empty() {
            return Lsn(0);
        }
        for writer in &mut self.server.writers {
            let is_waited_for = keys.iter().any(|key| key.xid == Some(writer.xid as u32));
            if is_waited_for {
                assert_ne!(writer.state, State::Running, "only what committed is streamed");
                writer.state = State::Ended;
            }
        }
        if self.server.is_locked() {
            self.server.end_all();
        }
        let snapshot = self.server.snapshot();
        let wanted: BTreeSet<u8> = keys.iter().map(|reread| reread.key[0]).collect();
        let mut rows = self.server.rows_seen_by(&snapshot);
        rows.retain(|key, _| wanted.contains(key));
        let finish = self.server.insert_lsn();
        self.go_out(&rows, &snapshot, finish, comes_again);
        finish
    }

    pub(super) fn go_out(&mut self, rows: &Table, snapshot: &Snapshot, finish: Lsn, comes_again: bool) {
        let keys: Vec<Key> = rows.keys().map(|key| Key::from([*key])).collect();
        if self.position < finish {
            self.ahead.push(Ahead {
                table_oid: 0,
                snapshot: snapshot.clone(),
                finish,
                keys: keys.clone(),
                repair: !comes_again,
            });
        }
        for (key, row) in rows {
            self.target.deliver(&Op::Put { key: *key, row: *row });
            self.delivered();
        }
        self.merge.merged(self.position, snapshot, finish, keys.into_iter());
        self.last_finish = self.last_finish.max(finish);
    }
}
