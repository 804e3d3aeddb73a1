//! Entries by key, with the host's bounds.

use rowmill_abi::kv;
use std::collections::BTreeMap;

/// There is at most one entry for so many bytes of the quota, as in the host.
const ENTRY_BYTES_MIN: u64 = 64;

#[derive(Clone, Debug)]
pub(super) struct Entries {
    pub map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub quota: u64,
    /// Whether the call at hand may write.
    pub writable: bool,
    /// Keys and values, in bytes.
    used: u64,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            quota: kv::QUOTA_DEFAULT_BYTES,
            writable: false,
            used: 0,
        }
    }
}

impl Entries {
    pub fn get(&self, key: &[u8], out: &mut [u8]) -> i32 {
        let Some(value) = self.map.get(key) else {
            return kv::NONE;
        };
        if let Some(place) = out.get_mut(..value.len()) {
            place.copy_from_slice(value);
        }
        value.len() as i32
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) -> i32 {
        if !self.writable || !(1..=kv::KEY_LEN_MAX).contains(&key.len()) || value.len() > kv::VALUE_LEN_MAX {
            return kv::REFUSED;
        }
        let added = (key.len() + value.len()) as u64;
        let before = self.map.get(key);
        let freed = before.map_or(0, |value| (key.len() + value.len()) as u64);
        let entries = self.map.len() as u64 + u64::from(before.is_none());
        let used = self.used - freed + added;
        if used > self.quota || before.is_none() && entries.saturating_mul(ENTRY_BYTES_MIN) > self.quota {
            return kv::REFUSED;
        }
        self.used = used;
        self.map.insert(key.to_owned(), value.to_owned());
        kv::DONE
    }

    pub fn delete(&mut self, key: &[u8]) -> i32 {
        if !self.writable {
            return kv::REFUSED;
        }
        if let Some(value) = self.map.remove(key) {
            self.used -= (key.len() + value.len()) as u64;
        }
        kv::DONE
    }
}
