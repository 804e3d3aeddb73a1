//! The entries by key of one plugin, however many instances it has.
//!
//! They are all in memory, at most [`ENTRY_BYTES_MIN`] times as many as the quota says bytes; what has changed since the
//! last checkpoint goes into the state store with it.
//!
//! While a version is on probation the one before sees the same rows and writes too. It has a view of its own then: what
//! the running one has, but for the keys in which the two differ.
//!
//! ```text
//!   key              a    b    c
//!   running          1    7    -     what the version on probation reads and writes; stored as the plugin's own
//!   differs               5    9     for the one that waits: `b` was written over, `c` was deleted, by the running one alone
//!   waiting          1    5    9
//! ```
//!
//! A key in which they agree isn't among those that differ. So there are never more of these than entries in both views, and
//! each view is bounded by the quota. They are stored at each checkpoint beside the plugin's own, and become its own where
//! the version before comes back.
//!
//! What can be gone back to, and what goes into the store next, is bounded in the same way ([`Firsts`]): by what was there
//! then and is there now, so by twice the quota.

use crate::checkpoint::{EntryBytes, PluginEntries, PluginState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod firsts;
#[cfg(test)]
mod tests;

pub(super) use firsts::Firsts;

/// There is at most one entry for so many bytes of the quota: what an entry costs besides its key and value.
const ENTRY_BYTES_MIN: u64 = 64;
/// Before a value that is stored of the version that waits; without one the key has no value for it.
const HAS_VALUE: u8 = 1;
const HAS_NONE: u8 = 0;

/// Whose entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Running,
    /// Of the version that waits for the end of a probation.
    Waiting,
}

impl View {
    const BOTH: [Self; 2] = [Self::Running, Self::Waiting];
}

#[derive(Clone)]
pub(super) struct Entries {
    plugin: Arc<str>,
    map: HashMap<EntryBytes, EntryBytes>,
    /// Keys and values, in bytes.
    used: u64,
    quota: u64,
    /// Keys that were written or deleted since the last checkpoint, and whether that has them.
    changed: Firsts<()>,
    /// While a version waits.
    waiting: Option<Waiting>,
    /// What the store has of a version that waited at the last checkpoint, until one takes it up.
    stored: Vec<(EntryBytes, EntryBytes)>,
    /// Whether the store has anything of a version that waits.
    in_store: bool,
    /// Whether that is of no use any more.
    stale: bool,
    /// What there was at each [`SharedEntries::save`], the newest last.
    saved: Vec<Saved>,
}

/// What to go back to, by view.
type Saved = [Firsts<EntryBytes>; 2];

/// How what the version that waits has differs from what the running one has.
#[derive(Clone, Default)]
struct Waiting {
    /// `None` for a key that has no value for it.
    differs: HashMap<EntryBytes, Option<EntryBytes>>,
    /// As [`Entries::used`].
    used: u64,
    len: usize,
    /// Keys that were written in either view since the last checkpoint, and whether they differed in that.
    changed: Firsts<()>,
}

/// What all instances of a plugin share. Clones are the same entries, in the same view.
#[derive(Clone)]
pub struct SharedEntries {
    entries: Arc<Mutex<Entries>>,
    pub(super) view: View,
}

impl std::fmt::Debug for SharedEntries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (entries, bytes) = self.size();
        f.debug_struct("SharedEntries")
            .field("view", &self.view)
            .field("entries", &entries)
            .field("bytes", &bytes)
            .finish()
    }
}

impl SharedEntries {
    /// Entries as they are stored. Where the quota was lowered below them they stay, and no further ones come in.
    pub fn new(plugin: &str, quota: u64, stored: impl IntoIterator<Item = (EntryBytes, EntryBytes)>) -> Self {
        let map: HashMap<_, _> = stored.into_iter().collect();
        let entries = Entries {
            plugin: plugin.into(),
            used: map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
            map,
            quota,
            changed: Firsts::default(),
            waiting: None,
            stored: Vec::new(),
            in_store: false,
            stale: false,
            saved: Vec::new(),
        };
        Self {
            entries: Arc::new(Mutex::new(entries)),
            view: View::Running,
        }
    }

    /// With what is stored of a version that waited.
    pub fn with_waiting(self, stored: Vec<(EntryBytes, EntryBytes)>) -> Self {
        {
            let mut entries = self.lock();
            entries.in_store = !stored.is_empty();
            entries.stale = entries.in_store;
            entries.stored = stored;
        }
        self
    }

