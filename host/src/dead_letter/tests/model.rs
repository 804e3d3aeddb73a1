//! Any interleaving of refusals, key changes, truncates, crashes and replays against what must hold: every change is
//! delivered or stands in a letter, and per key nothing that is delivered overtakes what was set aside.

use super::*;
use crate::batch::{Lsn, Origin};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Change {
    Write { old: u8, new: u8, poison: bool },
    Delete { key: u8, poison: bool },
    Truncate,
}

#[derive(Clone, Debug)]
enum Step {
    /// Transactions in one batch, each with its changes.
    Batch(Vec<Vec<Change>>),
    /// The stream is read again from so many batches back; refusals may not come again.
    Crash {
        back: usize,
        mended: bool,
    },
    Replay {
        mended: bool,
    },
    Compact,
}

fn change() -> impl Strategy<Value = Change> {
    let poison = || prop::bool::weighted(0.25);
    prop_oneof![
        6 => (0..4_u8, poison()).prop_map(|(key, poison)| Change::Write { old: key, new: key, poison }),
        3 => (0..4_u8, 0..4_u8, poison()).prop_map(|(old, new, poison)| Change::Write { old, new, poison }),
        2 => (0..4_u8, poison()).prop_map(|(key, poison)| Change::Delete { key, poison }),
        1 => Just(Change::Truncate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let transaction = prop::collection::vec(change(), 1..4);
    prop_oneof![
        8 => prop::collection::vec(transaction, 1..4).prop_map(Step::Batch),
        2 => (0..4_usize, any::<bool>()).prop_map(|(back, mended)| Step::Crash { back, mended }),
        1 => any::<bool>().prop_map(|mended| Step::Replay { mended }),
        1 => Just(Step::Compact),
    ]
}

/// Commit LSN and ordinal.
type Id = (u64, u64);

struct World {
    folder: tempfile::TempDir,
    letters: DeadLetters,
    relation: Arc<Relation>,
    stream: Vec<Vec<(u64, Vec<Change>)>>,
    changes: BTreeMap<Id, Change>,
    delivered: BTreeSet<Id>,
    next_lsn: u64,
    /// The batch from which on the stream may come again: an acknowledged position never goes back.
    acknowledged: usize,
}

fn keys(change: &Change) -> BTreeSet<u8> {
    match change {
        Change::Write { old, new, .. } => [*old, *new].into(),
        Change::Delete { key, .. } => [*key].into(),
        Change::Truncate => BTreeSet::new(),
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            letters: open(folder.path()),
            folder,
            relation: orders(),
            stream: Vec::new(),
            changes: BTreeMap::new(),
            delivered: BTreeSet::new(),
            next_lsn: 0x10,
            acknowledged: 0,
        }
    }

    /// What stands in letters that block: of each its id.
    fn blocking(&self) -> BTreeSet<Id> {
        let peeked = peek(self.folder.path(), |_| {}).unwrap();
        let there = peeked
            .letters
            .iter()
            .filter(|(number, _)| !peeked.superseded.contains(number));
        there
            .map(|(_, letter)| (letter.change.commit_lsn.0, letter.change.ordinal))
            .collect()
    }

    fn all_letters(&self) -> BTreeSet<Id> {
        let peeked = peek(self.folder.path(), |_| {}).unwrap();
        let letters: Vec<Id> = peeked
            .letters
            .values()
            .map(|letter| (letter.change.commit_lsn.0, letter.change.ordinal))
            .collect();
        let ids: BTreeSet<Id> = letters.iter().copied().collect();
        assert_eq!(ids.len(), letters.len(), "a change stands in one letter");
        ids
    }

    fn delivery(&self, batch: &[(u64, Vec<Change>)]) -> Delivery {
        let mut builder = Builder::new();
        let names: Vec<String> = (0..4).map(|key| key.to_string()).collect();
        for (lsn, changes) in batch {
            builder = builder.transaction(*lsn, Part::Whole);
            for change in changes {
                builder = match change {
                    Change::Write { old, new, .. } => {
                        let row = [text(&names[*new as usize]), text("a"), Value::Null];
                        let before = [text(&names[*old as usize]), Value::Absent, Value::Absent];
                        let before = (old != new).then_some(&before[..]);
                        builder.update(&self.relation, &row, before)
                    }
                    Change::Delete { key, .. } => {
                        let row = [text(&names[*key as usize]), Value::Absent, Value::Absent];
                        builder.delete(&self.relation, &row)
                    }
                    Change::Truncate => builder.truncate(&[&self.relation], false, false),
                };
            }
        }
        builder.delivery(1)
    }

    fn feed(&mut self, at: usize, mended: bool) {
        let batch = self.stream[at].clone();
        let delivery = self.delivery(&batch);
        let flat: Vec<(Id, Change)> = batch
            .iter()
            .flat_map(|(lsn, changes)| changes.iter().enumerate().map(|(o, c)| ((*lsn, o as u64), c.clone())))
            .collect();
        let refused = |change: &Change| {
            matches!(
                change,
                Change::Write { poison: true, .. } | Change::Delete { poison: true, .. }
            ) && !mended
        };
        let poison: Vec<usize> = (0..flat.len()).filter(|at| refused(&flat[*at].1)).collect();
        let passed = pass(&self.letters, &delivery, &poison);
        let blocking = self.blocking();
        for at in passed {
            let (id, change) = &flat[at];
            for letter in blocking.range(..*id) {
                let shared = keys(change).intersection(&keys(&self.changes[letter])).count();
                assert_eq!(
                    shared, 0,
                    "{id:?} {change:?} overtakes {letter:?} {:?}",
                    self.changes[letter]
                );
            }
            self.delivered.insert(*id);
        }
    }

    fn replay(&mut self, mended: bool) {
        self.letters.request_replay(&Selection::All, false).unwrap();
        while let Some(replay) = self.letters.take_replay(Lsn(u64::MAX)).unwrap() {
            let rows: Vec<Row> = replay.rows.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
            let id = |row: &Row| (replay.batch.transaction(row).commit_lsn.0, row.ordinal);
            let fails = rows.iter().filter(|row| {
                let poison = Origin::Stream != replay.batch.transaction(row).origin;
                poison && !mended && id(row).0 % 0x30 == 0
            });
            let held = self
                .letters
                .failed_again(&replay, fails.map(rejected).collect(), &[])
                .unwrap();
            let mut left = self.blocking();
            for row in rows.iter().filter(|row| !held.holds(row)) {
                let change = &self.changes[&id(row)];
                for earlier in left.range(..id(row)) {
                    let shared = keys(change).intersection(&keys(&self.changes[earlier])).count();
                    assert_eq!(shared, 0, "{:?} overtakes {earlier:?}", id(row));
                }
                left.remove(&id(row));
                self.delivered.insert(id(row));
            }
            self.letters.settle(replay.ticket).unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch(transactions) => {
                let mut batch = Vec::new();
                for changes in transactions {
                    for (ordinal, change) in changes.iter().enumerate() {
                        self.changes.insert((self.next_lsn, ordinal as u64), change.clone());
                    }
                    batch.push((self.next_lsn, changes));
                    self.next_lsn += 0x10;
                }
                self.stream.push(batch);
                self.feed(self.stream.len() - 1, false);
            }
            Step::Crash { back, mended } => {
                let from = self.stream.len().saturating_sub(back).max(self.acknowledged);
                self.acknowledged = from;
                self.letters = open(self.folder.path());
                let position = self.stream.get(from).map_or(self.next_lsn, |batch| batch[0].0);
                self.letters.acknowledged(Lsn(position));
                (from..self.stream.len()).for_each(|at| self.feed(at, mended));
            }
            Step::Replay { mended } => self.replay(mended),
            Step::Compact => self.letters.with(|state| state.compact()).unwrap(),
        }
        let letters = self.all_letters();
        for (id, change) in &self.changes {
            let set_aside = letters.contains(id);
            assert!(
                set_aside != self.delivered.contains(id),
                "{id:?} {change:?}: letter {set_aside}"
            );
        }
        let blocked: BTreeSet<u8> = self.blocking().iter().flat_map(|id| keys(&self.changes[id])).collect();
        assert_eq!(self.letters.counts().blocked_keys, blocked.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_doubled_or_overtaken(steps in prop::collection::vec(step(), 1..14)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}
