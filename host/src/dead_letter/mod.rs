//! Dead letters: changes that a plugin couldn't take through, set aside with all that it takes to send them again.
//!
//! ```text
//!                         lane, at its ordered end
//!   rows -> plugins --+-- went through ----------------------> sinks
//!                     |                                          ^
//!                     +-- failed: [letter 1, key 7]              |
//!   later, key 7 -----+-- behind it: [letter 2, key 7]           |
//!                     +-- later, key 8 --------------------------+
//!                                  |                             |
//!                          `dead-letter replay` --> plugins, as they are now
//! ```
//!
//! What must hold:
//!
//! - **Every change is delivered or stands in a letter**, and a letter is durable before the position moves past it:
//!   [`DeadLetters::set_aside`] returns after the fsync. Without room the pipeline stops.
//! - **Order per key**: no change overtakes an earlier one of its key that stands in a letter ([`aside`]).
//! - **A stream that is read again changes nothing**: a change is known by its route, commit LSN and ordinal. What is
//!   gone stays known until its position is acknowledged.
//! - **Sent again in order, under ids of their own**, and gone only once durable at every sink ([`replay`]).
//!
//! Values stand in the file alone, which its owner alone can read; nothing else here shows them.

mod aside;
mod behind;
mod cause;
mod codes;
mod digest;
mod fault;
mod file;
mod index;
mod key;
mod letter;
mod line;
mod order;
mod peek;
mod refuse;
mod replay;
mod store;
mod upkeep;
mod value;

#[cfg(test)]
mod tests;

pub use aside::{Aside, Held, Lacking};
pub use behind::Behind;
pub use cause::{Cause, PluginName};
pub use codes::{CODES, FULL, UNKNOWN};
pub use file::read_any;
pub use letter::{Change, Image, Letter, Table, TableColumn};
pub use order::{Action, Order, carry_out};
pub use peek::{Peeked, exists, peek};
pub use replay::{ReplayBatch, Requested, Selection, Ticket, called_off_for};
pub use store::{Counts, DeadLetters, RouteId};
pub use upkeep::Dropped;
pub use value::Owned;

/// The names under which routes are known in the store: their tables, numbered where several have the same.
pub fn route_names(keys: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for key in keys {
        let mut name = key.clone();
        let mut count = 1;
        while names.contains(&name) {
            count += 1;
            name = format!("{key}#{count}");
        }
        names.push(name);
    }
    names
}
