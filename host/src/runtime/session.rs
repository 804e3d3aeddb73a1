//! One session: from connecting to the source to the last thing that became durable.

use super::acknowledge::acknowledge;
use super::assembly::{self, Assembly};
use super::process::Process;
use super::receive::{Onward, ReceiveEnd, Until, receive};
use super::source::{NotReady, Ready, database, prepare, query};
use super::stop::{Stop, StopRequest};
use super::supervise::RunOptions;
use super::{chains, copies, known, late_sinks};
use super::{tables, two_phase, types};
use crate::assemble::Full;
use crate::batch::Lsn;
use crate::checkpoint::Frontier;
use crate::decode::{DecodeError, Decoder};
use crate::pipeline::{Input, Intake, LaneEnd, Outlet, Parts, ProbationLimits, Queue};
use crate::problem::Problem;
use crate::sink::driver::{Driver, Outcome};
use crate::sink::{self, SinkContext, UserTypes};
use crate::snapshot::{ALTERED, Copier};
use crate::source::catalog::Catalog;
use crate::source::monitor;
use crate::source::replication::{ProtocolOptions, Receiver};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Bytes of decoded batches that wait for the lane. Enough for some tens of milliseconds at full speed.
const QUEUE_BYTES: usize = 32 << 20;

/// How long the lane may take to see that nobody takes its rows any more: one call of a plugin at most.
const LANE_END_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// The problems of the snapshot stage.
const COPY_CODES: &str = "E06";
/// Its connections failed.
const COPY_BROKE_OFF: &str = "E0602";

/// How a session ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
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

/// Tells that a part has ended, however it ends: by a panic too.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What runs beside the receiving loop.
struct Running {
    queue: Arc<Queue<Input>>,
    lane: oneshot::Receiver<LaneEnd>,
    drivers: Vec<JoinHandle<Outcome>>,
    acknowledging: JoinHandle<Result<(), Box<Problem>>>,
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
    let mut again = process.again.subscribe();
    let ready = tokio::select! {
        ready = prepare(process) => ready,
        () = stop.requested(Stop::Drain) => return Ok(SessionEnd::Done),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(NotReady::Retry(reason)) => return Ok(SessionEnd::Retry(reason)),
        Err(NotReady::SlotTaken(problem)) => return Ok(SessionEnd::SlotTaken(problem)),
        Err(NotReady::Refused(problem)) => return Ok(SessionEnd::Refused(problem)),
        Err(NotReady::Problem(problem)) => return Err(problem),
    };
    let start = ready.start;
    let (acks, acknowledged) = watch::channel(start);
    let types = match types::load(&ready.monitor, &process.config()).await {
        Ok(types) => types,
        Err(error) => return Ok(SessionEnd::Retry(format!("the source's types can't be read: {error}"))),
    };
    let protocol = protocol(process, ready.connection.server_version()).with_binary(ready.types.is_some());
    let assembler = match protocol.streaming || protocol.two_phase {
        true => Some(assembly::assembler(process, start)?),
        false => None,
    };
    let running = launch(process, &ready, types, acks)?;
    let mut decoder = Decoder::new(ready.catalog.tables.iter().map(copies::hint));
    if let Some(types) = &ready.types {
        decoder = decoder.with_binary(Arc::clone(types));
    }
    let bound = options.once.then_some(ready.flushed);
    tracing::info!(slot = ready.slot, publication = ready.publication, position = %start, "streaming");
    process.status.streaming(protocol);

