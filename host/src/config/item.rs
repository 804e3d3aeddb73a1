//! The file after the checks of single values: every value has its type, every default is filled in.

use super::node::Span;
use super::{ByteSize, Duration, Secret, TablePattern};
use std::net::SocketAddr;

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub span: Span,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Secret(Secret),
    Table(TablePattern),
    Address(Option<SocketAddr>),
    Duration(Duration),
    Size(ByteSize),
    Count(u64),
    List(Vec<Item>),
    Map(Vec<Entry>),
    Any {
        value: serde_json::Value,
        /// As the file has it, with its references.
        written: serde_json::Value,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub span: Span,
    /// Written in the file, rather than a default.
    pub given: bool,
    /// `None` where something is wrong with it, which has been reported.
    pub item: Option<Item>,
}

impl Item {
    /// Entries of a block or of names.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a key, where it is there and well formed.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.entry(key)?.item.as_ref()
    }

    pub fn items(&self, key: &str) -> &[Item] {
        match self.get(key).map(|item| &item.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    pub fn texts(&self, key: &str) -> Vec<String> {
        let texts = self.items(key).iter().filter_map(Item::as_text);
        texts.map(str::to_owned).collect()
    }

    pub fn tables(&self, key: &str) -> Vec<TablePattern> {
        let tables = self.items(key).iter().filter_map(Item::as_table);
        tables.cloned().collect()
    }

    pub fn as_table(&self) -> Option<&TablePattern> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn secret(&self, key: &str) -> Option<&Secret> {
        match &self.get(key)?.value {
            Value::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.get(key)?.value {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub fn size(&self, key: &str) -> Option<ByteSize> {
        match self.get(key)?.value {
            Value::Size(size) => Some(size),
            _ => None,
        }
    }

    pub fn count(&self, key: &str) -> Option<usize> {
        match self.get(key)?.value {
            Value::Count(count) => usize::try_from(count).ok(),
            _ => None,
        }
    }

    pub fn address(&self, key: &str) -> Option<Option<SocketAddr>> {
        match self.get(key)?.value {
            Value::Address(address) => Some(address),
            _ => None,
        }
    }
}
