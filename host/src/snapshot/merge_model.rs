//! A server, a stream, copiers and a target in a few lines each, driven at random, to test [`KeyedMerge`] against.
//!
//! The server is as hard to please as the real one: a commit is in the WAL, and may be streamed, before others see
//! it; transactions become visible in another order than they committed in; locks are held until then.

use super::floors::Floors;
use super::merge::{Change, Key, KeyedMerge, Reread, Verdict};
use super::visibility::Snapshot;
use crate::batch::Lsn;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const KEYS: u8 = 5;
/// The ids cross the wrap of 32 bits on the way.
const FIRST_XID: u64 = (1 << 32) - 6;

/// A row: when it was written last, and a large value that an update may leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    version: u64,
    toast: u64,
}

type Table = BTreeMap<u8, Row>;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Insert, or update with all values.
    Put {
        key: u8,
        row: Row,
    },
    /// Update that leaves the large value alone.
    Touch {
        key: u8,
        version: u64,
    },
    Delete {
        key: u8,
        version: u64,
    },
    Move {
        old: u8,
        new: u8,
        row: Row,
        complete: bool,
    },
    Truncate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Committed,
    Ended,
}

#[derive(Debug)]
struct Writer {
    xid: u64,
    state: State,
    ops: Vec<Op>,
    undo: Vec<(u8, Option<Row>)>,
    locks: BTreeSet<u8>,
    locks_table: bool,
}

#[derive(Debug, Default)]
struct Server {
    base: Table,
    /// As the holders of the locks see it.
    live: Table,
    writers: Vec<Writer>,
    /// Committed transactions in order; the commit of the n-th ends at n + 1.
    wal: Vec<(u64, Vec<Op>)>,
    clock: u64,
    readers: usize,
}

fn apply(table: &mut Table, op: &Op) {
    match *op {
        Op::Put { key, row } => {
            table.insert(key, row);
        }
        Op::Touch { key, version } => {
            if let Some(row) = table.get_mut(&key) {
                row.version = version;
            }
        }
        Op::Delete { key, .. } => {
            table.remove(&key);
        }
        Op::Move {
            old,
            new,
            row,
            complete,
        } => match (table.remove(&old), complete) {
            (_, true) => {
                table.insert(new, row);
            }
            (Some(before), false) => {
                table.insert(
                    new,
                    Row {
                        toast: before.toast,
                        ..row
                    },
                );
            }
            (None, false) => {}
        },
        Op::Truncate => table.clear(),
    }
}

