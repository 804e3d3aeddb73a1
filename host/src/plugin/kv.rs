//! Entries by key that the host keeps for a plugin.
//!
//! They are all in memory, at most [`ENTRY_BYTES_MIN`] times as many as the quota says bytes; what has changed since the
//! last checkpoint goes into the state store with it. A call's writes count once its whole reply was accepted: until
//! then they can be taken back. The entries of a plugin are one thing, however many instances it has.

use super::host::{HostState, memory, range};
use crate::checkpoint::{EntryBytes, PluginEntries};
use rowmill_abi::IMPORT_MODULE;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::{Caller, Linker};

/// The longest key, in bytes: it becomes part of a key of the state store.
const KEY_LEN_MAX: usize = 1_024;
/// The longest value, in bytes.
const VALUE_LEN_MAX: usize = 65_536;
/// There is at most one entry for so many bytes of the quota: what an entry costs besides its key and value.
const ENTRY_BYTES_MIN: u64 = 64;
const NONE: i32 = -1;
const DONE: i32 = 0;
const REFUSED: i32 = -1;

pub(crate) const IMPORTS: [&str; 3] = ["kv_get", "kv_put", "kv_delete"];

/// The entries of one plugin.
#[derive(Clone)]
pub struct Entries {
    plugin: Arc<str>,
    map: HashMap<EntryBytes, EntryBytes>,
    /// Keys and values, in bytes.
    used: u64,
    quota: u64,
    /// Keys that were written or deleted since the last checkpoint.
    changed: HashSet<Box<[u8]>>,
}

/// What all instances of a plugin share. Clones are the same entries.
#[derive(Clone)]
pub struct SharedEntries(Arc<Mutex<Entries>>);

impl std::fmt::Debug for SharedEntries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (entries, bytes) = self.size();
        f.debug_struct("SharedEntries")
            .field("entries", &entries)
            .field("bytes", &bytes)
            .finish()
    }
}

impl SharedEntries {
    /// Entries as they are stored. Where the quota was lowered below them they stay, and no further ones come in.
    pub fn new(plugin: &str, quota: u64, stored: impl IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Self {
        let map: HashMap<_, _> = stored.into_iter().collect();
        Self(Arc::new(Mutex::new(Entries {
            plugin: plugin.into(),
            used: map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
            map,
            quota,
            changed: HashSet::new(),
        })))
    }

    /// A copy of its own, for a version that is tried.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many there are, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let entries = self.lock();
        (entries.map.len(), entries.used)
    }

    /// What has changed since the last time; `None` where nothing has.
    pub fn take_changed(&self) -> Option<PluginEntries> {
        let mut entries = self.lock();
        if entries.changed.is_empty() {
            return None;
        }
        let changed = std::mem::take(&mut entries.changed);
        let writes = changed.into_iter().map(|key| {
            let value = entries.map.get(&key).cloned();
            (key, value)
        });
        Some(PluginEntries {
            writes: writes.collect(),
            plugin: entries.plugin.as_ref().to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Sets or removes an entry, whatever the quota says. Returns what was there.
    fn set(&mut self, key: &[u8], value: Option<Box<[u8]>>) -> Option<Box<[u8]>> {
        let added = value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        let before = match value {
            Some(value) => self.map.insert(key.into(), value),
            None => self.map.remove(key),
        };
        let removed = before.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        self.used = (self.used + added).saturating_sub(removed);
        before
    }

    fn fits(&self, key: &[u8], value: &[u8]) -> bool {
        let before = self.map.get(key);
        let freed = before.map_or(0, |value| key.len() + value.len()) as u64;
        let entries = self.map.len() as u64 + u64::from(before.is_none());
        self.used - freed + (key.len() + value.len()) as u64 <= self.quota
            && (entries.saturating_mul(ENTRY_BYTES_MIN) <= self.quota || before.is_some())
    }
}

/// The entries as one instance uses them.
#[derive(Debug)]
pub(crate) struct Access {
    pub entries: SharedEntries,
    /// Whether the call at hand may write.
    pub writable: bool,
    /// What was there before each write of the calls that weren't accepted yet.
    undo: Vec<(EntryBytes, Option<EntryBytes>)>,
}

impl Access {
    pub fn new(entries: SharedEntries) -> Self {
        Self {
            entries,
            writable: false,
            undo: Vec::new(),
        }
    }

    /// What the calls since the last time have written counts.
    pub fn accept(&mut self) {
        self.undo.clear();
    }

    /// It never happened.
    pub fn take_back(&mut self) {
        let mut entries = self.entries.lock();
        for (key, value) in self.undo.drain(..).rev() {
            entries.set(&key, value);
        }
    }

    fn get(&self, key: &[u8], out: &mut dyn FnMut(&[u8])) -> i32 {
        match self.entries.lock().map.get(key) {
            Some(value) => {
                out(value);
                value.len() as i32
            }
            None => NONE,
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> i32 {
        let fits = (1..=KEY_LEN_MAX).contains(&key.len()) && value.len() <= VALUE_LEN_MAX;
        if !self.writable || !fits {
            return REFUSED;
        }
        let mut entries = self.entries.lock();
        if !entries.fits(key, value) {
            return REFUSED;
        }
        let before = entries.set(key, Some(value.into()));
        entries.changed.insert(key.into());
        self.undo.push((key.into(), before));
        DONE
    }

    fn delete(&mut self, key: &[u8]) -> i32 {
        if !self.writable {
            return REFUSED;
        }
        let mut entries = self.entries.lock();
        if let Some(before) = entries.set(key, None) {
            entries.changed.insert(key.into());
            self.undo.push((key.into(), Some(before)));
        }
        DONE
    }
}

/// However the instance ends: what wasn't accepted never happened.
impl Drop for Access {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Offers one of the imports to a module that asks for it.
pub(crate) fn define(linker: &mut Linker<HostState>, name: &str) -> wasmtime::Result<()> {
    match name {
        "kv_get" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>,
             key: i32,
             key_len: i32,
             out: i32,
             out_cap: i32|
             -> wasmtime::Result<i32> {
                let (memory, host) = memory(&mut caller)?;
                let key = range(key, key_len, memory.len())?;
                let out = range(out, out_cap, memory.len())?;
                // Taken aside: the value may be written over its own key.
                let key: Box<[u8]> = memory[key].into();
                Ok(access(host)?.get(&key, &mut |value| {
                    if value.len() <= out.len() {
                        memory[out.start..out.start + value.len()].copy_from_slice(value);
                    }
                }))
            },
        )?,
        "kv_put" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>,
             key: i32,
             key_len: i32,
             value: i32,
             value_len: i32|
             -> wasmtime::Result<i32> {
                let (memory, host) = memory(&mut caller)?;
                let key = range(key, key_len, memory.len())?;
                let value = range(value, value_len, memory.len())?;
                Ok(access(host)?.put(&memory[key], &memory[value]))
            },
        )?,
        "kv_delete" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>, key: i32, key_len: i32| -> wasmtime::Result<i32> {
                let (memory, host) = memory(&mut caller)?;
                let key = range(key, key_len, memory.len())?;
                Ok(access(host)?.delete(&memory[key]))
            },
        )?,
        _ => return Err(wasmtime::Error::msg("no such import")),
    };
    Ok(())
}

fn access(host: &mut HostState) -> wasmtime::Result<&mut Access> {
    let access = host.kv.as_mut();
    access.ok_or_else(|| wasmtime::Error::msg("the plugin has no entries by key here"))
}
