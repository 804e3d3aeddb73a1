//! The rules by which units of a keyed table are merged into the stream: pure, over bytes that stand for keys.
//!
//! `mod.rs` has the argument why they are right, `merge_model.rs` the model that they are tested against.

use super::visibility::Snapshot;
use crate::batch::Lsn;
use rustc_hash::{FxHashMap, FxHashSet};

/// A key's bytes, the same from COPY and stream.
pub(super) type Key = Box<[u8]>;

/// What a streamed change does to the keys of its table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'k> {
    /// An insert, a delete, or an update that leaves the key alone.
    One(&'k [u8]),
    /// An update that leaves the key alone, and came without all of its values, where the target may lack the row and no
    /// unit may bring it: then it is to be read again, until [`KeyedMerge::rows_are_there`].
    Part(&'k [u8]),
    /// An update of the key: a delete of the old one and an insert of the new one. `complete` tells whether all
    /// values of the new row came with it (no unchanged TOAST).
    Moved {
        old: &'k [u8],
        new: &'k [u8],
        complete: bool,
    },
}

/// What is delivered of a streamed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Deliver,
    /// A copied row that has gone out holds it already.
    Drop,
    /// Of a [`Change::Moved`], the delete of the old key.
    OldOnly,
    /// Of a [`Change::Moved`], the insert of the new key.
    NewOnly,
}

/// Keys that went out with their state as of `snapshot`, while changes it sees may still come.
#[derive(Debug)]
struct Cover {
    snapshot: Snapshot,
    finish: Lsn,
    keys: FxHashSet<Key>,
}

/// A key to be read again, once the transaction is visible where one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reread {
    pub key: Key,
    pub xid: Option<u32>,
}

/// A keyed table while it is being copied.
#[derive(Debug, Default)]
pub(super) struct KeyedMerge {
    /// The last streamed transaction that changed a key, while an open or coming snapshot may not see it. The last
    /// is enough: who changes a row waits until its last writer is visible, so whoever sees a writer sees all before.
    changed: FxHashMap<Key, u32>,
    /// How large `changed` was after it was last pruned.
    pruned_len: usize,
    covers: Vec<Cover>,
    /// Keys that were streamed without all of their values, see [`Change::Moved`] and [`Change::Part`].
    incomplete: FxHashSet<Key>,
    rows_are_there: bool,
    bytes: usize,
}

/// Pruning looks at every remembered key; it waits until they have doubled, and there are at least this many.
const PRUNE_MIN: usize = 4096;

/// What a remembered key costs besides its bytes.
const KEY_OVERHEAD_BYTES: usize = 48;

impl KeyedMerge {
    /// Judges a change of the transaction `xid` that the stream has come to, and remembers it.
    pub(super) fn change(&mut self, xid: u32, change: Change<'_>) -> Verdict {
        match change {
            Change::One(key) => {
                self.remember(key, xid);
                match self.is_covered(key, xid) {
                    true => Verdict::Drop,
                    false => Verdict::Deliver,
                }
            }
            Change::Part(key) => {
                let verdict = self.change(xid, Change::One(key));
                if verdict == Verdict::Deliver && !self.rows_are_there {
                    self.incomplete.insert(key.into());
                }
                verdict
            }
            Change::Moved { old, new, complete } => {
                self.remember(old, xid);
                self.remember(new, xid);
                let verdict = match (self.is_covered(old, xid), self.is_covered(new, xid)) {
                    (true, true) => Verdict::Drop,
                    (true, false) => Verdict::NewOnly,
                    (false, true) => Verdict::OldOnly,
                    (false, false) => Verdict::Deliver,
                };
                let new_goes_out = matches!(verdict, Verdict::Deliver | Verdict::NewOnly);
                if new_goes_out && !complete {
                    // Whether the target has the old row, and with it the value, can't be told.
                    self.incomplete.insert(new.into());
                }
                verdict
            }
        }
    }

