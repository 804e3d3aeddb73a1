//! From durable everywhere to acknowledged: the frontier's position is stored first, reported to Postgres after.

use super::process::Process;
use crate::batch::Lsn;
use crate::checkpoint::{Frontier, Mark};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// The shortest time between two stored positions: each costs an fsync, and Postgres needs none of them soon.
const STORE_INTERVAL: Duration = Duration::from_millis(20);

/// Stores what the frontier passes and publishes it, until the sender of `stop` is gone; then once more.
pub(super) async fn acknowledge(
    frontier: Arc<Frontier<Mark>>,
    acknowledged: watch::Sender<Lsn>,
    process: Arc<Process>,
    mut stop: watch::Receiver<()>,
) -> anyhow::Result<()> {
    loop {
        let stopped = tokio::select! {
            () = frontier.moved() => false,
            _ = stop.changed() => true,
        };
        if let Some(advance) = frontier.take() {
            let lsn = advance.lsn;
            let store = process.store.clone();
            tokio::task::spawn_blocking(move || store.advance(advance.lsn, &advance.marks)).await??;
            if let Some(lsn) = lsn {
                process.status.acknowledged.fetch_max(lsn.0, Ordering::Relaxed);
                acknowledged.send_if_modified(|last| {
                    lsn > *last && {
                        *last = lsn;
                        true
                    }
                });
            }
        }
        if stopped {
            return Ok(());
        }
        tokio::time::sleep(STORE_INTERVAL).await;
    }
}
