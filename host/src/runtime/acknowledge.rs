//! From durable everywhere to acknowledged: the frontier's position is stored first, reported to Postgres after.
//!
//! Dead letters that were sent again have a file of their own. Which they are is stored with the position and with what
//! the plugins have made of them; then their file is told that they are gone.

use super::process::Process;
use super::standings::Standings;
use crate::batch::Lsn;
use crate::checkpoint::{Advance, Frontier, LastCommit, Mark, STATE_DISK_FULL, SinkPosition};
use crate::dead_letter::Ticket;
use crate::failpoint;
use crate::problem::Problem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The shortest time between two stored positions: each costs an fsync, and Postgres needs none of them soon.
const STORE_INTERVAL: Duration = Duration::from_millis(100);
/// Where marks wait, the next unit of a copy may wait for them.
const MARKS_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for room on a full disk. Meanwhile rows go on, and the server keeps their WAL.
const DISK_FULL_INTERVAL: Duration = Duration::from_secs(1);

/// Stores what the frontier passes and publishes it, until the sender of `stop` is gone; then once more. Ends with a
/// problem where it can't be stored, for more than a full disk.
pub(super) async fn acknowledge(
    frontier: Arc<Frontier<Mark>>,
    standings: Standings,
    acknowledged: watch::Sender<Lsn>,
    process: Arc<Process>,
    mut stop: watch::Receiver<()>,
) -> Result<(), Box<Problem>> {
    // What has been passed and isn't stored yet.
    let mut pending: Option<Advance<Mark>> = None;
    let mut full = false;
    loop {
        let stopped = tokio::select! {
            () = frontier.moved(), if !full => false,
            () = tokio::time::sleep(DISK_FULL_INTERVAL), if full => false,
            _ = stop.changed() => true,
        };
        if let Some(advance) = frontier.take() {
            match &mut pending {
                None => pending = Some(advance),
                Some(before) => {
                    before.lsn = before.lsn.max(advance.lsn);
                    before.marks.extend(advance.marks);
                }
            }
        }
        if let Some(advance) = &pending {
            failpoint::pass(failpoint::BEFORE_CHECKPOINT);
            match store(&process, advance, standings.positions()).await {
                Ok(()) => {
                    failpoint::pass(failpoint::AFTER_CHECKPOINT);
                    publish(&process, &acknowledged, advance.lsn);
                    settle_letters(&process, advance).await?;
                    pending = None;
                    full = false;
                }
                Err(problem) if problem.code == STATE_DISK_FULL && !stopped => {
                    if !full {
                        tracing::warn!(code = problem.code, help = problem.help, "{}", problem.headline);
                    }
                    full = true;
                }
                Err(problem) => return Err(Box::new(problem)),
            }
        }
        if stopped {
            return Ok(());
        }
        pause(&frontier, &mut stop).await;
    }
}

/// Between two stored positions.
async fn pause(frontier: &Frontier<Mark>, stop: &mut watch::Receiver<()>) {
    let begun = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(MARKS_INTERVAL) => {}
            _ = stop.changed() => return,
        }
        if frontier.marked() > 0 || begun.elapsed() >= STORE_INTERVAL {
            return;
        }
    }
}

/// `sinks` was asked for behind what is stored: a target has committed no less than what it was acknowledged for.
async fn store(process: &Process, advance: &Advance<Mark>, sinks: Vec<SinkPosition>) -> Result<(), Problem> {
    let (lsn, mut marks) = (advance.lsn, advance.marks.clone());
    let tickets: Vec<Ticket> = tickets(advance).collect();
    let (store, letters) = (process.store.clone(), process.dead_letters.clone());
    let commits = &process.stats.commits;
    let last = lsn.map_or(LastCommit::Same, |lsn| commits.up_to(lsn));
    let job = move || {
        let sent: Vec<u64> = tickets.into_iter().flat_map(|ticket| letters.sent(ticket)).collect();
        if !sent.is_empty() {
            marks.push(Mark::Sent(sent.into()));
        }
        store.checkpoint(lsn, &marks, last, &sinks)
    };
    let stored = tokio::task::spawn_blocking(job).await;
    stored.unwrap_or_else(|error| Err(super::failure::bug(&format!("the state store: {error}"))))?;
    lsn.inspect(|lsn| commits.forget(*lsn));
    Ok(())
}

/// Dead letters that were sent again and are durable now are gone. Of those that are gone, what the server doesn't send
/// again is forgotten; old ones are dropped.
async fn settle_letters(process: &Process, advance: &Advance<Mark>) -> Result<(), Box<Problem>> {
    let letters = process.dead_letters.clone();
    if letters.is_empty() {
        return Ok(());
    }
    let (lsn, tickets): (_, Vec<Ticket>) = (advance.lsn, tickets(advance).collect());
    let settle = move || {
        tickets.into_iter().try_for_each(|ticket| letters.settle(ticket))?;
        lsn.inspect(|lsn| letters.acknowledged(*lsn));
        letters.tick()
    };
    let settled = tokio::task::spawn_blocking(settle).await;
    settled.unwrap_or_else(|error| Err(Box::new(super::failure::bug(&format!("the dead letters: {error}")))))
}

/// The rounds of dead letters that have arrived.
fn tickets(advance: &Advance<Mark>) -> impl Iterator<Item = Ticket> {
    advance.marks.iter().filter_map(|mark| match mark {
        Mark::Replayed(ticket) => Some(Ticket(*ticket)),
        _ => None,
    })
}

fn publish(process: &Process, acknowledged: &watch::Sender<Lsn>, lsn: Option<Lsn>) {
    let Some(lsn) = lsn else { return };
    process.status.acknowledged.fetch_max(lsn.0, Ordering::Relaxed);
    acknowledged.send_if_modified(|last| {
        lsn > *last && {
            *last = lsn;
            true
        }
    });
}
