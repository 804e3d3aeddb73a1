//! The instruments of the tests: private Postgres clusters, the binary as a child process, writers under load.

mod cluster;
mod host;
mod workload;

pub use cluster::{Cluster, ClusterOptions};
pub use host::{Host, binary, plugin, wait_until};
pub use workload::{Random, SHOP, Writers};
