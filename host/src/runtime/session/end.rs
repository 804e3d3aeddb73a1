//! How a session ends: what is on its way comes to its end, and what that means is said.

use super::launch::Running;
use crate::assemble::Full;
use crate::decode::DecodeError;
use crate::pipeline::{Input, LaneEnd};
use crate::problem::Problem;
use crate::runtime::process::Process;
use crate::runtime::receive::ReceiveEnd;
use crate::runtime::stop::{Stop, StopRequest};
use crate::runtime::{copies, failure, two_phase};
use crate::sink::driver::Outcome;
use crate::snapshot::ALTERED;
use crate::source::replication::Receiver;
use tokio::task::JoinHandle;

/// How long the lane may take to see that nobody takes its rows any more: one call of a plugin at most.
const LANE_END_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// The problems of the snapshot stage.
const COPY_CODES: &str = "E06";
/// Its connections failed.
const COPY_BROKE_OFF: &str = "E0602";

/// How a session ended.
#[derive(Debug)]
pub(in crate::runtime) enum SessionEnd {
    Done,
    /// Another one is to begin at once.
    Again,
    /// A second signal came, or the drain took too long.
    Interrupted,
    /// Worth another session, for this reason.
    Retry(String),
    /// A table was altered while it was copied: worth another session, unless that happens again and again.
    Altered(Box<Problem>),
    /// The bytes make no sense: worth another session, unless the same comes again.
    Malformed(Box<Problem>),
    /// Another consumer streams from the slot: worth another session for a while.
    SlotTaken(Box<Problem>),
    /// The server doesn't let us in: where it did before, worth another session for a while.
    Refused(Box<Problem>),
}

/// Says it in the status; the log has it as the reason for the next session.
fn stream_no_more(process: &Process, full: &Full) {
    let reason = || format!("{full}: until the next start the server holds transactions in progress itself");
    process.unstreamed.get_or_init(reason);
}

/// Lets what was received come to its end, and says what the session's end means.
pub(super) async fn conclude(
    process: &Process,
    running: Running,
    receiver: Receiver,
    end: ReceiveEnd,
    binary: bool,
    stop: &mut StopRequest,
) -> Result<SessionEnd, Box<Problem>> {
    let connected = matches!(
        end,
        ReceiveEnd::Stopped | ReceiveEnd::CaughtUp | ReceiveEnd::Ended | ReceiveEnd::Again | ReceiveEnd::SpillFull(_)
    );
    let streamed = process.streams_transactions();
    if let ReceiveEnd::SpillFull(full) = &end
        && streamed
    {
        stream_no_more(process, full);
    }
    // A server that shuts down waits until we have gone.
    let receiver = connected.then_some(receiver);
    let patient = matches!(end, ReceiveEnd::CaughtUp);
    let wound_down = match wind_down(process, running, receiver, patient, stop).await {
        // Without the server nothing can be copied either: that cures itself with the connection. The copy's own
        // connections may notice first.
        Err(problem) if !connected && problem.code.starts_with(COPY_CODES) || problem.code == COPY_BROKE_OFF => {
            WoundDown::Rewind(problem.headline)
        }
        Err(problem) if problem.code == ALTERED => {
            copies::altered(process)?;
            return Ok(SessionEnd::Altered(problem));
        }
        other => other?,
    };
    Ok(match (end, wound_down) {
        (_, WoundDown::TooSlow | WoundDown::Rewind(_)) if stop.urgency() != Stop::No => SessionEnd::Interrupted,
        (_, WoundDown::ReaderGone) => SessionEnd::Done,
        (_, WoundDown::Rewind(reason)) => SessionEnd::Retry(reason),
        (ReceiveEnd::Stopped | ReceiveEnd::CaughtUp, WoundDown::Settled) => SessionEnd::Done,
        (ReceiveEnd::SpillFull(full), _) if !streamed => return Err(Box::new(two_phase::full(&full))),
        (ReceiveEnd::PreparedLost(lost), _) => return Err(Box::new(two_phase::lost(&lost))),
        (ReceiveEnd::SpillFull(_), _) => SessionEnd::Retry(process.unstreamed.get().cloned().unwrap_or_default()),
        (ReceiveEnd::Again, WoundDown::Settled | WoundDown::TooSlow) => SessionEnd::Again,
        (ReceiveEnd::ServerGone(reason), _) => SessionEnd::Retry(reason),
        (ReceiveEnd::Failed(error), _) if error.is_transient() => SessionEnd::Retry(error.to_string()),
        (ReceiveEnd::Failed(error), _) => {
            let problem = Box::new(failure::stream(&error, binary, |oid| process.table_name(oid)));
            if !error.may_be_of_the_way() {
                return Err(problem);
            }
            SessionEnd::Malformed(problem)
        }
        // A type that was made since the session began is known to the next one.
        (ReceiveEnd::Undecodable(DecodeError::NoText { type_oid, .. }), _) if process.asks_for_type(type_oid) => {
            SessionEnd::Again
        }
        (ReceiveEnd::Undecodable(error), _) => match failure::textless(&error) {
            Some(problem) => return Err(Box::new(problem)),
            None => SessionEnd::Malformed(Box::new(failure::undecodable(&error))),
        },
        (_, _) => SessionEnd::Retry("a stage of the pipeline ended".into()),
    })
}

