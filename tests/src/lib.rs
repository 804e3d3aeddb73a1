//! The instruments of the tests: private Postgres clusters, the binary as a child process.

mod cluster;

pub use cluster::{Cluster, ClusterOptions};
