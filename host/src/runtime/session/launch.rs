//! What runs beside the receiving loop, and how it is started.

use crate::batch::Lsn;
use crate::checkpoint::Frontier;
use crate::dead_letter::{DeadLetters, RouteId};
use crate::pipeline::{
    Input, Intake, LaneEnd, Outlet, Parts, ProbationLimits, Queue, RouteParts, Selected, route_names,
};
use crate::problem::Problem;
use crate::runtime::acknowledge::acknowledge;
use crate::runtime::live_copies::Copiers;
use crate::runtime::process::Process;
use crate::runtime::source::{Ready, database};
use crate::runtime::standings::Standings;
use crate::runtime::{chains, copies, known, late_sinks, reload, tap};
use crate::sink::driver::{Driver, Outcome};
use crate::sink::{self, PassedOver, SinkContext, UserTypes};
use crate::source::catalog::Catalog;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

/// Bytes of decoded batches that wait for the lane. Enough for some tens of milliseconds at full speed.
const QUEUE_BYTES: usize = 32 << 20;

/// Tells that a part has ended, however it ends: by a panic too.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What runs beside the receiving loop.
pub(super) struct Running {
    pub(super) queue: Arc<Queue<Input>>,
    pub(super) lane: oneshot::Receiver<LaneEnd>,
    pub(super) drivers: Vec<JoinHandle<Outcome>>,
    pub(super) acknowledging: JoinHandle<Result<(), Box<Problem>>>,
    /// Dropped to let the acknowledging task end.
    pub(super) acknowledging_stop: watch::Sender<()>,
    /// Told when the lane or a sink has ended by itself.
    pub(super) ended: Arc<Notify>,
    /// Read what is copied, for as long as this lives.
    pub(super) copiers: Copiers,
    /// Tables whose copied rows go to some of their sinks alone.
    pub(super) only: Vec<u32>,
}

pub(super) fn launch(
    process: &Arc<Process>,
    ready: &Ready,
    types: &Arc<UserTypes>,
    acks: watch::Sender<Lsn>,
) -> Result<Running, Box<Problem>> {
    let config = &process.config();
    let standings = Standings::load(process, ready.start)?;
    let frontier = Arc::new(Frontier::new(config.sinks.len()));
    process.dead_letters.begin_session();
    settle_sent(process)?;
    let queue = Arc::new(Queue::new(QUEUE_BYTES));
    let ended = Arc::new(Notify::new());
    // The lane's counters outlive it: a bounded run must not take an earlier session's position for this one's.
    process.stats.position.store(ready.start.0, Ordering::Release);
    process.stats.commits.begin();
    // Before versions are chosen: a plugin that changes from now on finds the queue that its swap belongs into.
    process.modules.running(Arc::clone(&queue));
    process.status.forget_sinks();
    let prepared = chains::routes(process, ready.start, ready.flushed)
        .and_then(|routes| Ok((routes, copies::start(process, ready)?, late_sinks::only(process)?)));
    let (routes, (copier, merger), only) = prepared.inspect_err(|_| process.modules.stopped())?;

    let only_tables = only.keys().copied().collect();
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
            known: standings.of(at),
            types: Arc::clone(types),
            changes: process.live.changes(),
        };
        let passed_over = Arc::clone(&context.passed_over);
        let alone = alone(process, &routes, at);
        let told = Arc::clone(&frontier);
        let durable = move |sequence| told.durable(at, sequence);
        let interval = sink::flush_interval(of_sink);
        let (handle, driver) = Driver::new(sink::build(of_sink), context, of_sink.queue, interval, durable);
        let driver = driver.with_server_end(ready.flushed);
        let (store, name) = (process.store.clone(), of_sink.name.clone());
        let driver = driver.with_parting(move || store.settle_parting(&name));
        process.status.sink(at, &of_sink.name, handle.clone());
        let outlet = Outlet::new(handle)
            .with_name(&of_sink.name)
            .with_binary(of_sink.takes_binary());
        outlets.push(outlet.with_schema_messages(of_sink.schema_messages));
        let (tell, letters) = (Tell(Arc::clone(&ended)), process.dead_letters.clone());
        drivers.push(process.workers.spawn(async move {
            let _tell = tell;
            match driver.run().await {
                Outcome::Stopped(problem) => Outcome::Stopped(called_off(&letters, &passed_over, &alone, problem)),
                outcome => outcome,
            }
        }));
    }

    let parts = Parts {
        queue: Arc::clone(&queue),
        lanes: config.lanes,
        routes,
        outlets,
        known: Box::new(known::StoredColumns(process.store.clone())),
        selected: selected(process, &ready.catalog),
        live: Arc::clone(&process.live),
        merger,
        only,
        frontier: Arc::clone(&frontier),
        store: process.store.clone(),
        letters: process.dead_letters.clone(),
        stats: Arc::clone(&process.stats),
        metrics: Arc::clone(&process.metrics),
        tap: tap::tap(process, ready.system_identifier),
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
        probation_told: reload::probation_told(process),
        recent: Arc::clone(&process.recent),
    };
    let lane = spawn_intake(parts, Arc::clone(&ended));
    let (acknowledging_stop, stopped) = watch::channel(());
    let acknowledging = acknowledge(frontier, standings, acks, Arc::clone(process), stopped);
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
        copiers: Copiers::new(copier),
        only: only_tables,
    })
}

/// The routes that lead to a sink and to no other.
fn alone(process: &Process, routes: &[RouteParts], sink: usize) -> Vec<RouteId> {
    let names = route_names(routes.iter().map(|route| &*route.config));
    let alone = routes.iter().zip(names).filter(|(route, _)| route.sinks == [sink]);
    alone.map(|(_, name)| process.dead_letters.route(&name)).collect()
}

/// Where a sink has stopped at a dead letter that was sent again, the next start doesn't send it.
fn called_off(
    letters: &DeadLetters,
    passed_over: &PassedOver,
    alone: &[RouteId],
    problem: Box<Problem>,
) -> Box<Problem> {
    let letter = passed_over.letter.load(Ordering::Relaxed);
    let has_all_before = passed_over.has_all_before.load(Ordering::Relaxed);
    match letter {
        0 => problem,
        _ => letters.met(letter, if has_all_before { alone } else { &[] }, problem),
    }
}

fn selected(process: &Arc<Process>, catalog: &Catalog) -> Selected {
    let withheld = catalog.tables.iter().filter_map(|table| {
        let columns = table.columns.iter().filter(|column| column.withheld);
        let names: Vec<String> = columns.map(|column| column.name.clone()).collect();
        (!names.is_empty()).then_some((table.oid, names))
    });
    let withheld = withheld.collect();
    let process = Arc::clone(process);
    let names = move |schema: &str, table: &str| {
        let config = process.config();
        let patterns = &config.source.tables;
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(schema, table))
    };
    Selected {
        names: Box::new(names),
        withheld,
    }
}

/// Letters that an earlier session has sent, and of which their file wasn't told: they are in what the plugins keep.
fn settle_sent(process: &Process) -> Result<(), Box<Problem>> {
    let sent = process.store.letters_sent()?;
    if sent.is_empty() {
        return Ok(());
    }
    process.dead_letters.settle_sent(&sent)?;
    Ok(process.store.forget_letters_sent()?)
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