    /// A copy of its own, for a version that is tried.
    pub fn fork(&self) -> Self {
        Self {
            entries: Arc::new(Mutex::new(self.lock().clone())),
            view: self.view,
        }
    }

    /// Whether they are of the same plugin, in whatever view.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entries, &other.entries)
    }

    /// How many there are, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let entries = self.lock();
        entries.size(self.view)
    }

    /// For the version that waits, as it was stored with the plugin's own.
    pub fn waiting_as_stored(&self) -> Self {
        {
            let mut entries = self.lock();
            if entries.waiting.is_none() {
                entries.take_up_stored();
            }
        }
        let view = View::Waiting;
        Self { view, ..self.clone() }
    }

    /// From here on a version waits. It has what the running one has, unless one waits already.
    pub(super) fn step_aside(&mut self) {
        self.view = View::Waiting;
        let mut entries = self.lock();
        if entries.waiting.is_none() {
            entries.begin_waiting();
            entries.stale = entries.in_store;
        }
    }

    /// What this version has counts from here on. `others_wait` says that what a version has that waits is still needed.
    pub(super) fn step_in(&mut self, others_wait: bool) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match self.view {
            View::Waiting => entries.go_back(),
            View::Running if !others_wait && entries.waiting.is_some() => {
                entries.waiting = None;
                entries.stale = entries.in_store;
            }
            View::Running => {}
        }
        self.view = View::Running;
    }

    /// Notes what there is. Each is followed by [`Self::keep`] or [`Self::put_back`]; they may be nested.
    pub(super) fn save(&self) {
        self.lock().saved.push(Saved::default());
    }

    /// Nothing will be put back to the last [`Self::save`].
    pub(super) fn keep(&self) {
        let mut entries = self.lock();
        let newest = entries.saved.pop();
        // For whoever goes back further.
        let (Some(newest), Some(mut before)) = (newest, entries.saved.pop()) else {
            return;
        };
        for ((view, before), newest) in View::BOTH.into_iter().zip(&mut before).zip(newest) {
            before.absorb(newest, |key| entries.get(view, key).is_some());
        }
        entries.saved.push(before);
    }

    /// Nothing was written since the last [`Self::save`].
    pub(super) fn put_back(&self) {
        let mut entries = self.lock();
        let Some(newest) = entries.saved.pop() else { return };
        // Whoever goes back further knows what he has to: this is as it was when the newest began.
        let before = std::mem::take(&mut entries.saved);
        for (view, mut undone) in View::BOTH.into_iter().zip(newest) {
            for (key, value) in undone.take() {
                entries.set(view, &key, value);
            }
        }
        entries.saved = before;
    }

    /// What has changed since the last time; `None` where nothing has.
    pub fn take_changed(&self) -> Option<PluginEntries> {
        let mut entries = self.lock();
        if entries.changed.is_empty() {
            return None;
        }
        let changed = std::mem::take(&mut entries.changed);
        let writes = changed.into_keys().map(|key| {
            let value = entries.map.get(&key).cloned();
            (key, value)
        });
        Some(PluginEntries {
            writes: writes.collect(),
            anew: false,
            plugin: entries.plugin.as_ref().to_owned(),
        })
    }

    /// The same, of how what a version has that waits differs: stored under a name of its own.
    pub fn take_changed_of_waiting(&self) -> Option<PluginEntries> {
        let mut entries = self.lock();
        let anew = std::mem::take(&mut entries.stale);
        let writes: Vec<_> = match &mut entries.waiting {
            Some(waiting) => {
                let changed = std::mem::take(&mut waiting.changed);
                let stored = |key: EntryBytes| {
                    let value = waiting.differs.get(&key).map(|value| stored_value(value.as_deref()));
                    (key, value)
                };
                changed.into_keys().map(stored).collect()
            }
            None => Vec::new(),
        };
        entries.in_store = entries.in_store && !anew || !writes.is_empty();
        (anew || !writes.is_empty()).then(|| PluginEntries {
            writes,
            anew,
            plugin: PluginState::before(&entries.plugin),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn size(&self, view: View) -> (usize, u64) {
        match (view, &self.waiting) {
            (View::Waiting, Some(waiting)) => (waiting.len, waiting.used),
            _ => (self.map.len(), self.used),
        }
    }

    pub fn get(&self, view: View, key: &[u8]) -> Option<&EntryBytes> {
        let differs = match view {
            View::Running => None,
            View::Waiting => self.waiting.as_ref().and_then(|waiting| waiting.differs.get(key)),
        };
        match differs {
            Some(value) => value.as_ref(),
            None => self.map.get(key),
        }
    }

    /// Sets or removes an entry, whatever the quota says; it goes into the store with the next checkpoint. Returns what
    /// was there.
    pub fn set(&mut self, view: View, key: &[u8], value: Option<EntryBytes>) -> Option<EntryBytes> {
        let is_there = value.is_some();
        let was = match view {
            View::Running => self.set_running(key, value),
            // It is no more.
            View::Waiting if self.waiting.is_none() => return None,
            View::Waiting => self.set_waiting(key, value),
        };
        if let Some(saved) = self.saved.last_mut() {
            saved[view as usize].note(key, is_there, || was.clone());
        }
        was
    }

    fn set_running(&mut self, key: &[u8], value: Option<EntryBytes>) -> Option<EntryBytes> {
        let added = bytes_of(key, value.as_deref());
        let is_there = value.is_some();
        let was = match value {
            Some(value) => self.map.insert(key.into(), value),
            None => self.map.remove(key),
        };
        self.changed.note(key, is_there, || was.as_ref().map(|_| ()));
        self.used = (self.used + added).saturating_sub(bytes_of(key, was.as_deref()));
        if let Some(waiting) = &mut self.waiting {
            let differed = waiting.differs.contains_key(key);
            // Whoever waits goes on with what was there.
            let shown = waiting.differs.entry(key.into()).or_insert_with(|| was.clone());
            let differs = shown.as_deref() != self.map.get(key).map(|value| &**value);
            if !differs {
                waiting.differs.remove(key);
            }
            waiting.changed.note(key, differs, || differed.then_some(()));
        }
        was
    }

    fn set_waiting(&mut self, key: &[u8], value: Option<EntryBytes>) -> Option<EntryBytes> {
        let waiting = self.waiting.as_mut()?;
        let running = self.map.get(key);
        let (was, differed) = match waiting.differs.get(key) {
            Some(value) => (value.clone(), true),
            None => (running.cloned(), false),
        };
        let removed = bytes_of(key, was.as_deref());
        waiting.used = (waiting.used + bytes_of(key, value.as_deref())).saturating_sub(removed);
        waiting.len = (waiting.len + usize::from(value.is_some())).saturating_sub(usize::from(was.is_some()));
        let differs = value.as_ref() != running;
        if differs {
            waiting.differs.insert(key.into(), value);
        } else {
            waiting.differs.remove(key);
        }
        waiting.changed.note(key, differs, || differed.then_some(()));
        was
    }

    pub fn fits(&self, view: View, key: &[u8], value: &[u8]) -> bool {
        let before = self.get(view, key);
        let freed = bytes_of(key, before.map(|value| &**value));
        let (len, used) = self.size(view);
        let entries = len as u64 + u64::from(before.is_none());
        used - freed + (key.len() + value.len()) as u64 <= self.quota
            && (entries.saturating_mul(ENTRY_BYTES_MIN) <= self.quota || before.is_some())
    }

    fn begin_waiting(&mut self) {
        let (len, used) = self.size(View::Running);
        self.waiting = Some(Waiting {
            used,
            len,
            ..Waiting::default()
        });
    }

    fn take_up_stored(&mut self) {
        self.begin_waiting();
        for (key, value) in std::mem::take(&mut self.stored) {
            let value = match value.split_first() {
                Some((&HAS_VALUE, value)) => Some(value.into()),
                _ => None,
            };
            self.set_waiting(&key, value);
        }
        if let Some(waiting) = &mut self.waiting {
            // As it is stored already.
            waiting.changed.clear();
        }
        self.stale = false;
    }

    /// What the version that waits has is what the plugin has.
    fn go_back(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        self.saved.clear();
        self.stale = self.in_store;
        for (key, value) in waiting.differs {
            self.set(View::Running, &key, value);
        }
    }
}

/// `None` takes no room.
fn bytes_of(key: &[u8], value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| (key.len() + value.len()) as u64)
}

fn stored_value(value: Option<&[u8]>) -> EntryBytes {
    match value {
        Some(value) => [&[HAS_VALUE][..], value].concat().into(),
        None => [HAS_NONE].into(),
    }
}
