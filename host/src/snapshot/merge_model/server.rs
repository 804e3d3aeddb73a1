//! The server: transactions, their locks, the WAL, and snapshots of what is visible.

use super::super::visibility::Snapshot;
use crate::batch::Lsn;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const KEYS: u8 = 5;
/// Blocks of the heap.
pub(super) const PLACES: u8 = 4;
/// The ids cross the wrap of 32 bits on the way.
pub(super) const FIRST_XID: u64 = (1 << 32) - 6;

/// A row: when it was written last, and a large value that an update may leave alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) toast: u64,
    /// The block in which it lies: not a value of it, and another one behind many an update.
    pub(super) place: u8,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.toast) == (other.version, other.toast)
    }
}

pub(super) type Table = BTreeMap<u8, Row>;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Insert, or update with all values.
    Put {
        key: u8,
        row: Row,
    },
    /// Update that leaves the large value alone.
    Touch {
        key: u8,
        version: u64,
        place: u8,
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
pub(super) enum State {
    Running,
    Committed,
    Ended,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) xid: u64,
    pub(super) state: State,
    pub(super) ops: Vec<Op>,
    pub(super) undo: Vec<(u8, Option<Row>)>,
    pub(super) locks: BTreeSet<u8>,
    pub(super) locks_table: bool,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) base: Table,
    /// As the holders of the locks see it.
    pub(super) live: Table,
    pub(super) writers: Vec<Writer>,
    /// Committed transactions in order; the commit of the n-th ends at n + 1.
    pub(super) wal: Vec<(u64, Vec<Op>)>,
    pub(super) clock: u64,
    pub(super) readers: usize,
    /// Behind so many transactions of the WAL the table was rewritten: its rows lie elsewhere since.
    pub(super) rewrites: Vec<usize>,
}

