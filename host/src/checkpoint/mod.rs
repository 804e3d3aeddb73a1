//! Positions, the frontier over sinks, and the state store.

mod codes;
mod frontier;
mod positions;
mod store;

pub use codes::CODES;
pub use frontier::{Advance, Frontier};
pub use positions::{ServerState, SlotState, StartAt, Stored, WalStatus, Warning, compare};
pub use store::{
    ChainVersion, CopyState, EntryBytes, FolderLock, Identity, Mark, PluginEntries, PluginState, PluginVersion,
    STATE_DISK_FULL, STATE_HELD, StateStore, StoredState, TableCopy, UnitRecord,
};
