//! What is known in memory of the letters: which keys they block, and which changes they are of.

use super::digest::{self, RowDigest};
use super::key::Keys;
use super::letter::{Letter, Standing};
use super::line::Place;
use crate::batch::Lsn;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A letter without its values.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub place: Place,
    pub route: u32,
    pub oid: u32,
    /// `schema.table`
    pub table: Arc<str>,
    /// Of its table's key columns, see [`super::key`].
    pub shape: u64,
    pub keys: Keys,
    pub order: Standing,
    pub behind: bool,
    pub superseded: bool,
    /// The request under whose number it was sent, where it may have arrived somewhere: its ids stay as they were.
    pub sent_under: Option<u32>,
    pub set_aside_us: i64,
    /// What a copied row is known by: its place in a unit may be another row's once the unit is read again.
    pub digest: Option<RowDigest>,
    /// As [`Letter::sinks`].
    pub sinks: Option<Arc<[String]>>,
}

impl Entry {
    pub(super) fn new(letter: &Letter, route: u32, table: Arc<str>, place: Place) -> Self {
        Self {
            place,
            route,
            oid: letter.table.oid,
            table,
            shape: super::key::shape_of_letter(&letter.table),
            keys: Keys::of_letter(letter),
            order: letter.change.order(),
            behind: letter.behind.is_some(),
            superseded: false,
            sent_under: None,
            set_aside_us: letter.set_aside_us,
            digest: letter.change.copy.is_some().then(|| digest::of(letter)),
            sinks: letter.sinks.as_deref().map(Arc::from),
        }
    }
}

/// A streamed change: route, commit LSN, ordinal.
pub(super) type ChangeId = (u32, u64, u64);

/// The letters that block something of a table of a route.
#[derive(Clone, Debug, Default)]
struct Table {
    keys: FxHashMap<Box<[u8]>, BTreeSet<u64>>,
    /// Those of which a key value isn't known: they may be of any row.
    wild: BTreeSet<u64>,
    all: BTreeSet<u64>,
    /// How many letters have keys of each shape.
    shapes: FxHashMap<u64, usize>,
    behind: usize,
}

