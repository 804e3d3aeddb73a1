//! One session: from connecting to the source to the last thing that became durable.

use super::acknowledge::acknowledge;
use super::process::Process;
use super::receive::{ReceiveEnd, Until, receive};
use super::source::{NotReady, Ready, prepare, query};
use super::stop::{Stop, StopRequest};
use super::supervise::RunOptions;
use super::{chains, copies, known};
use crate::batch::Lsn;
use crate::checkpoint::Frontier;
use crate::decode::Decoder;
use crate::pipeline::{Input, Lane, LaneEnd, LaneParts, Outlet, Queue};
use crate::problem::Problem;
use crate::sink::driver::{Driver, Outcome};
use crate::sink::{self, SinkContext};
use crate::snapshot::Copier;
use crate::source::monitor;
use crate::source::replication::{ProtocolOptions, Receiver};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Bytes of decoded batches that wait for the lane. Enough for some tens of milliseconds at full speed.
const QUEUE_BYTES: usize = 32 << 20;

/// The problems of the snapshot stage.
const COPY_CODES: &str = "E06";

/// How a session ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    Done,
    /// A second signal came, or the drain took too long.
    Interrupted,
    /// Worth another session, for this reason.
    Retry(String),
}

/// What runs beside the receiving loop.
struct Running {
    queue: Arc<Queue<Input>>,
    lane: oneshot::Receiver<LaneEnd>,
    drivers: Vec<JoinHandle<Outcome>>,
    acknowledging: JoinHandle<anyhow::Result<()>>,
    /// Dropped to let the acknowledging task end.
    acknowledging_stop: watch::Sender<()>,
    /// Told when the lane or a sink has ended by itself.
    ended: Arc<Notify>,
    /// Reads what is copied, for as long as it lives.
    _copier: Copier,
}

pub(super) async fn session(
    process: &Arc<Process>,
    options: RunOptions,
    stop: &mut StopRequest,
) -> Result<SessionEnd, Box<Problem>> {
    let ready = tokio::select! {
        ready = prepare(process) => ready,
        () = stop.requested(Stop::Drain) => return Ok(SessionEnd::Done),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(NotReady::Retry(reason)) => return Ok(SessionEnd::Retry(reason)),
        Err(NotReady::Problem(problem)) => return Err(problem),
    };
    let start = ready.start;
    let (acks, acknowledged) = watch::channel(start);
    let running = launch(process, &ready, acks)?;
    let mut decoder = Decoder::new(ready.catalog.tables.iter().map(copies::hint));
    let bound = options.once.then_some(ready.flushed);
    tracing::info!(slot = ready.slot, publication = ready.publication, position = %start, "streaming");
    process.status.streaming();

    let protocol = ProtocolOptions::choose(ready.connection.server_version());
    let publications = [ready.publication.clone()];
    let mut server_gone = watch_server(process, ready.monitor, &ready.slot);
    let mut receiver = match ready
        .connection
        .start(&ready.slot, start, &publications, protocol, acknowledged)
        .await
    {
        Ok(receiver) => receiver,
        Err(error) => {
            let not_started = query(error);
            wind_down(process, running, None, stop).await?;
            return match not_started {
                NotReady::Retry(reason) => Ok(SessionEnd::Retry(reason)),
                NotReady::Problem(problem) => Err(problem),
            };
        }
    };
    let mut until = Until {
        stop,
        server_gone: &mut server_gone,
        ended: &running.ended,
        bound,
    };
    let end = receive(&mut receiver, &mut decoder, &running.queue, &process.stats, &mut until).await;
    conclude(process, running, receiver, end, stop).await
}

