//! The instruments of the tests: private Postgres clusters, the binary as a child process, writers under load.

mod cluster;
mod console;
mod host;
mod lines;
mod shop;
mod tagger;
mod totals;
mod workload;

pub use cluster::{Cluster, ClusterOptions, free_port};
pub use console::get;
pub use host::{Host, binary, plugin, wait_until};
pub use lines::Lines;
pub use shop::{LONG, Shop};
pub use tagger::{tag, tagger};
pub use totals::{Columns, Keeps, POISON, totals};
pub use workload::{Random, SHOP, Writers};
