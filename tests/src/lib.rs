//! The instruments of the tests: private Postgres clusters, the binary as a child process, writers under load.

mod beat;
pub mod chaos;
mod clock;
mod cluster;
mod console;
mod disk;
mod guest_text;
mod held;
mod host;
mod lines;
mod load;
mod memory;
pub mod oracle;
mod points;
mod ports;
mod proxy;
mod shop;
mod strace;
mod tagger;
mod totals;
mod typed;
mod usage;
mod verbs;
mod watched;
mod workload;

pub use beat::{BEAT, Beat};
pub use clock::Clock;
pub use cluster::{Cluster, ClusterOptions};
pub use console::{get, is_copied};
pub use disk::SmallDisk;
pub use held::Held;
pub use host::{Host, binary, plugin, wait_until};
pub use lines::Lines;
pub use load::Load;
pub use memory::{MemoryGroup, memory};
pub use points::POINTS;
pub use ports::free_port;
pub use proxy::{Fault, Proxy};
pub use shop::{DIGEST, LONG, Shop};
pub use strace::Injection;
pub use tagger::{
    large_tagger, live_trapping_tagger, looping_tagger, tag, tagger, trapping_tagger, wide_trapping_tagger,
};
pub use totals::{Columns, Keeps, POISON, REFUSED, totals, totals_breaking};
pub use typed::{Oracle, number};
pub use usage::{Flat, Usage};
pub use watched::{WATCH, WATCHED};
pub use workload::{Random, SHOP, Writers};