    /// Rows with these keys went out in an earlier run, maybe: what `snapshot` sees of them isn't to come again. Those of
    /// a `repair` are read once more, as nobody knows whether they arrived.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, finish: Lsn, keys: &[Key], repair: bool) {
        self.merged(Lsn(0), snapshot, finish, keys.iter().cloned());
        if repair {
            self.incomplete.extend(keys.iter().cloned());
        }
    }

    /// Whether [`Self::stale`] can be true of any key.
    pub(super) fn is_mindful(&self) -> bool {
        !self.changed.is_empty() || !self.covers.is_empty()
    }

    /// Whether a unit that was read under `snapshot` must not bring this key of its as it has it.
    pub(super) fn stale(&self, snapshot: &Snapshot, key: &[u8]) -> Option<Reread> {
        let unseen = self.changed.get(key).copied().filter(|xid| !snapshot.sees(*xid));
        // Read again for another reason, maybe later than the unit was.
        let is_out = || self.covers.iter().any(|cover| cover.keys.contains(key));
        (unseen.is_some() || is_out()).then(|| Reread {
            key: key.into(),
            xid: unseen,
        })
    }

    /// The keys that are to be read again though no unit brings them: of changes that were not complete.
    pub(super) fn take_incomplete(&mut self) -> Vec<Reread> {
        let incomplete = std::mem::take(&mut self.incomplete);
        incomplete.into_iter().map(|key| self.reread(key)).collect()
    }

    /// They couldn't be read yet.
    pub(super) fn put_back(&mut self, incomplete: Vec<Reread>) {
        self.incomplete.extend(incomplete.into_iter().map(|reread| reread.key));
    }

    /// As the key would be read now.
    pub(super) fn reread(&self, key: Key) -> Reread {
        Reread {
            // Not who moved it but who wrote last; forgotten where everybody sees that.
            xid: self.changed.get(&key).copied(),
            key,
        }
    }

    /// Rows with these keys, read under `snapshot`, go out at `position`.
    pub(super) fn merged(&mut self, position: Lsn, snapshot: &Snapshot, finish: Lsn, keys: impl Iterator<Item = Key>) {
        if position >= finish {
            return; // nothing that the snapshot sees is still to come
        }
        let keys: FxHashSet<Key> = keys.collect();
        if !keys.is_empty() {
            self.bytes += keys.iter().map(cost).sum::<usize>();
            self.covers.push(Cover {
                snapshot: snapshot.clone(),
                finish,
                keys,
            });
        }
    }

    /// The table was truncated: whatever changed it before has ended, and every coming snapshot sees that. What rows that went
    /// out show is kept: where the TRUNCATE comes again after a crash they may have gone out behind it.
    pub(super) fn truncated(&mut self) {
        let covers = std::mem::take(&mut self.covers);
        let bytes = covers.iter().flat_map(|cover| &cover.keys).map(cost).sum();
        *self = Self {
            covers,
            bytes,
            ..Self::default()
        };
    }

    /// The stream stands at `position`, at a commit's end.
    pub(super) fn advance(&mut self, position: Lsn) {
        let bytes = &mut self.bytes;
        self.covers.retain(|cover| {
            let open = position < cover.finish;
            if !open {
                *bytes -= cover.keys.iter().map(cost).sum::<usize>();
            }
            open
        });
    }

    /// Whether it is time to forget what everybody sees, see [`Self::prune`].
    pub(super) fn wants_pruning(&self) -> bool {
        self.changed.len() >= PRUNE_MIN.max(self.pruned_len * 2)
    }

    /// Forgets the changes that every open snapshot and every coming one sees.
    pub(super) fn prune(&mut self, seen_by_all: impl Fn(u32) -> bool) {
        let bytes = &mut self.bytes;
        self.changed.retain(|key, xid| {
            let keep = !seen_by_all(*xid);
            if !keep {
                *bytes -= cost(key);
            }
            keep
        });
        self.pruned_len = self.changed.len();
    }

    /// All units are out, and the stream has passed their F: a change that comes now finds its row.
    pub(super) fn rows_are_there(&mut self) {
        self.rows_are_there = true;
    }

    pub(super) fn are_rows_there(&self) -> bool {
        self.rows_are_there
    }

    /// Whether a change that is still to come could be judged by what is kept here.
    pub(super) fn is_settled(&self) -> bool {
        self.covers.is_empty() && self.incomplete.is_empty()
    }

    /// Whether keys are to be read again though no unit brings them, see [`Self::take_incomplete`].
    pub(super) fn owes(&self) -> bool {
        !self.incomplete.is_empty()
    }

    /// Memory held by keys.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    fn remember(&mut self, key: &[u8], xid: u32) {
        match self.changed.get_mut(key) {
            Some(last) => *last = xid,
            None => {
                let key: Key = key.into();
                self.bytes += cost(&key);
                self.changed.insert(key, xid);
            }
        }
    }

    fn is_covered(&self, key: &[u8], xid: u32) -> bool {
        self.covers
            .iter()
            .any(|cover| cover.snapshot.sees(xid) && cover.keys.contains(key))
    }
}

fn cost(key: &Key) -> usize {
    key.len() + KEY_OVERHEAD_BYTES
}