impl Server {
    fn new(rows: u8) -> Self {
        let mut server = Self::default();
        for key in (0..KEYS).filter(|key| rows & (1 << key) != 0) {
            let version = server.tick();
            server.base.insert(
                key,
                Row {
                    version,
                    toast: version,
                },
            );
        }
        server.live = server.base.clone();
        server
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn insert_lsn(&self) -> Lsn {
        Lsn(self.wal.len() as u64)
    }

    fn begin(&mut self) {
        let xid = FIRST_XID + self.writers.len() as u64;
        self.writers.push(Writer {
            xid,
            state: State::Running,
            ops: Vec::new(),
            undo: Vec::new(),
            locks: BTreeSet::new(),
            locks_table: false,
        });
    }

    fn running(&self, pick: u8) -> Option<usize> {
        let running: Vec<usize> = (0..self.writers.len())
            .filter(|at| self.writers[*at].state == State::Running)
            .collect();
        (!running.is_empty()).then(|| running[pick as usize % running.len()])
    }

    fn holders(&self, except: usize) -> impl Iterator<Item = &Writer> {
        let others = self.writers.iter().enumerate().filter(move |(at, _)| *at != except);
        others
            .map(|(_, writer)| writer)
            .filter(|writer| writer.state != State::Ended)
    }

    /// The writer `at` changes `key`, where no other's lock stands in the way.
    fn write(&mut self, at: usize, key: u8, what: u8) {
        let other = (key + 1 + what / 16 % (KEYS - 1)) % KEYS;
        let truncates = what >= 254;
        let is_free = |key: &u8| !self.holders(at).any(|w| w.locks_table || w.locks.contains(key));
        let all_free = self.readers == 0 && !self.holders(at).any(|w| w.locks_table || !w.locks.is_empty());
        if !is_free(&key) || !is_free(&other) || (truncates && !all_free) {
            return;
        }
        let version = self.tick();
        let there = self.live.get(&key).copied();
        let full = Row {
            version,
            toast: version,
        };
        let op = match (there, what % 16) {
            _ if truncates => Op::Truncate,
            (None, _) => Op::Put { key, row: full },
            (Some(_), 0..=2) => Op::Put { key, row: full },
            (Some(_), 3..=4) => Op::Touch { key, version },
            (Some(_), 5..=7) => Op::Delete { key, version },
            (Some(_), _) if self.live.contains_key(&other) => Op::Touch { key, version },
            (Some(_), 8..=10) => Op::Move {
                old: key,
                new: other,
                row: full,
                complete: true,
            },
            (Some(before), _) => {
                let row = Row {
                    version,
                    toast: before.toast,
                };
                Op::Move {
                    old: key,
                    new: other,
                    row,
                    complete: false,
                }
            }
        };
        let before = self.live.clone();
        apply(&mut self.live, &op);
        let writer = &mut self.writers[at];
        for key in (0..KEYS).filter(|key| before.get(key) != self.live.get(key)) {
            writer.undo.push((key, before.get(&key).copied()));
        }
        writer.locks.extend([key, other]);
        writer.locks_table |= truncates;
        writer.ops.push(op);
    }

    fn abort(&mut self, at: usize) {
        self.writers[at].state = State::Ended;
        for (key, row) in std::mem::take(&mut self.writers[at].undo).into_iter().rev() {
            match row {
                Some(row) => self.live.insert(key, row),
                None => self.live.remove(&key),
            };
        }
    }

    fn commit(&mut self, at: usize) {
        self.writers[at].state = State::Committed;
        self.wal.push((self.writers[at].xid, self.writers[at].ops.clone()));
    }

    /// A committed transaction becomes visible, and lets go of its locks.
    fn end_one(&mut self, pick: u8) {
        let committed = |writer: &&mut Writer| writer.state == State::Committed;
        let count = self.writers.iter().filter(|w| w.state == State::Committed).count();
        if count > 0 {
            let nth = pick as usize % count;
            self.writers.iter_mut().filter(committed).nth(nth).unwrap().state = State::Ended;
        }
    }

    fn end_all(&mut self) {
        for at in 0..self.writers.len() {
            if self.writers[at].state == State::Running {
                self.commit(at);
            }
            self.writers[at].state = State::Ended;
        }
    }

    fn is_locked(&self) -> bool {
        self.holders(usize::MAX).any(|writer| writer.locks_table)
    }

    fn snapshot(&self) -> Snapshot {
        let ended = self.writers.iter().filter(|w| w.state == State::Ended);
        let xmax = ended.map(|writer| writer.xid + 1).max().unwrap_or(FIRST_XID);
        let open = self.writers.iter().filter(|w| w.state != State::Ended);
        let running: Vec<u64> = open.map(|writer| writer.xid).filter(|xid| *xid < xmax).collect();
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        format!("{xmin}:{xmax}:{}", list.join(",")).parse().unwrap()
    }

    fn rows_seen_by(&self, snapshot: &Snapshot) -> Table {
        let mut table = self.base.clone();
        for (_, ops) in self.wal.iter().filter(|(xid, _)| snapshot.sees(*xid as u32)) {
            ops.iter().for_each(|op| apply(&mut table, op));
        }
        table
    }

    fn rows_at(&self, position: Lsn) -> Table {
        let mut table = self.base.clone();
        for (_, ops) in &self.wal[..position.0 as usize] {
            ops.iter().for_each(|op| apply(&mut table, op));
        }
        table
    }
}

/// A target that also checks that no key ever goes back.
#[derive(Debug, Default)]
struct Target {
    table: Table,
    newest: BTreeMap<u8, u64>,
}

impl Target {
    fn saw(&mut self, key: u8, version: u64) {
        let newest = self.newest.entry(key).or_default();
        assert!(*newest <= version, "key {key}: version {version} after {newest}");
        *newest = version;
    }

