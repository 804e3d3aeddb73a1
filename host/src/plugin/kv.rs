//! The imports by which a plugin reaches its entries by key.
//!
//! A call's writes count once its whole reply was accepted: until then they can be taken back.

use super::entries::{Firsts, SharedEntries};
use super::host::{HostState, memory, range};
use crate::checkpoint::EntryBytes;
use rowmill_abi::IMPORT_MODULE;
use wasmtime::{Caller, Linker};

/// The longest key, in bytes: it becomes part of a key of the state store.
const KEY_LEN_MAX: usize = 1_024;
/// The longest value, in bytes.
const VALUE_LEN_MAX: usize = 65_536;
const NONE: i32 = -1;
const DONE: i32 = 0;
const REFUSED: i32 = -1;

pub(crate) const IMPORTS: [&str; 3] = ["kv_get", "kv_put", "kv_delete"];

/// The entries as one instance uses them.
#[derive(Debug)]
pub(crate) struct Access {
    pub entries: SharedEntries,
    /// Whether the call at hand may write.
    pub writable: bool,
    /// What keys had before the calls that weren't accepted yet.
    undo: Firsts<EntryBytes>,
}

impl Access {
    pub fn new(entries: SharedEntries) -> Self {
        Self {
            entries,
            writable: false,
            undo: Firsts::default(),
        }
    }

    /// What the calls since the last time have written counts.
    pub fn accept(&mut self) {
        self.undo.clear();
    }

    /// It never happened.
    pub fn take_back(&mut self) {
        let view = self.entries.view;
        let mut entries = self.entries.lock();
        for (key, value) in self.undo.take() {
            entries.set(view, &key, value);
        }
    }

    fn get(&self, key: &[u8], out: &mut dyn FnMut(&[u8])) -> i32 {
        match self.entries.lock().get(self.entries.view, key) {
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
        let view = self.entries.view;
        let mut entries = self.entries.lock();
        if !entries.fits(view, key, value) {
            return REFUSED;
        }
        let was = entries.set(view, key, Some(value.into()));
        self.undo.note(key, true, || was);
        DONE
    }

    fn delete(&mut self, key: &[u8]) -> i32 {
        if !self.writable {
            return REFUSED;
        }
        let view = self.entries.view;
        let mut entries = self.entries.lock();
        if entries.get(view, key).is_some() {
            let was = entries.set(view, key, None);
            self.undo.note(key, false, || was);
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

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u64 = 1 << 20;

    fn access(stored: impl IntoIterator<Item = (EntryBytes, EntryBytes)>) -> Access {
        let entries = SharedEntries::new("window", QUOTA, stored);
        entries.save();
        let mut access = Access::new(entries);
        access.writable = true;
        access
    }

    /// Neither the call nor whoever goes back further keeps more than was there and is there.
    fn is_bounded(access: &Access) {
        let held = [access.undo.bytes(|value| value.len())];
        for held in held.into_iter().chain(access.entries.held()) {
            assert!(held <= 2 * QUOTA, "{held} bytes");
        }
    }

    fn value(access: &Access, key: &[u8]) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        let len = access.get(key, &mut |value| found = value.to_vec());
        (len != NONE).then_some(found)
    }

    #[test]
    fn an_entry_that_is_rewritten_again_and_again_is_kept_once() {
        let before: EntryBytes = [7_u8; 100].into();
        let mut access = access([((*b"total").into(), before.clone())]);
        for at in 0..2_000 {
            assert_eq!(access.put(b"total", &[at as u8; VALUE_LEN_MAX]), DONE);
            assert_eq!(access.put(b"count", &[at as u8; VALUE_LEN_MAX]), DONE);
            is_bounded(&access);
        }
        access.take_back();
        assert_eq!(value(&access, b"total").as_deref(), Some(&*before));
        assert_eq!(value(&access, b"count"), None);
        assert_eq!(access.entries.size(), (1, 105));
    }

    #[test]
    fn keys_that_come_and_go_leave_nothing() {
        let mut access = access([]);
        for call in 0..20 {
            for at in 0..1_000 {
                let key = [at as u16, call].map(u16::to_be_bytes).concat().repeat(KEY_LEN_MAX / 4);
                assert_eq!(access.put(&key, b"here"), DONE);
                assert_eq!(access.delete(&key), DONE);
            }
            is_bounded(&access);
            if call % 2 == 0 {
                access.accept();
            }
        }
        assert_eq!(access.entries.held(), [0, 0]);
        assert_eq!(access.entries.take_changed(), None);
        access.take_back();
        assert_eq!(access.entries.size(), (0, 0));
    }

    /// All that there may be, deleted and in its place as much again.
    #[test]
    fn all_entries_may_be_replaced_in_one_call() {
        let of = |at: u16, part: u8| -> EntryBytes { [&[part][..], &at.to_be_bytes()].concat().into() };
        let all = |part: u8| (0..15).map(move |at| (of(at, part), EntryBytes::from([part; VALUE_LEN_MAX])));
        let mut access = access(all(1));
        for (key, _) in all(1) {
            assert_eq!(access.delete(&key), DONE);
        }
        for (key, entry) in all(2) {
            assert_eq!(access.put(&key, &entry), DONE);
        }
        is_bounded(&access);
        access.accept();
        assert_eq!(value(&access, &of(3, 1)), None);
        access.entries.put_back();
        assert_eq!(value(&access, &of(3, 1)), Some(vec![1; VALUE_LEN_MAX]));
        assert_eq!(value(&access, &of(3, 2)), None);
        assert_eq!(access.entries.size().0, 15);
    }
}