    let publications = [ready.publication.clone()];
    process.streams(&ready.catalog);
    let mut server_gone = watch_server(process, ready.monitor, ready.catalog, &ready.slot);
    let mut receiver = match ready
        .connection
        .start(&ready.slot, start, &publications, protocol, acknowledged)
        .await
    {
        Ok(receiver) => receiver,
        Err(error) => {
            let not_started = query(error);
            wind_down(process, running, None, false, stop).await?;
            return match not_started {
                NotReady::Retry(reason) => Ok(SessionEnd::Retry(reason)),
                NotReady::SlotTaken(problem) => Ok(SessionEnd::SlotTaken(problem)),
                NotReady::Refused(problem) => Ok(SessionEnd::Refused(problem)),
                NotReady::Problem(problem) => Err(problem),
            };
        }
    };
    receiver.limit_rows(usize::try_from(process.config().source.max_row.0).unwrap_or(usize::MAX));
    let mut until = Until {
        stop,
        server_gone: &mut server_gone,
        ended: &running.ended,
        again: &mut again,
        bound,
    };
    let (queue, told) = (Arc::clone(&running.queue), Arc::clone(&running.ended));
    let (mut onward, mut assembly) = match assembler {
        None => (Onward::Decode(Box::new(decoder), queue), None),
        Some(assembler) => {
            let assembly = Assembly::start(process, assembler, decoder, queue, told);
            (assembly.onward(), Some(assembly))
        }
    };
    let mut end = receive(&mut receiver, &mut onward, &process.stats, &mut until).await;
    if matches!(end, ReceiveEnd::Ended)
        && let Some(own) = assembly.as_mut().and_then(Assembly::ended)
    {
        end = own;
    }
    let concluded = conclude(process, running, receiver, end, protocol.binary, stop).await;
    if let Some(assembly) = assembly {
        assembly.finish().await;
    }
    concluded
}

/// What is asked of the server, once per session.
fn protocol(process: &Process, server_version: u32) -> ProtocolOptions {
    let chosen = if process.streams_transactions() {
        ProtocolOptions::choose_streaming(server_version)
    } else {
        ProtocolOptions::choose(server_version)
    };
    match process.config().source.two_phase {
        true => chosen.with_two_phase(server_version),
        false => chosen,
    }
}

/// Says it in the status; the log has it as the reason for the next session.
fn stream_no_more(process: &Process, full: &Full) {
    let reason = || format!("{full}: until the next start the server holds transactions in progress itself");
    process.unstreamed.get_or_init(reason);
}

/// Lets what was received come to its end, and says what the session's end means.
async fn conclude(
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
            let problem = Box::new(super::failure::stream(&error, binary, |oid| process.table_name(oid)));
            if !error.may_be_of_the_way() {
                return Err(problem);
            }
            SessionEnd::Malformed(problem)
        }
        // A type that was made since the session began is known to the next one.
        (ReceiveEnd::Undecodable(DecodeError::NoText { type_oid, .. }), _) if process.asks_for_type(type_oid) => {
            SessionEnd::Again
        }
        (ReceiveEnd::Undecodable(error), _) => match super::failure::textless(&error) {
            Some(problem) => return Err(Box::new(problem)),
            None => SessionEnd::Malformed(Box::new(super::failure::undecodable(&error))),
        },
        (_, _) => SessionEnd::Retry("a stage of the pipeline ended".into()),
    })
}

