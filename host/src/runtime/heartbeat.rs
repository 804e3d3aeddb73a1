//! A sign of life in the WAL of a source that rests while others of its server write: a logical message, which needs no
//! table and no right beyond that to connect. Off unless asked for.

use super::process::Process;
use crate::batch::HEARTBEAT_PREFIX;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How often it is looked whether the file asks for it by now.
const OFF_INTERVAL: Duration = Duration::from_secs(5);
/// Not transactional: it takes no transaction id, and waits for no commit.
const BEAT: &str = "SELECT pg_catalog.pg_logical_emit_message(false, $1, '')";

/// Never returns.
pub(super) async fn beat(process: &Process, client: &Client) {
    let mut is_told = false;
    loop {
        let interval = process.config().source.heartbeat;
        tokio::time::sleep(interval.map_or(OFF_INTERVAL, |interval| interval.0)).await;
        if interval.is_none() {
            continue;
        }
        let beaten = client.query_typed(BEAT, &[(&HEARTBEAT_PREFIX, Type::TEXT)]).await;
        match beaten {
            Ok(_) => is_told = false,
            Err(error) if client.is_closed() => tracing::debug!(%error, "no heartbeat: the connection is gone"),
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(%error, "the server refuses the heartbeat");
            }
            Err(_) => {}
        }
    }
}