/// Lets what was received come to its end, and says what the session's end means.
async fn conclude(
    process: &Process,
    running: Running,
    receiver: Receiver,
    end: ReceiveEnd,
    stop: &mut StopRequest,
) -> Result<SessionEnd, Box<Problem>> {
    let connected = matches!(end, ReceiveEnd::Stopped | ReceiveEnd::CaughtUp | ReceiveEnd::Ended);
    // A server that shuts down waits until we have gone.
    let receiver = connected.then_some(receiver);
    let wound_down = match wind_down(process, running, receiver, stop).await {
        // Without the server nothing can be copied either: that cures itself with the connection.
        Err(problem) if !connected && problem.code.starts_with(COPY_CODES) => WoundDown::Rewind(problem.headline),
        other => other?,
    };
    Ok(match (end, wound_down) {
        (_, WoundDown::TooSlow) if stop.urgency() != Stop::No => SessionEnd::Interrupted,
        (_, WoundDown::ReaderGone) => SessionEnd::Done,
        (_, WoundDown::Rewind(reason)) => SessionEnd::Retry(reason),
        (ReceiveEnd::Stopped | ReceiveEnd::CaughtUp, WoundDown::Settled) => SessionEnd::Done,
        (ReceiveEnd::ServerGone(reason), _) => SessionEnd::Retry(reason),
        (ReceiveEnd::Failed(error), _) if error.is_transient() => SessionEnd::Retry(error.to_string()),
        (ReceiveEnd::Failed(error), _) => return Err(Box::new(super::failure::stream(&error))),
        (ReceiveEnd::Undecodable(error), _) => return Err(Box::new(super::failure::undecodable(&error))),
        (_, _) => SessionEnd::Retry("a stage of the pipeline ended".into()),
    })
}

fn launch(process: &Arc<Process>, ready: &Ready, acks: watch::Sender<Lsn>) -> Result<Running, Box<Problem>> {
    let config = &process.config;
    let frontier = Arc::new(Frontier::new(config.sinks.len()));
    let queue = Arc::new(Queue::new(QUEUE_BYTES));
    let ended = Arc::new(Notify::new());
    let routes = chains::routes(process, ready.start, ready.flushed)?;
    let (copier, merger) = copies::start(process, ready)?;

    let mut outlets = Vec::new();
    let mut drivers = Vec::new();
    for (at, of_sink) in config.sinks.iter().enumerate() {
        let context = SinkContext {
            pipeline: config.name.clone(),
            slot: ready.slot.clone(),
            sink: of_sink.name.clone(),
            system_identifier: ready.system_identifier,
            state_dir: config.state_dir.clone(),
        };
        let told = Arc::clone(&frontier);
        let durable = move |sequence| told.durable(at, sequence);
        let interval = sink::flush_interval(of_sink);
        let (handle, driver) = Driver::new(sink::build(of_sink), context, of_sink.queue, interval, durable);
        process.status.sink(at, handle.clone());
        outlets.push(Outlet::new(handle));
        let ended = Arc::clone(&ended);
        drivers.push(process.workers.spawn(async move {
            let outcome = driver.run().await;
            ended.notify_one();
            outcome
        }));
    }

    let parts = LaneParts {
        queue: Arc::clone(&queue),
        routes,
        outlets,
        known: Box::new(known::StoredColumns(process.store.clone())),
        live: Arc::clone(&process.live),
        merger,
        frontier: Arc::clone(&frontier),
        store: process.store.clone(),
        stats: Arc::clone(&process.stats),
        tap: super::tap::tap(process, ready.system_identifier),
        copied: {
            let process = Arc::clone(process);
            Box::new(move |progress| process.status.copies(progress))
        },
        position: ready.start,
    };
    process.modules.running(Arc::clone(&queue));
    let lane = spawn_lane(parts, Arc::clone(&ended));
    let (acknowledging_stop, stopped) = watch::channel(());
    let acknowledging = process
        .workers
        .spawn(acknowledge(Arc::clone(&frontier), acks, Arc::clone(process), stopped));
    Ok(Running {
        queue,
        lane,
        drivers,
        acknowledging,
        acknowledging_stop,
        ended,
        _copier: copier,
    })
}

