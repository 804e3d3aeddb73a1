//! Routes: which batch goes through which plugins to which sinks.
//!
//! ```text
//!              queue               lane (one thread)                         sinks (a task each)
//!   receive --> [batch] --> merge --> route --> chain of plugins --+--> [delivery] --> warehouse
//!            bounded bytes  copied    columns   one version per    +--> [delivery] --> feed
//!                           units     allowed   transaction
//! ```
//!
//! The lane works synchronously, batch by batch, so rows leave it in the order in which they came. Nothing of a batch
//! goes on before all of it went through every chain: a plugin that fails half-way lets nothing out.
//!
//! A chain is only ever changed between two transactions, and the change is durable before the first row that the
//! new chain touched goes on: after a crash each transaction meets the version it met before.

mod codes;
mod columns;
mod lane;
mod queue;
mod routes;
mod stats;

pub use codes::CODES;
pub use columns::{KnownColumns, project, route_key};
pub use lane::{Input, Lane, LaneEnd, LaneParts, LaneRoute, Outlet, Swap, Tap};
pub use queue::{Closed, Popped, Queue};
pub use routes::{LiveRelations, takes};
pub use stats::LaneStats;
