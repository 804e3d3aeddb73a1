//! The row that a guest says it works on, asked when it has trapped.

use super::Instance;
use crate::plugin::host::HostState;
use wasmtime::{Global, Instance as Guest, Mutability, Store, Val};

/// Where a guest writes the index of the row that it works on.
#[derive(Clone, Copy)]
pub(super) enum RowAtWork {
    Global(Global),
    /// Address of four bytes in linear memory, little-endian.
    Memory(usize),
}

/// What stands there as long as the guest says nothing.
const NO_ROW: i32 = -1;

impl Instance {
    /// The guest row that the guest says it works on.
    pub fn row_at_work(&mut self) -> Option<u32> {
        let row = match self.row? {
            RowAtWork::Global(global) => match global.get(&mut self.store) {
                Val::I32(row) => row,
                _ => NO_ROW,
            },
            RowAtWork::Memory(at) => {
                let bytes = self.memory.data(&self.store).get(at..at + size_of::<i32>())?;
                i32::from_le_bytes(bytes.try_into().ok()?)
            }
        };
        u32::try_from(row).ok()
    }

    /// What an earlier call left there says nothing of this one.
    pub(super) fn forget_row(&mut self) {
        match self.row {
            None => {}
            // It was checked to be a mutable i32.
            Some(RowAtWork::Global(global)) => drop(global.set(&mut self.store, Val::I32(NO_ROW))),
            Some(RowAtWork::Memory(at)) => {
                let memory = self.memory.data_mut(&mut self.store);
                if let Some(bytes) = memory.get_mut(at..at + size_of::<i32>()) {
                    bytes.copy_from_slice(&NO_ROW.to_le_bytes());
                }
            }
        }
    }
}

/// Either a mutable global that holds the row, or an immutable one that holds the row's address, as a `static` is
/// exported. What lies outside of the memory counts as nothing.
pub(super) fn row_at_work(store: &mut Store<HostState>, guest: &Guest) -> Option<RowAtWork> {
    let global = guest.get_global(&mut *store, "rowmill_row")?;
    if global.ty(&*store).mutability() == Mutability::Var {
        return Some(RowAtWork::Global(global));
    }
    match global.get(&mut *store) {
        Val::I32(address) => Some(RowAtWork::Memory(address as u32 as usize)),
        _ => None,
    }
}