/// What came of what was on its way.
pub(super) enum WoundDown {
    /// Everything that was taken in is durable, but for transactions that hadn't ended.
    Settled,
    /// Not in time.
    TooSlow,
    ReaderGone,
    Rewind(String),
}

/// Lets the lane and the sinks finish, within the drain's time, while the server is still told that we are here. Where
/// it is `patient` the time begins when somebody asks to stop.
pub(super) async fn wind_down(
    process: &Process,
    running: Running,
    mut receiver: Option<Receiver>,
    patient: bool,
    stop: &mut StopRequest,
) -> Result<WoundDown, Box<Problem>> {
    let Running {
        queue,
        lane,
        mut drivers,
        acknowledging,
        acknowledging_stop,
        ended: _,
        copiers,
        only: _,
    } = running;
    process.modules.stopped();
    let _ = queue.push_now(Input::Finish);
    queue.close();
    let mut lane_end = None;
    let mut outcomes = Vec::new();
    tokio::pin!(lane);
    let in_time = {
        let finish = async {
            lane_end = Some((&mut lane).await.ok());
            for driver in &mut drivers {
                outcomes.push(driver.await);
            }
        };
        tokio::pin!(finish);
        let mut asked = stop.clone();
        let mut late = std::pin::pin!(async {
            if patient {
                asked.requested(Stop::Drain).await;
            }
            tokio::time::sleep(process.config().drain_timeout.0).await;
        });
        let mut tending = std::pin::pin!(async {
            if let Some(receiver) = &mut receiver {
                let error = receiver.tend().await;
                tracing::debug!(%error, "the connection broke while draining");
            }
            std::future::pending::<()>().await
        });
        tokio::select! {
            () = &mut finish => true,
            () = &mut late => false,
            () = stop.requested(Stop::Now) => false,
            () = &mut tending => false,
        }
    };
    if !in_time {
        // Nothing of this session may touch a target or a counter once the next one has begun.
        drivers.iter().for_each(JoinHandle::abort);
        drop(copiers);
        for driver in drivers.iter_mut().skip(outcomes.len()) {
            outcomes.push(driver.await);
        }
        if lane_end.is_none() {
            lane_end = tokio::time::timeout(LANE_END_TIME, &mut lane)
                .await
                .ok()
                .map(Result::ok);
        }
    }
    drop(acknowledging_stop);
    match acknowledging.await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => return Err(problem),
        Err(error) => tracing::debug!(%error, "the acknowledging task"),
    }
    if let Some(receiver) = receiver
        && let Err(error) = receiver.finish().await
    {
        tracing::debug!(%error, "the stream didn't end in order");
    }
    if !in_time {
        return too_slow(outcomes);
    }
    judge(lane_end.flatten(), outcomes)
}

/// A sink that has stopped for good decides, though others were too slow.
fn too_slow(outcomes: Vec<Result<Outcome, tokio::task::JoinError>>) -> Result<WoundDown, Box<Problem>> {
    let stopped = outcomes.into_iter().find_map(|outcome| match outcome {
        Ok(Outcome::Stopped(problem)) => Some(problem),
        _ => None,
    });
    stopped.map_or(Ok(WoundDown::TooSlow), Err)
}

/// A sink's own word counts before the lane's: the lane only sees that the sink is gone.
fn judge(
    lane: Option<LaneEnd>,
    outcomes: Vec<Result<Outcome, tokio::task::JoinError>>,
) -> Result<WoundDown, Box<Problem>> {
    let mut came_of_it = WoundDown::Settled;
    for outcome in outcomes {
        match outcome {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Stopped(problem)) => return Err(problem),
            Ok(Outcome::ReaderGone) => came_of_it = WoundDown::ReaderGone,
            Ok(Outcome::Rewind(error)) => came_of_it = WoundDown::Rewind(format!("{error:#}")),
            Err(error) => return Err(Box::new(failure::bug(&format!("a sink's task: {error}")))),
        }
    }
    match lane {
        Some(LaneEnd::Problem(problem)) => Err(problem),
        Some(LaneEnd::Finished | LaneEnd::SinkGone) => Ok(came_of_it),
        None => Err(Box::new(failure::bug("the lane ended without a word"))),
    }
}
