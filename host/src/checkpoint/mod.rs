//! Positions, the frontier over sinks, and the state store.

mod codes;
mod frontier;
mod history;
mod positions;
mod store;

pub use codes::CODES;
pub use frontier::{Advance, Frontier};
pub use history::{Commit, FoundCommit, LastCommit, compare_history, is_in_question};
pub use positions::{ServerState, SlotState, StartAt, Stored, WalStatus, Warning, compare};
pub use store::{
    ChainVersion, CopiedRange, CopiedUnit, CopyState, EntryBytes, FolderLock, Identity, KnownRoute, Mark,
    NumberedColumn, Parting, Partition, Partitions, PluginEntries, PluginRecord, PluginState, PluginVersion,
    PublishedTable, RanVersion, Reach, RouteShapes, RoutedTable, RowsAhead, STATE_DISK_FULL, STATE_HELD, SentOf,
    SetAside, ShapeColumn, SinkPosition, StateStore, StoredState, TableCopy, TableShape, Turn, same_plugins,
};
