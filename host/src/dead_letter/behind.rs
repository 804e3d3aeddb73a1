//! What of a batch has to wait, known while the batch is on its way through the plugins.
//!
//! [`DeadLetters::set_aside`] decides behind the plugins, and a plugin that keeps something has counted by then what it
//! was shown. So whoever runs such plugins asks here first, row by row, and gets the same answers: what stands in a letter
//! or waits behind one isn't shown at all, and what the plugins refuse blocks the later rows of its key in turn. Nothing
//! of this is recorded.

use super::aside::{Held, blocker, is_concerned, is_known, is_refused};
use super::index::{Asked, Entry, Index};
use super::key;
use super::letter::{Change, Letter, Standing};
use super::line::Place;
use super::store::{DeadLetters, RouteId, State};
use crate::batch::{Batch, Op, Origin, Row};
use crate::plugin::Waits;
use rustc_hash::{FxHashMap, FxHashSet};

/// The rows of a route in one batch that wait. Without letters, those that wait behind what is set aside of the batch itself.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    route: u32,
    /// What was known before the plugins have seen anything.
    held: Held,
    /// Changes of the batch that are set aside or wait.
    index: Index,
    next: u64,
    /// Where tables were truncated, by their OIDs, ascending.
    truncated: FxHashMap<u32, Vec<Standing>>,
    /// Tables whose letters can't be told apart by their keys.
    mixed: FxHashSet<u32>,
    /// Nothing waits for anything.
    unordered: bool,
    scratch: Vec<u8>,
}

impl DeadLetters {
    /// What of a route's rows waits behind the letters that are there now, or stands in one. A truncate of which `counts`
    /// is false frees no key.
    pub fn behind(&self, route: RouteId, batch: &Batch, rows: &[Row], counts: impl Fn(&Row) -> bool) -> Behind {
        let mut behind = Behind {
            route: route.0,
            ..Behind::default()
        };
        if !batch.truncates.is_empty() {
            let truncates = rows.iter().filter(|row| row.op == Op::Truncate && counts(row));
            truncates.for_each(|row| behind.truncate(batch, row));
        }
        if !self.is_empty() {
            self.with(|state| behind.look(state, batch, rows));
        }
        behind
    }
}

impl Behind {
    /// For letters that are sent in whatever order.
    pub fn unordered() -> Self {
        Self {
            unordered: true,
            ..Self::default()
        }
    }

    /// What was known before the plugins have seen anything.
    pub fn held(&self) -> &Held {
        &self.held
    }

    pub fn into_held(self) -> Held {
        self.held
    }

    /// For rows that keep nothing of each other, of which these are known to wait.
    pub fn holding(held: Held) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    fn truncate(&mut self, batch: &Batch, row: &Row) {
        let at = order(batch, row);
        let truncate = batch.truncates.get(row.extra as usize);
        let relations = truncate.iter().flat_map(|truncate| &truncate.relations);
        for relation in relations.filter_map(|at| batch.relations.get(*at as usize)) {
            self.truncated.entry(relation.oid).or_default().push(at);
        }
    }

    fn look(&mut self, state: &State, batch: &Batch, rows: &[Row]) {
        let (index, route) = (&state.index, RouteId(self.route));
        if !is_concerned(index, route, batch) {
            return;
        }
        for relation in &batch.relations {
            if index.concerns_all(self.route, relation.oid, key::shape_of(relation)) {
                self.mixed.insert(relation.oid);
            }
        }
        let mut held = Vec::new();
        for row in rows.iter().filter(|row| row.op.is_of_a_table()) {
            // What has waited before blocks by its letter, where that is still there.
            if is_known(index, route, batch, row) {
                held.push((row.transaction, row.ordinal));
                if is_refused(index, route, batch, row) {
                    // Its letter is still to come.
                    self.enter(batch, row);
                }
            } else if self.is_behind(index, batch, row) || self.is_behind_own(batch, row) {
                held.push((row.transaction, row.ordinal));
                self.enter(batch, row);
            }
        }
        self.held = Held::of(held);
    }

    fn is_behind(&mut self, index: &Index, batch: &Batch, row: &Row) -> bool {
        let relation = batch.relation(row);
        if !index.concerns(self.route, relation.oid) {
            return false;
        }
        let order = order(batch, row);
        let truncated = self.truncated.get(&relation.oid);
        let since = truncated.and_then(|at| at.iter().rev().find(|at| **at < order).copied());
        let asked = Asked {
            route: self.route,
            oid: relation.oid,
            shape: key::shape_of(relation),
            order,
            since,
        };
        blocker(index, asked, batch, row, &mut self.scratch).is_some()
            || self.mixed.contains(&relation.oid) && index.blocker(asked, None).is_some()
    }

    fn is_behind_own(&mut self, batch: &Batch, row: &Row) -> bool {
        let index = std::mem::take(&mut self.index);
        let is_behind = self.is_behind(&index, batch, row);
        self.index = index;
        is_behind
    }

    /// Its keys are blocked from here on.
    fn enter(&mut self, batch: &Batch, row: &Row) {
        let letter = Letter::of(batch, row, "", 0);
        let table = letter.table.full_name().into();
        let nowhere = Place { offset: 0, len: 0 };
        let entry = Entry {
            order: order(batch, row),
            ..Entry::new(&letter, self.route, table, nowhere)
        };
        self.index.insert(self.next, entry);
        self.next += 1;
    }
}

impl Waits for Behind {
    fn is_idle(&self) -> bool {
        self.unordered || self.index.entries.is_empty()
    }

    fn set_aside(&mut self, batch: &Batch, row: &Row) {
        if !self.unordered && row.op.is_of_a_table() {
            self.enter(batch, row);
        }
    }

    fn waits(&mut self, batch: &Batch, row: &Row) -> bool {
        if self.is_idle() || !row.op.is_of_a_table() {
            return false;
        }
        let at = order(batch, row);
        if at.streamed && self.index.knows((self.route, at.lsn.0, at.ordinal)) {
            return true;
        }
        let waits = self.is_behind_own(batch, row);
        if waits {
            self.enter(batch, row);
        }
        waits
    }
}

/// Letters that are sent again stand in the order in which they are sent.
fn order(batch: &Batch, row: &Row) -> Standing {
    match batch.transaction(row).origin {
        Origin::Replay(_) => Standing {
            lsn: crate::batch::Lsn(u64::from(row.transaction)),
            streamed: true,
            ordinal: row.ordinal,
        },
        _ => Change::of(batch, row).order(),
    }
}
