//! (stage under construction)

pub mod replication;