fn launch(
    process: &Arc<Process>,
    ready: &Ready,
    types: UserTypes,
    acks: watch::Sender<Lsn>,
) -> Result<Running, Box<Problem>> {
    let config = &process.config();
    let frontier = Arc::new(Frontier::new(config.sinks.len()));
    process.dead_letters.begin_session();
    let queue = Arc::new(Queue::new(QUEUE_BYTES));
    let ended = Arc::new(Notify::new());
    // The lane's counters outlive it: a bounded run must not take an earlier session's position for this one's.
    process.stats.position.store(ready.start.0, Ordering::Release);
    // Before versions are chosen: a plugin that changes from now on finds the queue that its swap belongs into.
    process.modules.running(Arc::clone(&queue));
    process.status.forget_sinks();
    let prepared = chains::routes(process, ready.start, ready.flushed)
        .and_then(|routes| Ok((routes, copies::start(process, ready)?, late_sinks::only(process)?)));
    let (routes, (copier, merger), only) = prepared.inspect_err(|_| process.modules.stopped())?;

    let types = Arc::new(types);
    let mut outlets = Vec::new();
    let mut drivers = Vec::new();
    for (at, of_sink) in config.sinks.iter().enumerate() {
        let context = SinkContext {
            pipeline: config.name.clone(),
            slot: ready.slot.clone(),
            sink: of_sink.name.clone(),
            system_identifier: ready.system_identifier,
            source_database: database(config),
            state_dir: config.state_dir.clone(),
            passed_over: Arc::default(),
            types: Arc::clone(&types),
            changes: process.live.changes(),
        };
        let told = Arc::clone(&frontier);
        let durable = move |sequence| told.durable(at, sequence);
        let interval = sink::flush_interval(of_sink);
        let (handle, driver) = Driver::new(sink::build(of_sink), context, of_sink.queue, interval, durable);
        process.status.sink(at, &of_sink.name, handle.clone());
        outlets.push(Outlet::new(handle).with_schema_messages(of_sink.schema_messages));
        let tell = Tell(Arc::clone(&ended));
        drivers.push(process.workers.spawn(async move {
            let _tell = tell;
            driver.run().await
        }));
    }

    let parts = Parts {
        queue: Arc::clone(&queue),
        lanes: config.lanes,
        routes,
        outlets,
        known: Box::new(known::StoredColumns(process.store.clone())),
        live: Arc::clone(&process.live),
        merger,
        only,
        frontier: Arc::clone(&frontier),
        store: process.store.clone(),
        letters: process.dead_letters.clone(),
        stats: Arc::clone(&process.stats),
        metrics: Arc::clone(&process.metrics),
        tap: super::tap::tap(process, ready.system_identifier),
        copied: {
            let process = Arc::clone(process);
            Box::new(move |progress| process.status.copies(progress))
        },
        position: ready.start,
        resent_until: ready.flushed,
        probation: ProbationLimits {
            time: config.reload.probation.0,
            batches: config.reload.probation_batches as u64,
        },
        probation_told: super::reload::probation_told(process),
        recent: Arc::clone(&process.recent),
    };
    let lane = spawn_intake(parts, Arc::clone(&ended));
    let (acknowledging_stop, stopped) = watch::channel(());
    let acknowledging = acknowledge(frontier, acks, Arc::clone(process), stopped);
    let tell = Tell(Arc::clone(&ended));
    let acknowledging = process.workers.spawn(async move {
        let _tell = tell;
        acknowledging.await
    });
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

fn spawn_intake(parts: Parts, ended: Arc<Notify>) -> oneshot::Receiver<LaneEnd> {
    let (send, receive) = oneshot::channel();
    let intake = std::thread::Builder::new().name("intake".into());
    let spawned = intake.spawn(move || {
        let _tell = Tell(ended);
        let _ = send.send(Intake::new(parts).map_or_else(|end| end, Intake::run));
    });
    if let Err(error) = spawned {
        // The sender is gone with the closure, so whoever waits for the lane's end sees that there is none.
        tracing::error!(%error, "no thread for the intake");
    }
    receive
}

/// Tells when the server is seen to shut down, or to be gone. Says nothing while all is well.
fn watch_server(
    process: &Arc<Process>,
    client: tokio_postgres::Client,
    catalog: Catalog,
    slot: &str,
) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    let (slot, process) = (slot.to_owned(), Arc::clone(process));
    tokio::spawn(async move {
        let health = process.status.health_reports();
        let watching = monitor::watch(&client, monitor::until_closed(&client), &slot, health);
        let ended = tokio::select! {
            ended = watching => ended,
            // Only looks at the tables: it never ends.
            () = tables::watch(&process, &client, &catalog) => return,
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

/// Lets the lane and the sinks finish, within the drain's time, while the server is still told that we are here. Where
/// it is `patient` the time begins when somebody asks to stop.
async fn wind_down(
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
        _copier: copier,
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
        drop(copier);
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
            Err(error) => return Err(Box::new(super::failure::bug(&format!("a sink's task: {error}")))),
        }
    }
    match lane {
        Some(LaneEnd::Problem(problem)) => Err(problem),
        Some(LaneEnd::Finished | LaneEnd::SinkGone) => Ok(came_of_it),
        None => Err(Box::new(super::failure::bug("the lane ended without a word"))),
    }
}