    fn deliver(&mut self, op: &Op) {
        match *op {
            Op::Put { key, row } => self.saw(key, row.version),
            Op::Touch { key, version } | Op::Delete { key, version } => self.saw(key, version),
            Op::Move { old, new, row, .. } => {
                self.saw(old, row.version);
                self.saw(new, row.version);
            }
            Op::Truncate => self.newest.clear(),
        }
        apply(&mut self.table, op);
    }
}

#[derive(Debug)]
struct Unit {
    number: u32,
    low: u8,
    high: u8,
    snapshot: Option<Snapshot>,
    rows: Table,
    finish: Option<Lsn>,
}

/// What is copied, streamed and merged.
struct World {
    server: Server,
    merge: KeyedMerge,
    floors: Floors<u32>,
    target: Target,
    position: Lsn,
    units: Vec<Unit>,
    next_unit: u32,
    /// Keys below are cut into units.
    cut: u8,
    /// Keys below `KEYS` whose unit is merged.
    merged: BTreeSet<u8>,
    last_finish: Lsn,
}

impl World {
    fn new(rows: u8) -> Self {
        let server = Server::new(rows);
        Self {
            floors: Floors::new(server.snapshot()),
            server,
            merge: KeyedMerge::default(),
            target: Target::default(),
            position: Lsn(0),
            units: Vec::new(),
            next_unit: 0,
            cut: 0,
            merged: BTreeSet::new(),
            last_finish: Lsn(0),
        }
    }

    fn step(&mut self, kind: u8, a: u8, b: u8) {
        match kind {
            0 | 1 => self.server.begin(),
            2..=7 => {
                if let Some(at) = self.server.running(a) {
                    self.server.write(at, a / 16 % KEYS, b);
                }
            }
            8 | 9 => {
                if let Some(at) = self.server.running(a) {
                    self.server.commit(at);
                }
            }
            10 if b < 60 => {
                if let Some(at) = self.server.running(a) {
                    self.server.abort(at);
                }
            }
            10 | 11 => self.server.end_one(a),
            12 => self.begin_unit(1 + a % 4),
            13 => self.take_snapshot(a),
            14 => self.finish_unit(a),
            15..=17 => self.stream_one(),
            _ => self.boundary(),
        }
    }

    fn begin_unit(&mut self, size: u8) {
        if self.cut == KEYS {
            return;
        }
        let low = self.cut;
        self.cut = KEYS.min(low + size);
        self.floors.begin(self.next_unit);
        self.units.push(Unit {
            number: self.next_unit,
            low,
            high: self.cut,
            snapshot: None,
            rows: Table::new(),
            finish: None,
        });
        self.next_unit += 1;
    }

    fn take_snapshot(&mut self, pick: u8) {
        if self.server.is_locked() {
            return;
        }
        let snapshot = self.server.snapshot();
        let rows = self.server.rows_seen_by(&snapshot);
        let mut waiting: Vec<&mut Unit> = self.units.iter_mut().filter(|u| u.snapshot.is_none()).collect();
        let count = waiting.len().max(1);
        if let Some(unit) = waiting.get_mut(pick as usize % count) {
            unit.rows = rows.range(unit.low..unit.high).map(|(key, row)| (*key, *row)).collect();
            self.floors.took(&unit.number, &snapshot);
            unit.snapshot = Some(snapshot);
            self.server.readers += 1;
        }
    }

    fn finish_unit(&mut self, pick: u8) {
        let reading = |unit: &&mut Unit| unit.snapshot.is_some() && unit.finish.is_none();
        let mut reading: Vec<&mut Unit> = self.units.iter_mut().filter(reading).collect();
        let count = reading.len().max(1);
        if let Some(unit) = reading.get_mut(pick as usize % count) {
            unit.finish = Some(self.server.insert_lsn());
            self.server.readers -= 1;
        }
    }

    /// The stream brings the next transaction.
    fn stream_one(&mut self) {
        let Some((xid, ops)) = self.server.wal.get(self.position.0 as usize).cloned() else {
            return;
        };
        ops.iter().for_each(|op| self.stream(xid as u32, op));
        self.position.0 += 1;
    }