impl Table {
    /// Whether keys can be told apart, so that one letter doesn't concern all rows.
    fn is_exact(&self, shape: u64) -> bool {
        self.wild.is_empty() && self.shapes.len() <= 1 && self.shapes.keys().all(|known| *known == shape)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub entries: BTreeMap<u64, Entry>,
    tables: FxHashMap<(u32, u32), Table>,
    /// Changes that stand in a letter, or stood in one and may be sent again by the server.
    known: FxHashMap<ChangeId, Option<u64>>,
    copied: FxHashMap<RowDigest, u64>,
    /// Changes that are to be set aside when they come again, with the sink that can't take them.
    refused: FxHashMap<ChangeId, String>,
    /// The newest position among `known` and `refused`.
    newest: Lsn,
    ghosts: usize,
    pub blocked_keys: usize,
    /// Bytes of the lines of letters that are there.
    pub live_bytes: u64,
}

/// A change to be judged: its keys one after the other.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub route: u32,
    pub oid: u32,
    pub shape: u64,
    pub order: Standing,
    /// Letters up to here block nothing: where the table was truncated.
    pub since: Option<Standing>,
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.known.is_empty() && self.refused.is_empty()
    }

    /// Whether changes of the table may be blocked.
    pub(super) fn concerns(&self, route: u32, oid: u32) -> bool {
        self.tables.contains_key(&(route, oid))
    }

    pub(super) fn newest(&self) -> Lsn {
        self.newest
    }

    /// Whether the streamed change stands in a letter, stood in one, or is to stand in one.
    pub(super) fn knows(&self, id: ChangeId) -> bool {
        self.known.contains_key(&id) || self.refused.contains_key(&id)
    }

    /// The change is to be set aside when it comes again. `false` where it stands in a letter, or stood in one.
    pub(super) fn refuse(&mut self, id: ChangeId, sink: String) -> bool {
        let is_new = !self.known.contains_key(&id);
        if is_new {
            self.refused.insert(id, sink);
            self.newest = self.newest.max(Lsn(id.1));
        }
        is_new
    }

    /// The sink that can't take the change, where it is to be set aside.
    pub(super) fn refused_by(&self, id: ChangeId) -> Option<&str> {
        self.refused.get(&id).map(String::as_str)
    }

    pub(super) fn refused(&self) -> impl Iterator<Item = (ChangeId, &str)> {
        self.refused.iter().map(|(id, sink)| (*id, sink.as_str()))
    }

    /// The letter of a copied row.
    pub(super) fn copied(&self, digest: &RowDigest) -> Option<u64> {
        self.copied.get(digest).copied()
    }

    /// The letter that a key has to wait behind. `None` for the key: it isn't known.
    pub(super) fn blocker(&self, asked: Asked, key: Option<&[u8]>) -> Option<u64> {
        let table = self.tables.get(&(asked.route, asked.oid))?;
        let blocks = |number: &&u64| {
            let entry = self.entries.get(number);
            entry.is_some_and(|entry| {
                precedes(entry, asked.order) && asked.since.is_none_or(|since| since < entry.order)
            })
        };
        let among = match key {
            Some(key) if table.is_exact(asked.shape) => table.keys.get(key)?,
            _ => &table.all,
        };
        among.iter().find(blocks).copied()
    }

    /// Whether the letters of a table concern all rows of this shape.
    pub(super) fn concerns_all(&self, route: u32, oid: u32, shape: u64) -> bool {
        let table = self.tables.get(&(route, oid));
        table.is_some_and(|table| !table.is_exact(shape))
    }

    pub(super) fn behind(&self, route: u32, oid: u32) -> usize {
        self.tables.get(&(route, oid)).map_or(0, |table| table.behind)
    }

    pub(super) fn insert(&mut self, number: u64, entry: Entry) {
        self.live_bytes += entry.place.len;
        match entry.digest {
            Some(digest) => {
                self.copied.insert(digest, number);
            }
            None => {
                let id = (entry.route, entry.order.lsn.0, entry.order.ordinal);
                if self.known.insert(id, Some(number)) == Some(None) {
                    self.ghosts -= 1;
                }
                // It goes on counting until the letter has its place on disk.
                if entry.place.len > 0 {
                    self.refused.remove(&id);
                }
                self.newest = self.newest.max(entry.order.lsn);
            }
        }
        if !entry.superseded {
            self.block(number, &entry);
        }
        self.entries.insert(number, entry);
    }

    fn block(&mut self, number: u64, entry: &Entry) {
        let table = self.tables.entry((entry.route, entry.oid)).or_default();
        table.all.insert(number);
        *table.shapes.entry(entry.shape).or_default() += 1;
        table.behind += usize::from(entry.behind);
        for key in &entry.keys.own {
            let numbers = table.keys.entry(key.clone()).or_default();
            self.blocked_keys += usize::from(numbers.is_empty());
            numbers.insert(number);
        }
        if entry.keys.wild {
            table.wild.insert(number);
        }
    }

    fn unblock(&mut self, number: u64, entry: &Entry) {
        let place = (entry.route, entry.oid);
        let Some(table) = self.tables.get_mut(&place) else {
            return;
        };
        if !table.all.remove(&number) {
            return;
        }
        table.wild.remove(&number);
        table.behind -= usize::from(entry.behind);
        if let Some(count) = table.shapes.get_mut(&entry.shape) {
            *count -= 1;
            if *count == 0 {
                table.shapes.remove(&entry.shape);
            }
        }
        for key in &entry.keys.own {
            if let Some(numbers) = table.keys.get_mut(key) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    table.keys.remove(key);
                    self.blocked_keys -= 1;
                }
            }
        }
        if table.all.is_empty() {
            self.tables.remove(&place);
        }
    }

    /// Takes a letter out. The server may send its change again for as long as it isn't acknowledged, so it stays
    /// known.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.live_bytes -= entry.place.len;
        self.unblock(number, &entry);
        match entry.digest {
            Some(digest) => {
                self.copied.remove(&digest);
            }
            None => self.ghost((entry.route, entry.order.lsn.0, entry.order.ordinal)),
        }
        Some(entry)
    }

    pub(super) fn ghost(&mut self, id: ChangeId) {
        if self.known.insert(id, None) != Some(None) {
            self.ghosts += 1;
        }
        self.newest = self.newest.max(Lsn(id.1));
    }

    pub(super) fn ghosts(&self) -> impl Iterator<Item = ChangeId> {
        self.known
            .iter()
            .filter(|(_, letter)| letter.is_none())
            .map(|(id, _)| *id)
    }

    /// What committed before `lsn` is never sent again. Returns what was to be set aside of that.
    pub(super) fn acknowledged(&mut self, lsn: Lsn) -> Vec<(ChangeId, String)> {
        let passed: Vec<_> = self.refused.extract_if(|id, _| id.1 < lsn.0).collect();
        if self.ghosts > 0 {
            self.known.retain(|id, letter| letter.is_some() || id.1 >= lsn.0);
            self.ghosts = self.known.values().filter(|letter| letter.is_none()).count();
        }
        passed
    }

    /// Nothing is known any more of changes that commit from `lsn` on. Says whether anything was.
    pub(super) fn forget_from(&mut self, lsn: Lsn) -> bool {
        let before = (self.known.len(), self.refused.len());
        self.known.retain(|id, letter| letter.is_some() || id.1 < lsn.0);
        self.refused.retain(|id, _| id.1 < lsn.0);
        self.ghosts = self.known.values().filter(|letter| letter.is_none()).count();
        before != (self.known.len(), self.refused.len())
    }

    pub(super) fn forget_refused(&mut self, id: ChangeId) {
        self.refused.remove(&id);
    }

    /// The letters of a table that a truncate at `order` makes meaningless.
    pub(super) fn supersede(&mut self, route: u32, oid: u32, order: Standing) -> Vec<u64> {
        let Some(table) = self.tables.get(&(route, oid)) else {
            return Vec::new();
        };
        let before = |number: &&u64| self.entries.get(number).is_some_and(|entry| entry.order < order);
        let numbers: Vec<u64> = table.all.iter().filter(before).copied().collect();
        numbers.iter().for_each(|number| self.mark_superseded(*number));
        numbers
    }

    pub(super) fn mark_superseded(&mut self, number: u64) {
        if let Some(mut entry) = self.entries.remove(&number) {
            self.unblock(number, &entry);
            entry.superseded = true;
            self.entries.insert(number, entry);
        }
    }

    /// Letters that a request sends no more keep its number, unless they have an earlier one's. Returns them, ascending.
    pub(super) fn keep_number(&mut self, request: u32, letters: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut kept: BTreeSet<u64> = BTreeSet::new();
        for number in letters {
            let entry = self.entries.get_mut(&number);
            if let Some(entry) = entry.filter(|entry| entry.sent_under.is_none()) {
                entry.sent_under = Some(request);
                kept.insert(number);
            }
        }
        kept.into_iter().collect()
    }

    pub(super) fn set_place(&mut self, number: u64, place: Place) {
        if let Some(entry) = self.entries.get_mut(&number) {
            self.live_bytes = self.live_bytes - entry.place.len + place.len;
            entry.place = place;
            if entry.digest.is_none() {
                self.refused
                    .remove(&(entry.route, entry.order.lsn.0, entry.order.ordinal));
            }
        }
    }

    /// The letters that share a key with `number` and come before it, but for those that count no more.
    pub(super) fn earlier(&self, number: u64) -> Vec<u64> {
        let Some(entry) = self.entries.get(&number) else {
            return Vec::new();
        };
        let Some(table) = self.tables.get(&(entry.route, entry.oid)) else {
            return Vec::new();
        };
        let of_keys = entry.keys.own.iter().filter_map(|key| table.keys.get(key)).flatten();
        let is_earlier = |other: &Entry| !other.superseded && other.order < entry.order;
        let earlier = of_keys.filter(|other| self.entries.get(other).is_some_and(is_earlier));
        earlier.copied().collect()
    }

    /// All letters that share a key with `number`, directly or through others, itself included: those whose order
    /// among each other counts.
    pub(super) fn group(&self, number: u64) -> FxHashSet<u64> {
        let mut group = FxHashSet::default();
        let mut open = vec![number];
        while let Some(number) = open.pop() {
            if !group.insert(number) {
                continue;
            }
            let Some(entry) = self.entries.get(&number).filter(|entry| !entry.superseded) else {
                continue;
            };
            let Some(table) = self.tables.get(&(entry.route, entry.oid)) else {
                continue;
            };
            if !table.is_exact(entry.shape) {
                open.extend(table.all.iter().filter(|other| !group.contains(other)));
                continue;
            }
            for numbers in entry.keys.own.iter().filter_map(|key| table.keys.get(key)) {
                open.extend(numbers.iter().filter(|other| !group.contains(other)));
            }
        }
        group
    }
}

/// Whether a change at `order` comes behind the letter. A unit that is read again may be merged elsewhere, so copied
/// rows of a key wait behind each other wherever they are.
fn precedes(entry: &Entry, order: Standing) -> bool {
    entry.order < order || !order.streamed && !entry.order.streamed
}
