//! The imports by which a plugin reaches its entries by key.
//!
//! A call's writes count once its whole reply was accepted: until then they can be taken back.

use super::entries::SharedEntries;
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
        let view = self.entries.view;
        let mut entries = self.entries.lock();
        for (key, value) in self.undo.drain(..).rev() {
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
        let before = entries.write(view, key, Some(value.into()));
        self.undo.push((key.into(), before));
        DONE
    }

    fn delete(&mut self, key: &[u8]) -> i32 {
        if !self.writable {
            return REFUSED;
        }
        let view = self.entries.view;
        let mut entries = self.entries.lock();
        if entries.get(view, key).is_some() {
            let before = entries.write(view, key, None);
            self.undo.push((key.into(), before));
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
