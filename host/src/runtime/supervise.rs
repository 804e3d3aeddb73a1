//! Sessions one after the other, until somebody stops them or no retry can help.

use super::backoff::Backoff;
use super::process::Process;
use super::session::{self, SessionEnd};
use super::stop::{Stop, StopRequest};
use crate::batch::Lsn;
use crate::checkpoint::STATE_DISK_FULL;
use crate::problem::Problem;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long another consumer of the slot is waited for: a walsender whose client broke lives on until it notices.
const SLOT_TAKEN_TIME: Duration = Duration::from_secs(5 * 60);
/// How often in a row a server that has let us in before may refuse to, before that is final. With the backoff about two
/// minutes: files of secrets follow later what changes the role.
const REFUSED_TRIES: u32 = 50;
/// How often tables may be altered under their copies within [`ALTERED_TIME`]: a migration of many steps gets through,
/// and a table that is altered without end doesn't have others copied from their beginning for ever.
const ALTERED_MAX: usize = 20;
const ALTERED_TIME: Duration = Duration::from_secs(60 * 60);
/// A session that lasted longer went well: the next failure is a new one.
const GOOD_SESSION: Duration = Duration::from_secs(60);

/// How a pipeline is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Stop at the position that was flushed at the start.
    pub once: bool,
    /// End where the source can't be reached, rather than wait for it.
    pub exit_on_unavailable: bool,
    /// Go on behind a gap that begins at this position, as an error has named it.
    pub accept_gap: Option<Lsn>,
}

/// How a pipeline ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// On request, with everything delivered that was taken in; or a bounded run that has caught up.
    Done,
    /// By a signal, before the drain was through. Nothing is lost: what wasn't durable is sent again.
    Interrupted(i32),
}

/// Runs sessions on the calling thread's runtime until one ends for good.
pub(super) async fn supervise(
    process: &Arc<Process>,
    options: RunOptions,
    mut stop: StopRequest,
) -> Result<Ended, Box<Problem>> {
    let mut backoff = Backoff::new();
    let mut last_reason = String::new();
    let mut taken_since: Option<Instant> = None;
    let mut refusals = 0;
    let mut altered = Alterations::default();
    let mut malformed = String::new();
    loop {
        let began = Instant::now();
        let received_before = process.stats.rows_received.load(Ordering::Relaxed);
        let ended = match session::session(process, options, &mut stop).await {
            // What is stored is whole: the next session goes on from there, once there is room.
            Err(full) if full.code == STATE_DISK_FULL && stop.urgency() == Stop::No => SessionEnd::Retry(full.headline),
            ended => ended?,
        };
        let reason = match ended {
            SessionEnd::Done => return Ok(Ended::Done),
            SessionEnd::Again if stop.urgency() == Stop::No => {
                backoff.reset();
                continue;
            }
            SessionEnd::Again => return Ok(Ended::Done),
            SessionEnd::Interrupted => return Ok(Ended::Interrupted(stop.signal())),
            SessionEnd::Retry(reason) => {
                taken_since = None;
                refusals = 0;
                reason
            }
            SessionEnd::Refused(problem) => {
                refusals += 1;
                if !process.has_streamed() || refusals > REFUSED_TRIES {
                    return Err(problem);
                }
                told(&problem)
            }
            SessionEnd::Altered(problem) => {
                taken_since = None;
                refusals = 0;
                if altered.are_too_many(Instant::now()) {
                    return Err(problem);
                }
                process.status.reconnecting(&problem.headline);
                tracing::warn!(code = problem.code, "{}: its copy starts over", problem.headline);
                problem.headline
            }
            SessionEnd::Malformed(problem) => {
                if began.elapsed() >= GOOD_SESSION {
                    malformed.clear();
                }
                let what = told(&problem);
                // A byte that was turned on the way isn't turned again, at the same place.
                if std::mem::replace(&mut malformed, what.clone()) == what {
                    return Err(problem);
                }
                what
            }
            SessionEnd::SlotTaken(problem) => {
                if taken_since.get_or_insert(began).elapsed() >= SLOT_TAKEN_TIME {
                    return Err(problem);
                }
                told(&problem)
            }
        };
        if stop.urgency() != Stop::No {
            return Ok(Ended::Done);
        }
        if process.stats.rows_received.load(Ordering::Relaxed) > received_before || began.elapsed() >= GOOD_SESSION {
            last_reason.clear();
            backoff.reset();
        }
        let wait = backoff.next();
        // The same failure again and again is one line, not a flood.
        if reason == last_reason {
            tracing::debug!(%reason, retry_in_ms = wait.as_millis() as u64, "still disconnected");
        } else {
            tracing::warn!(%reason, retry_in_ms = wait.as_millis() as u64, "the session ended and is begun again");
            last_reason = reason;
        }
        process.status.reconnecting(&last_reason);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.requested(Stop::Drain) => return Ok(Ended::Done),
        }
    }
}

/// When tables were altered under their copies.
#[derive(Debug, Default)]
struct Alterations(VecDeque<Instant>);

impl Alterations {
    /// Counts one more. Whether that is more than [`ALTERED_MAX`] within [`ALTERED_TIME`].
    fn are_too_many(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        self.0.retain(|at| now.duration_since(*at) < ALTERED_TIME);
        self.0.len() > ALTERED_MAX
    }
}

fn told(problem: &Problem) -> String {
    let cause = problem.cause.as_deref().unwrap_or_default();
    format!("{}: {cause}", problem.headline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_altered_without_end_ends_the_pipeline_and_a_long_migration_does_not() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut migration = Alterations::default();
        for step in 0..20 {
            assert!(!migration.are_too_many(start + step * minute), "{step}");
        }
        assert!(migration.are_too_many(start + 20 * minute));
        // The first of them are an hour ago by now.
        let mut spread = Alterations::default();
        for step in 0..100 {
            assert!(!spread.are_too_many(start + 3 * step * minute), "{step}");
        }
    }
}