    fn stream(&mut self, xid: u32, op: &Op) {
        let change = |key: u8| [key];
        let one = |merge: &mut KeyedMerge, key: u8| merge.change(xid, Change::One(&change(key))) == Verdict::Deliver;
        match *op {
            Op::Put { key, .. } | Op::Touch { key, .. } | Op::Delete { key, .. } => {
                if one(&mut self.merge, key) {
                    self.target.deliver(op);
                }
            }
            Op::Move {
                old,
                new,
                row,
                complete,
            } => {
                let moved = Change::Moved {
                    old: &[old],
                    new: &[new],
                    complete,
                };
                match self.merge.change(xid, moved) {
                    Verdict::Deliver => self.target.deliver(op),
                    Verdict::Drop => {}
                    Verdict::OldOnly => self.target.deliver(&Op::Delete {
                        key: old,
                        version: row.version,
                    }),
                    Verdict::NewOnly if complete => self.target.deliver(&Op::Put { key: new, row }),
                    Verdict::NewOnly => {}
                }
            }
            Op::Truncate => {
                self.target.deliver(op);
                self.restart();
            }
        }
    }

    fn restart(&mut self) {
        self.merge = KeyedMerge::default();
        let reading = self.units.iter().filter(|u| u.snapshot.is_some() && u.finish.is_none());
        self.server.readers -= reading.count();
        self.units.clear();
        self.floors.end_all(|_| true);
        (self.cut, self.last_finish) = (0, Lsn(0));
        self.merged.clear();
    }

    /// The stream stands at a commit's end: what is ready is merged, everybody's memory is checked.
    fn boundary(&mut self) {
        self.merge.advance(self.position);
        let (ready, rest) = std::mem::take(&mut self.units)
            .into_iter()
            .partition(|u| u.finish.is_some());
        self.units = rest;
        for unit in ready {
            self.merge_unit(unit);
        }
        let incomplete = self.merge.take_incomplete();
        self.read_again(incomplete);
        let floors = &self.floors;
        self.merge.prune(|xid| floors.all_see(xid, |_| true));
        self.check();
    }

    fn merge_unit(&mut self, mut unit: Unit) {
        let (snapshot, finish) = (unit.snapshot.unwrap(), unit.finish.unwrap());
        let stale = |key: &u8| self.merge.stale(&snapshot, &[*key]);
        let stale: Vec<Reread> = unit.rows.keys().filter_map(stale).collect();
        for reread in &stale {
            unit.rows.remove(&reread.key[0]);
        }
        self.go_out(&unit.rows, &snapshot, finish);
        self.read_again(stale);
        self.floors.end(&unit.number);
        self.merged.extend(unit.low..unit.high);
    }

    fn read_again(&mut self, keys: Vec<Reread>) {
        if keys.is_empty() {
            return;
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
        self.go_out(&rows, &snapshot, finish);
    }

    fn go_out(&mut self, rows: &Table, snapshot: &Snapshot, finish: Lsn) {
        for (key, row) in rows {
            self.target.deliver(&Op::Put { key: *key, row: *row });
        }
        let keys = rows.keys().map(|key| Key::from([*key]));
        self.merge.merged(self.position, snapshot, finish, keys);
        self.last_finish = self.last_finish.max(finish);
    }

    /// Behind every F, what is merged is as it was at the source at this very position.
    fn check(&self) {
        if self.position >= self.last_finish {
            let source = self.server.rows_at(self.position);
            for key in &self.merged {
                assert_eq!(
                    self.target.table.get(key),
                    source.get(key),
                    "key {key} at {}",
                    self.position
                );
            }
            assert!(self.merge.is_settled());
        }
    }

    /// Everything ends, the copy is completed, the stream is read to its end.
    fn finish(mut self) {
        self.server.end_all();
        while self.merged.len() < KEYS as usize || self.position < self.server.insert_lsn() {
            self.stream_one();
            self.begin_unit(3);
            self.take_snapshot(0);
            self.finish_unit(0);
            self.boundary();
        }
        assert_eq!(self.target.table, self.server.rows_at(self.server.insert_lsn()));
        assert_eq!(self.target.table, self.server.live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_target_is_the_source_at_every_boundary_and_never_goes_back(
        rows in any::<u8>(),
        steps in proptest::collection::vec((0..20_u8, any::<u8>(), any::<u8>()), 1..160),
    ) {
        let mut world = World::new(rows);
        for (kind, a, b) in steps {
            world.step(kind, a, b);
        }
        world.finish();
    }
}
