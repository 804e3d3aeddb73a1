//! Positions, the frontier over sinks, and the state store.

mod codes;
mod frontier;
mod positions;
mod store;

pub use codes::CODES;
pub use frontier::{Advance, Frontier};
pub use positions::{ServerState, SlotState, StartAt, Stored, WalStatus, Warning, compare};
pub use store::{
    ChainVersion, CopiedRange, CopiedUnit, CopyState, EntryBytes, FolderLock, Identity, Mark, NumberedColumn,
    PluginEntries, PluginRecord, PluginState, PluginVersion, RanVersion, Reach, RouteShapes, RowsAhead,
    STATE_DISK_FULL, STATE_HELD, SetAside, ShapeColumn, StateStore, StoredState, TableCopy, TableShape, Turn,
    same_plugins,
};
