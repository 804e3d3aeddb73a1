//! An outside judge of a pipeline under faults. Writers note what they commit: those rows become obligations, what they
//! roll back is forbidden. What arrives at the sinks is held against that.
//!
//! | rule | holds when |
//! | --- | --- |
//! | a | every obligation has arrived |
//! | b | nothing forbidden has, nothing that was never written |
//! | c | each row is as the plugins make it, each transaction by one version of them, at the place where it was committed |
//! | d | the changes of a key come in the order of their commits, save exact replays |
//! | e | nothing comes twice, save after a fault at a sink that promises no more |
//! | f | the acknowledged position never passes what isn't delivered; the target never shows half a transaction |
//! | g | a fresh row passes within 5 s of healing, on a loaded machine so many times as long as it is slow |
//! | h | the log has no ERROR and no WARN that isn't expected, and no output has a secret or a row's value |
//! | i | the process ends only when it is told to |

mod arrivals;
mod echo;
mod judge;
mod ledger;
mod outputs;
mod positions;
mod scribe;
#[cfg(test)]
mod tests;

pub use arrivals::{Arrival, Feed, Shelf, Told, WATCH};
pub use echo::Echo;
pub use judge::{Judge, Promise, Violation};
pub use ledger::{Change, Ledger, Lsn, TABLES, Table, lsn, masked};
pub use outputs::{ALLOWED, CANARY, Outputs, SECRET};
pub use positions::{Sample, Sampler};
pub use scribe::{Scribe, Scribes};
