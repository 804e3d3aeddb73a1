//! The bytes of a replication stream, taken from a real server and kept in memory.

use crate::orders;
use anyhow::Result;
use bytes::Bytes;
use rowmill::batch::Lsn;
use rowmill::decode::TableHint;
use rowmill::postgres::{Conninfo, install_crypto_provider};
use rowmill::source::replication::{Connection, ProtocolOptions};
use rowmill_tests::{Cluster, ClusterOptions};
use tokio::sync::watch;

pub struct Capture {
    /// As the receiver handed them out.
    pub chunks: Vec<Bytes>,
    pub rows: u64,
}

impl Capture {
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// What the catalog would say beyond the stream: nothing.
    pub fn hints(&self) -> impl Iterator<Item = TableHint> {
        std::iter::empty()
    }
}

/// Loads `rows` rows into a server of its own and takes what its walsender says of them.
pub fn capture(rows: u64) -> Result<Capture> {
    install_crypto_provider();
    let cluster = Cluster::start_with(&ClusterOptions::default())?;
    orders::create(&cluster)?;
    cluster.sql(
        orders::DATABASE,
        "SELECT pg_create_logical_replication_slot('capture', 'pgoutput')",
    )?;
    let end: Lsn = orders::load(&cluster, rows, 1_000)?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let chunks = runtime.block_on(receive(&cluster.url(orders::DATABASE), end))?;
    Ok(Capture { chunks, rows })
}

async fn receive(url: &str, end: Lsn) -> Result<Vec<Bytes>> {
    let connection = Connection::connect(&Conninfo::parse(url)?, "capture").await?;
    let options = ProtocolOptions::choose(connection.server_version());
    let (_acks, acks) = watch::channel(Lsn(0));
    let mut receiver = connection
        .start("capture", Lsn(0), &["bench".into()], options, acks)
        .await?;
    let mut chunks = Vec::new();
    while receiver.received() < end {
        // A copy of its own: the receiver would keep the buffers of all chunks otherwise.
        chunks.push(Bytes::copy_from_slice(&receiver.next().await?));
    }
    receiver.finish().await?;
    Ok(chunks)
}