pub(super) fn apply(table: &mut Table, op: &Op) {
    match *op {
        Op::Put { key, row } => {
            table.insert(key, row);
        }
        Op::Touch { key, version, place } => {
            if let Some(row) = table.get_mut(&key) {
                (row.version, row.place) = (version, place);
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

/// Where a rewrite puts a row.
fn move_elsewhere((key, row): (&u8, &mut Row)) {
    row.place = (row.place + 1 + key) % PLACES;
}

impl Server {
    pub(super) fn new(rows: u8) -> Self {
        let mut server = Self::default();
        for key in (0..KEYS).filter(|key| rows & (1 << key) != 0) {
            let version = server.tick();
            server.base.insert(
                key,
                Row {
                    version,
                    toast: version,
                    place: key % PLACES,
                },
            );
        }
        server.live = server.base.clone();
        server
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn insert_lsn(&self) -> Lsn {
        Lsn(self.wal.len() as u64)
    }

    pub(super) fn begin(&mut self) {
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

    pub(super) fn running(&self, pick: u8) -> Option<usize> {
        let running: Vec<usize> = (0..self.writers.len())
            .filter(|at| self.writers[*at].state == State::Running)
            .collect();
        (!running.is_empty()).then(|| running[pick as usize % running.len()])
    }

    pub(super) fn holders(&self, except: usize) -> impl Iterator<Item = &Writer> {
        let others = self.writers.iter().enumerate().filter(move |(at, _)| *at != except);
        others
            .map(|(_, writer)| writer)
            .filter(|writer| writer.state != State::Ended)
    }

    /// The writer `at` changes `key`, where no other's lock stands in the way.
    pub(super) fn write(&mut self, at: usize, key: u8, what: u8) {
        let other = (key + 1 + what / 16 % (KEYS - 1)) % KEYS;
        let truncates = what >= 254;
        let is_free = |key: &u8| !self.holders(at).any(|w| w.locks_table || w.locks.contains(key));
        let all_free = self.readers == 0 && !self.holders(at).any(|w| w.locks_table || !w.locks.is_empty());
        if !is_free(&key) || !is_free(&other) || (truncates && !all_free) {
            return;
        }
        let version = self.tick();
        let there = self.live.get(&key).copied();
        // Every other update leaves the row in its block.
        let place = match there {
            Some(before) if version.is_multiple_of(2) => before.place,
            _ => (version / 2 % u64::from(PLACES)) as u8,
        };
        let full = Row {
            version,
            toast: version,
            place,
        };
        let op = match (there, what % 16) {
            _ if truncates => Op::Truncate,
            (None, _) => Op::Put { key, row: full },
            (Some(_), 0..=2) => Op::Put { key, row: full },
            (Some(_), 3..=4) => Op::Touch { key, version, place },
            (Some(_), 5..=7) => Op::Delete { key, version },
            (Some(_), _) if self.live.contains_key(&other) => Op::Touch { key, version, place },
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
                    place,
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

    pub(super) fn abort(&mut self, at: usize) {
        self.writers[at].state = State::Ended;
        self.writers[at].locks_table = false;
        for (key, row) in std::mem::take(&mut self.writers[at].undo).into_iter().rev() {
            match row {
                Some(row) => self.live.insert(key, row),
                None => self.live.remove(&key),
            };
        }
    }

    pub(super) fn commit(&mut self, at: usize) {
        self.writers[at].state = State::Committed;
        self.wal.push((self.writers[at].xid, self.writers[at].ops.clone()));
    }

    /// VACUUM FULL, say, which the stream doesn't bring: nobody else has a lock.
    pub(super) fn rewrite(&mut self) {
        let is_free = self.readers == 0 && !self.holders(usize::MAX).any(|w| w.locks_table || !w.locks.is_empty());
        if is_free {
            self.rewrites.push(self.wal.len());
            self.live.iter_mut().for_each(move_elsewhere);
        }
    }

    /// The number of the file in which the table lies: TRUNCATE makes another one too.
    pub(super) fn file(&self) -> usize {
        let truncated = self.writers.iter().filter(|w| w.locks_table && w.state == State::Ended);
        self.rewrites.len() + truncated.count()
    }

    /// A committed transaction becomes visible, and lets go of its locks.
    pub(super) fn end_one(&mut self, pick: u8) {
        let committed = |writer: &&mut Writer| writer.state == State::Committed;
        let count = self.writers.iter().filter(|w| w.state == State::Committed).count();
        if count > 0 {
            let nth = pick as usize % count;
            self.writers.iter_mut().filter(committed).nth(nth).unwrap().state = State::Ended;
        }
    }

    pub(super) fn end_all(&mut self) {
        for at in 0..self.writers.len() {
            if self.writers[at].state == State::Running {
                self.commit(at);
            }
            self.writers[at].state = State::Ended;
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.holders(usize::MAX).any(|writer| writer.locks_table)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let ended = self.writers.iter().filter(|w| w.state == State::Ended);
        let xmax = ended.map(|writer| writer.xid + 1).max().unwrap_or(FIRST_XID);
        let open = self.writers.iter().filter(|w| w.state != State::Ended);
        let running: Vec<u64> = open.map(|writer| writer.xid).filter(|xid| *xid < xmax).collect();
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        format!("{xmin}:{xmax}:{}", list.join(",")).parse().unwrap()
    }

    pub(super) fn rows_seen_by(&self, snapshot: &Snapshot) -> Table {
        let mut table = self.base.clone();
        for at in 0..=self.wal.len() {
            for _ in self.rewrites.iter().filter(|behind| **behind == at) {
                table.iter_mut().for_each(move_elsewhere);
            }
            let next = self.wal.get(at).filter(|(xid, _)| snapshot.sees(*xid as u32));
            let ops = next.into_iter().flat_map(|(_, ops)| ops);
            ops.for_each(|op| apply(&mut table, op));
        }
        table
    }

    pub(super) fn rows_at(&self, position: Lsn) -> Table {
        let mut table = self.base.clone();
        for (_, ops) in &self.wal[..position.0 as usize] {
            ops.iter().for_each(|op| apply(&mut table, op));
        }
        table
    }
}
