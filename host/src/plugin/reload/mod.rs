//! Hot reload, up to the candidate: a plugin's file changes, and its bytes arrive whole, once, and stored by hash.
//!
//! ```text
//!   folder watched --+
//!   poll every 5 s --+-> stat differs -> quiet for 300 ms -> read twice, equal -> store by hash -> ReloadEvent::Change
//! ```
//!
//! Events only say when to look; what the file *is* says its stamp (device, inode, size, times), so atomic renames,
//! symlink swaps and lost events all end the same way. The running version never depends on the user's file: it was
//! loaded from the store. Compiling, rehearsing and swapping belong to whoever receives the change.

mod candidate;
mod links;
mod reading;
mod store;
mod watch;
#[cfg(test)]
mod tests;

pub use reading::{ModuleRefusal, read_module};
pub use store::{ModuleStore, hash_hex};
pub use watch::{Answer, ModuleWatcher, WatchSettings, WatchedPlugin};

use std::path::PathBuf;

/// SHA-256 of a module.
pub type ModuleHash = [u8; 32];

/// What became of a plugin's file.
#[derive(Debug)]
pub enum ReloadEvent {
    /// The file holds other bytes than were last told of.
    Change {
        plugin: String,
        bytes: Vec<u8>,
        hash: ModuleHash,
        /// Where the module store has it.
        stored: PathBuf,
    },
    /// There is no file any more. The running version stays.
    Gone { plugin: String },
    /// What lies there can't be taken as a module, or not be stored. The running version stays.
    Refused { plugin: String, reason: String },
}
