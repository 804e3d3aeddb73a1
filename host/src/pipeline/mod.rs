//! Routes: which batch goes through which plugins to which sinks.
//!
//! ```text
//!              queue         intake (a thread)    lanes (a thread each)   outflow          sinks (a task each)
//!   receive --> [batch] --> merge --> route ---+--> chain of plugins --+--> in order --+--> [delivery] --> warehouse
//!            bounded bytes  copied    columns  +--> chain of plugins --+               +--> [delivery] --> feed
//!                           units     allowed
//! ```
//!
//! Each lane works synchronously, batch by batch; the outflow takes the batches in the order in which they came. Nothing
//! of a batch goes on before all of it went through every chain: a plugin that fails half-way lets nothing out. A plugin
//! that keeps state has all of its rows in one lane.
//!
//! A chain is only ever changed between two transactions, and the change is durable before the first row that the
//! new chain touched goes on: after a crash each transaction meets the version it met before.

mod codes;
mod columns;
mod commits;
mod hold;
mod intake;
mod job;
mod lane;
mod lane_follow;
mod lane_letters;
mod lane_put_back;
mod lane_state;
mod lanes;
mod late;
mod names;
mod notices;
mod numbers;
mod outflow;
mod owned;
mod probation;
mod queue;
mod recent;
mod routes;
mod selected;
mod shape;
mod state_stats;
mod stats;
mod under_way;

pub use codes::CODES;
pub use columns::{KnownColumns, Met, project, route_key, route_names};
pub use commits::Commits;
pub use intake::{Input, Intake, LaneEnd, Parts, RouteParts, Swap, Tap, Waiting};
pub use lane::{LaneChain, LaneVersion, Later};
pub use names::{RENAMED, renamed};
pub use outflow::Outlet;
pub use probation::{Probation, ProbationEnd, ProbationLimits, ProbationTold};
pub use queue::{Closed, Popped, Queue};
pub use recent::Recent;
pub use routes::{LiveRelations, takes, takes_table};
pub use selected::Selected;
pub use state_stats::StateSize;
pub use stats::LaneStats;
