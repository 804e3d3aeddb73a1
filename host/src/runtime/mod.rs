//! Wires the stages together; start, supervise, drain, stop. Only this folder knows every stage.
//!
//! ```text
//!   process   engine, state store, console, module watcher              live as long as the process
//!     └─ session  replication connection, lane, sinks, copies           ends with its source or a sink
//! ```
//!
//! There is one way to recover from anything that a retry may cure: the session ends, its sinks are closed, and a new
//! one starts at the stored position, where each sink tells how far it is. So recovery is the path that every start
//! takes.
//!
//! The source has a thread of its own with a runtime of its own: nothing that sinks, copies or the console do can keep
//! it from reading and answering.

mod acknowledge;
mod assembly;
mod backoff;
mod chains;
mod check;
mod codes;
mod config_watch;
mod console;
mod copies;
mod copy_order;
mod copy_progress;
mod cutover;
mod detach;
mod failure;
mod gap;
mod heartbeat;
mod history;
mod known;
mod late_sinks;
mod live_copies;
mod live_settings;
mod membership;
mod metrics;
mod modules;
mod partitions;
mod process;
mod receive;
mod reconfigure;
mod rehearse;
mod rehearse_samples;
mod reload;
mod remove;
mod renamed;
mod resync;
mod routes;
mod run;
mod session;
mod skip;
mod slot_skip;
mod source;
mod standings;
mod states;
mod status;
mod stop;
mod supervise;
mod tables;
mod tap;
mod timeline;
mod two_phase;
mod types;
mod verify;
mod versions;
mod wal_pressure;

pub use check::{Checked, CheckedTable, Sample, check};
pub use codes::CODES;
pub(crate) use codes::NOT_READY;
pub use console::{Pipelines, reload_on_hangup};
pub(crate) use copies::relation as relation_of;
pub use cutover::{CutOver, CutOverRequest, LeftBehind, Outcome, SetSequence, Unfit, cut_over};
pub use detach::attach;
pub use metrics::feed_metrics;
pub use remove::Leftovers;
pub use routes::know as know_routes;
pub use run::{Running, run};
pub use skip::skip;
pub use slot_skip::{SlotSkipped, skip_slot};
pub use source::connect_source;
pub use stop::{Stop, StopRequest};
pub use supervise::{Ended, RunOptions};
pub use verify::{Compared, Difference, Verified, VerifiedTable, verify};
