//! From the first row to the last: starts everything, draws, swaps, drains, compares.

use super::changes::Changes;
use super::cluster::Cluster;
use super::load::Load;
use super::page::Place;
use super::screen::Screen;
use super::summary::Summary;
use super::swap::{FIRST, Phase, Swap};
use super::verify;
use super::view::{Rates, View};
use super::{Options, codes, shop};
use crate::batch::Lsn;
use crate::config::Pipeline;
use crate::console::{Console, Status, Tail};
use crate::problem::Problem;
use crate::runtime::{self, Ended, Pipelines, RunOptions, Stop, StopRequest};
use crate::telemetry::Registry;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

const TICK: Duration = Duration::from_millis(200);
const DRAIN_TICK: Duration = Duration::from_millis(50);
/// How long the pipeline may take to deliver what is there once the load has stopped.
const REST_TIMEOUT: Duration = Duration::from_secs(60);
/// When the plugin is swapped, where the demo has no end of its own.
const SWAP_AT: Duration = Duration::from_secs(10);
/// How long the end of a timed demo waits for a swap under way.
const SWAP_PATIENCE: Duration = Duration::from_secs(20);

type PipelineEnd = Pin<Box<dyn Future<Output = Result<Ended, Box<Problem>>> + Send>>;

/// Everything that moves.
struct Stage {
    place: Place,
    swap: Option<Swap>,
    status: Arc<Pipelines>,
    changes: Arc<Changes>,
    screen: Screen,
    rates: Rates,
    begun: Instant,
    stop: watch::Sender<Stop>,
    ended: PipelineEnd,
    /// Ends the load when true is sent.
    load_stop: watch::Sender<bool>,
    load: JoinHandle<Result<(), Problem>>,
}

/// The whole demo; `None` at a second signal.
pub(super) async fn show(
    cluster: &Cluster,
    pipeline: Pipeline,
    swap: Option<Swap>,
    place: Place,
    options: &Options,
) -> Result<Option<Summary>, Problem> {
    let signals = signals().map_err(codes::server)?;
    let mut second = signals.clone();
    tokio::select! {
        summary = play(cluster, pipeline, swap, place, options, signals) => summary.map(Some),
        _ = second.wait_for(|signals| *signals >= 2) => Ok(None),
    }
}

/// Counts requests to end, from the terminal or elsewhere.
fn signals() -> std::io::Result<watch::Receiver<u32>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

async fn play(
    cluster: &Cluster,
    pipeline: Pipeline,
    swap: Option<Swap>,
    place: Place,
    options: &Options,
    mut signals: watch::Receiver<u32>,
) -> Result<Summary, Problem> {
    shop::open(cluster).await?;
    let mut stage = Stage::open(cluster, pipeline, swap, place, options).await?;
    stage.perform(options.seconds, &mut signals).await?;
    let elapsed = stage.begun.elapsed();
    stage.drain(cluster).await?;
    let view = stage.view();
    let phase = stage.phase();
    drop(stage.screen);
    let feed = stage
        .place
        .feed
        .parent()
        .map(verify::feed)
        .transpose()?
        .unwrap_or_default();
    let verified = if by_hand(&view, phase) {
        None
    } else {
        Some(verify::warehouse(cluster, phase, view.seen.lag_highest).await?)
    };
    Ok(Summary {
        elapsed,
        view,
        phase,
        verified,
        feed,
    })
}

/// Whether plugins of the user's have run.
fn by_hand(view: &View, phase: Phase) -> bool {
    let ours = u64::from(matches!(phase, Phase::Done { .. }));
    let reloads: u64 = view.plugins.iter().map(|plugin| plugin.reloads).sum();
    phase == Phase::ByHand || reloads > ours
}

impl Stage {
    async fn open(
        cluster: &Cluster,
        pipeline: Pipeline,
        swap: Option<Swap>,
        mut place: Place,
        options: &Options,
    ) -> Result<Self, Problem> {
        let changes = Arc::<Changes>::default();
        let load = Load::new(cluster, Arc::clone(&changes)).await?;
        let tail = Tail::new();
        tokio::spawn(follow(tail.subscribe(), Arc::clone(&changes)));
        let console = match pipeline.console.listen {
            Some(address) => Some(console(address).await?),
            None => None,
        };
        place.console = console.as_ref().map(Console::address);
        let (stop, requested) = StopRequest::channel();
        let running = runtime::run(pipeline, RunOptions::default(), requested.clone(), tail.clone()).map_err(|b| *b)?;
        let status = Arc::new(Pipelines::of(std::slice::from_ref(&running)));
        if let Some(console) = console {
            let (status, mut requested) = (Arc::clone(&status), requested);
            let stopped = async move { requested.requested(Stop::Drain).await };
            tokio::spawn(console.serve(status, Arc::new(Registry::new()), tail, stopped));
        }
        let (load_stop, load_stopped) = watch::channel(false);
        Ok(Self {
            place,
            swap,
            status,
            changes,
            screen: Screen::open(options.quiet),
            rates: Rates::default(),
            begun: Instant::now(),
            stop,
            ended: Box::pin(running.ended()),
            load_stop,
            load: tokio::spawn(load.run(load_stopped)),
        })
    }