fn spawn_lane(parts: LaneParts, ended: Arc<Notify>) -> oneshot::Receiver<LaneEnd> {
    let (send, receive) = oneshot::channel();
    let lane = std::thread::Builder::new().name("lane".into());
    let spawned = lane.spawn(move || {
        let end = Lane::new(parts).run();
        let _ = send.send(end);
        ended.notify_one();
    });
    if let Err(error) = spawned {
        // The sender is gone with the closure, so whoever waits for the lane's end sees that there is none.
        tracing::error!(%error, "no thread for the lane");
    }
    receive
}

/// Tells when the server is seen to shut down, or to be gone. Says nothing while all is well.
fn watch_server(process: &Arc<Process>, client: tokio_postgres::Client, slot: &str) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    let (slot, process) = (slot.to_owned(), Arc::clone(process));
    tokio::spawn(async move {
        let health = process.status.slot_health();
        let watching = monitor::watch(&client, monitor::until_closed(&client), &slot, health);
        let ended = tokio::select! {
            ended = watching => ended,
            // The session has ended.
            () = send.closed() => return,
        };
        let reason = match ended {
            monitor::Ended::ServerShutdown(text) => text,
            monitor::Ended::ConnectionLost => "the server has closed its connections".to_owned(),
            // The stream notices its own silence by itself.
            other => return tracing::debug!(?other, "the slot's health isn't watched any more"),
        };
        let _ = send.send(reason).await;
    });
    receive
}

/// What came of what was on its way.
enum WoundDown {
    /// Everything that was taken in is durable, but for transactions that hadn't ended.
    Settled,
    /// Not in time.
    TooSlow,
    ReaderGone,
    Rewind(String),
}

/// Lets the lane and the sinks finish, within the drain's time, while the server is still told that we are here.
async fn wind_down(
    process: &Process,
    running: Running,
    mut receiver: Option<Receiver>,
    stop: &mut StopRequest,
) -> Result<WoundDown, Box<Problem>> {
    let Running {
        queue,
        lane,
        mut drivers,
        acknowledging,
        acknowledging_stop,
        ..
    } = running;
    process.modules.stopped();
    let _ = queue.push_now(Input::Finish);
    queue.close();
    let finish = async {
        let lane = lane.await;
        let mut outcomes = Vec::new();
        for driver in &mut drivers {
            outcomes.push(driver.await);
        }
        (lane, outcomes)
    };
    let finished = {
        tokio::pin!(finish);
        let mut tending = std::pin::pin!(async {
            if let Some(receiver) = &mut receiver {
                let error = receiver.tend().await;
                tracing::debug!(%error, "the connection broke while draining");
            }
            std::future::pending::<()>().await
        });
        tokio::select! {
            finished = &mut finish => Some(finished),
            () = tokio::time::sleep(process.config.drain_timeout.0) => None,
            () = stop.requested(Stop::Now) => None,
            () = &mut tending => None,
        }
    };
    if finished.is_none() {
        drivers.iter().for_each(JoinHandle::abort);
    }
    drop(acknowledging_stop);
    match acknowledging.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Box::new(super::failure::store(&error))),
        Err(error) => tracing::debug!(%error, "the acknowledging task"),
    }
    if let Some(receiver) = receiver
        && let Err(error) = receiver.finish().await
    {
        tracing::debug!(%error, "the stream didn't end in order");
    }
    let Some((lane, outcomes)) = finished else {
        return Ok(WoundDown::TooSlow);
    };
    judge(lane.ok(), outcomes)
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
            Err(error) => return Err(Box::new(super::failure::bug(&format!("a sink's task: {error}")))),
        }
    }
    match lane {
        Some(LaneEnd::Problem(problem)) => Err(problem),
        Some(LaneEnd::Finished | LaneEnd::SinkGone) => Ok(came_of_it),
        None => Err(Box::new(super::failure::bug("the lane ended without a word"))),
    }
}
