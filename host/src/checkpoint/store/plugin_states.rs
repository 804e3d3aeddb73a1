//! What plugins keep: their state as bytes, and their entries by key.
//!
//! Both are stored in the transaction that stores the position up to which they hold, and nowhere else. So a start
//! hands a plugin what it kept exactly where the stream goes on.

use super::failure::Failure;
use super::format::{self, NUMBERS, PLUGIN_ENTRIES, PLUGIN_STATES, POSITION, SENT_DOCUMENT};
use super::records::is_of_before;
use super::{EntryBytes, Mark, PluginEntries, PluginState, StateStore};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

/// A plugin's state as it was stored.
#[derive(Clone, Debug)]
pub struct StoredState {
    pub state: PluginState,
    /// The position that was stored with it: all that committed before is in it.
    pub position: Lsn,
    /// When it was stored, in ms since 1970.
    pub stored_ms: u64,
}

impl StateStore {
    /// Every plugin's state.
    pub fn plugin_states(&self) -> Result<Vec<StoredState>, Problem> {
        self.read(states)
    }

    /// Forgets what a version has kept that has waited for the end of a probation, of these plugins.
    pub fn forget_before<'p>(&self, route: &str, plugins: impl IntoIterator<Item = &'p str>) -> Result<(), Problem> {
        let before = PluginState::before(route);
        let mut is_there = self.plugin_states()?.iter().any(|stored| stored.state.route == before);
        let mut names = Vec::new();
        for plugin in plugins {
            let name = PluginState::before(plugin);
            is_there |= !self.plugin_entries(&name)?.is_empty();
            names.push(name);
        }
        if !is_there {
            return Ok(());
        }
        self.write(|transaction| {
            let mut states = transaction.open_table(PLUGIN_STATES)?;
            states.retain(|(route, ..), _| route != before)?;
            names.iter().try_for_each(|name| forget_entries(transaction, name))
        })
    }

    /// The dead letters that were sent last: they are in what is stored, and their file may not know. See [`Mark::Sent`].
    pub fn letters_sent(&self) -> Result<Vec<u64>, Problem> {
        let sent = self.read(|transaction| format::document(transaction, SENT_DOCUMENT))?;
        Ok(sent.unwrap_or_default())
    }

    /// Their file knows.
    pub fn forget_letters_sent(&self) -> Result<(), Problem> {
        self.write(|transaction| {
            transaction.open_table(format::DOCUMENTS)?.remove(SENT_DOCUMENT)?;
            Ok(())
        })
    }

    /// All entries that a plugin has by key.
    pub fn plugin_entries(&self, plugin: &str) -> Result<Vec<(EntryBytes, EntryBytes)>, Problem> {
        self.read(|transaction| {
            let stored = transaction.open_table(PLUGIN_ENTRIES)?;
            let mut entries = Vec::new();
            for entry in stored.range((plugin, &[][..])..)? {
                let (key, value) = entry?;
                let (owner, key) = key.value();
                if owner != plugin {
                    break;
                }
                entries.push((Box::from(key), Box::from(value.value())));
            }
            Ok(entries)
        })
    }
}

/// Enters what plugins keep. To be called in the transaction that has stored the position.
pub(super) fn apply(transaction: &WriteTransaction, marks: &[Mark]) -> Result<(), Failure> {
    for mark in marks {
        match mark {
            Mark::State(state) => put(transaction, state)?,
            Mark::Entries(entries) => write(transaction, entries)?,
            Mark::Sent(letters) => format::put_document(transaction, SENT_DOCUMENT, &**letters)?,
            Mark::UnitDone(_) | Mark::TableDone { .. } | Mark::Emptied { .. } | Mark::Replayed(_) => {}
        }
    }
    Ok(())
}

fn put(transaction: &WriteTransaction, state: &PluginState) -> Result<(), Failure> {
    let position = transaction
        .open_table(NUMBERS)?
        .get(POSITION)?
        .map_or(0, |stored| stored.value());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64);
    let mut states = transaction.open_table(PLUGIN_STATES)?;
    let of_plugin = |shards| range(&state.route, &state.plugin, shards);
    // It is divided or it isn't.
    match state.shard {
        0 => states.retain_in(of_plugin(1..=u32::MAX), |_, _| false)?,
        _ => states.retain_in(of_plugin(0..=0), |_, _| false)?,
    }
    // One that waits is stored behind the one that runs, or not at all.
    if !state.is_before() && state.shard <= 1 {
        let before = PluginState::before(&state.route);
        states.retain_in(range(&before, &state.plugin, 0..=u32::MAX), |_, _| false)?;
    }
    let key = (state.route.as_str(), state.plugin.as_str(), state.shard);
    states.insert(key, (state.version, position, now, &*state.bytes))?;
    Ok(())
}

type Range<'a> = RangeInclusive<(&'a str, &'a str, u32)>;

fn range<'a>(route: &'a str, plugin: &'a str, shards: RangeInclusive<u32>) -> Range<'a> {
    (route, plugin, *shards.start())..=(route, plugin, *shards.end())
}

fn forget_entries(transaction: &WriteTransaction, plugin: &str) -> Result<(), Failure> {
    let mut stored = transaction.open_table(PLUGIN_ENTRIES)?;
    // Names have no NUL: none is between this one and the next.
    let behind = format!("{plugin}\0");
    stored.retain_in((plugin, &[][..])..(behind.as_str(), &[][..]), |_, _| false)?;
    Ok(())
}

fn write(transaction: &WriteTransaction, entries: &PluginEntries) -> Result<(), Failure> {
    if entries.anew {
        forget_entries(transaction, &entries.plugin)?;
    }
    let mut stored = transaction.open_table(PLUGIN_ENTRIES)?;
    for (key, value) in &entries.writes {
        let key = (entries.plugin.as_str(), &**key);
        match value {
            Some(value) => stored.insert(key, &**value)?,
            None => stored.remove(key)?,
        };
    }
    Ok(())
}

pub(super) fn states(transaction: &ReadTransaction) -> Result<Vec<StoredState>, Failure> {
    let mut states = Vec::new();
    for entry in transaction.open_table(PLUGIN_STATES)?.iter()? {
        let (key, value) = entry?;
        let (route, plugin, shard) = key.value();
        let (version, position, stored_ms, bytes) = value.value();
        states.push(StoredState {
            state: PluginState {
                route: route.to_owned(),
                plugin: plugin.to_owned(),
                shard,
                version,
                bytes: bytes.into(),
            },
            position: Lsn(position),
            stored_ms,
        });
    }
    Ok(states)
}

/// How many entries each plugin has, and their bytes.
pub(super) fn entry_counts(transaction: &ReadTransaction) -> Result<Vec<Value>, Failure> {
    let mut counts: Vec<(String, u64, u64)> = Vec::new();
    for entry in transaction.open_table(PLUGIN_ENTRIES)?.iter()? {
        let (key, value) = entry?;
        let (plugin, key) = key.value();
        if is_of_before(plugin) {
            continue;
        }
        let bytes = (key.len() + value.value().len()) as u64;
        match counts.last_mut() {
            Some((last, count, sum)) if last == plugin => {
                *count += 1;
                *sum += bytes;
            }
            _ => counts.push((plugin.to_owned(), 1, bytes)),
        }
    }
    let shown = counts.into_iter();
    let shown = shown.map(|(plugin, count, bytes)| json!({ "plugin": plugin, "entries": count, "bytes": bytes }));
    Ok(shown.collect())
}