    /// Until the time is over or somebody interrupts.
    async fn perform(&mut self, seconds: Option<u64>, signals: &mut watch::Receiver<u32>) -> Result<(), Problem> {
        let length = seconds.map(Duration::from_secs);
        let swap_at = length.map_or(SWAP_AT, |length| length.mul_f64(0.4));
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                ended = &mut self.ended => return Err(too_early(ended)),
                load = &mut self.load => return Err(load_ended(load)),
                _ = signals.wait_for(|signals| *signals >= 1) => return Ok(()),
            }
            let elapsed = self.begun.elapsed();
            let view = self.draw()?;
            if let Some(swap) = &mut self.swap
                && swap.phase == Phase::First
                && elapsed >= swap_at
                && view.is_copied()
            {
                swap.begin(elapsed)?;
            }
            let waits = matches!(self.phase(), Phase::Waiting { .. });
            if length.is_some_and(|length| elapsed >= length + if waits { SWAP_PATIENCE } else { Duration::ZERO }) {
                return Ok(());
            }
        }
    }

    /// Ends the load, waits until all of it is durable at the sinks, ends the pipeline.
    async fn drain(&mut self, cluster: &Cluster) -> Result<(), Problem> {
        self.load_stop.send_replace(true);
        match (&mut self.load).await {
            Ok(Ok(())) => {}
            other => return Err(load_ended(other)),
        }
        let shop = shop::connect(cluster, shop::SHOP).await?;
        let row = shop.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await;
        let text: String = row.and_then(|row| row.try_get(0)).map_err(codes::sql)?;
        let goal = text.parse::<Lsn>().map_err(codes::sql)?;
        let patience = Instant::now() + REST_TIMEOUT;
        loop {
            let view = self.draw()?;
            if view.acknowledged >= goal.0 && view.is_copied() {
                break;
            }
            if Instant::now() > patience {
                let at = Lsn(view.acknowledged);
                return Err(codes::no_rest(format!(
                    "it is {}, acknowledged {at} of {goal}",
                    view.state
                )));
            }
            tokio::select! {
                () = tokio::time::sleep(DRAIN_TICK) => {}
                ended = &mut self.ended => return Err(too_early(ended)),
            }
        }
        self.stop.send_replace(Stop::Drain);
        (&mut self.ended).await.map(|_| ()).map_err(|problem| *problem)
    }

    fn draw(&mut self) -> Result<View, Problem> {
        let view = self.view();
        if let Some(swap) = &mut self.swap {
            swap.look(view.reloads(FIRST))?;
        }
        self.place.phase = self.phase();
        self.rates.add(&view);
        self.screen.draw(&self.place, self.begun.elapsed(), &view, &self.rates);
        Ok(view)
    }

    fn phase(&self) -> Phase {
        self.swap.as_ref().map_or(Phase::First, |swap| swap.phase)
    }

    fn view(&self) -> View {
        View::new(&self.status.status()["pipelines"][0], self.changes.seen())
    }
}

/// Rows as they leave.
async fn follow(mut rows: broadcast::Receiver<Arc<str>>, changes: Arc<Changes>) {
    loop {
        match rows.recv().await {
            Ok(line) => changes.left(&line),
            Err(broadcast::error::RecvError::Lagged(_)) => changes.missed(),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Where the pipeline wants it, or on any free port where another Rowmill has that.
async fn console(address: SocketAddr) -> Result<Console, Problem> {
    match Console::bind(address).await {
        Ok(console) => Ok(console),
        Err(_) => Console::bind(SocketAddr::new(address.ip(), 0)).await,
    }
}

fn too_early(ended: Result<Ended, Box<Problem>>) -> Problem {
    match ended {
        Ok(_) => codes::no_rest("the pipeline has ended by itself"),
        Err(problem) => *problem,
    }
}

fn load_ended(ended: Result<Result<(), Problem>, tokio::task::JoinError>) -> Problem {
    match ended {
        Ok(Err(problem)) => problem,
        Ok(Ok(())) => codes::stopped("the load has ended by itself"),
        Err(error) => codes::stopped(format!("the load: {error}")),
    }
}
