//! The lanes of a pipeline: several batches go through the plugins at the same time, and leave in the order in which
//! they came.
//!
//! ```text
//!            +--> lane 0 --+
//!   intake --+--> lane 1 --+--> outflow           the outflow takes the results in the order of the tickets
//!       \    +--> lane 2 --+      ^
//!        +------- tickets --------+
//! ```
//!
//! Each lane is a thread with its own instances of all plugins. What changes a lane (a new version of a chain) goes the
//! way of its batches, so it holds from the same batch on in every lane. With one lane there are no threads: the intake
//! does all of it, which is the fastest way for a row as long as one core carries the plugins.

use super::intake::LaneEnd;
use super::job::{Done, Job};
use super::lane::{Lane, LaneChain, Takeover};
use super::outflow::Outflow;
use super::probation::Warden;
use super::under_way::UnderWay;
use crate::checkpoint::Mark;
use crate::plugin::GuestMetrics;
use crate::problem::{Exit, Problem};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// What a lane is told.
pub(super) enum Order {
    Process(Box<Job>, SyncSender<Result<Done, Box<Problem>>>),
    /// Give it what the running version keeps, and back.
    Prepare(Box<Takeover>, SyncSender<Result<Box<Takeover>, Box<Problem>>>),
    TakeOver(Box<Takeover>),
    /// Time goes by.
    Tick,
}

/// What the outflow is told, in the order of the batches.
pub(super) enum Ticket {
    /// The batch comes from its lane, and had so many bytes.
    Batch(Receiver<Result<Done, Box<Problem>>>, usize),
    Marks(Vec<Mark>),
    /// What is in front of it has reached the end: this is let go of.
    Reached(Sender<Infallible>),
}

pub(super) enum Lanes {
    Inline {
        lane: Box<Lane>,
        outflow: Outflow,
    },
    Threads {
        lanes: Vec<(Sender<Order>, JoinHandle<()>)>,
        tickets: Sender<Ticket>,
        under_way: Arc<UnderWay>,
        outflow: JoinHandle<Result<(), LaneEnd>>,
        next: usize,
    },
}

impl Lanes {
    /// `chains[lane][route]`
    pub(super) fn new(
        chains: Vec<Vec<LaneChain>>,
        metrics: &Arc<GuestMetrics>,
        warden: &Arc<Warden>,
        outflow: Outflow,
    ) -> Result<Self, LaneEnd> {
        let count = chains.len();
        let letters = outflow.lane_letters();
        let lane = |routes| Lane::new(routes, Arc::clone(metrics), Arc::clone(warden)).with_letters(letters.clone());
        let mut lanes = chains.into_iter().map(lane);
        if count <= 1 {
            let lane = lanes.next().unwrap_or_else(|| lane(Vec::new()));
            let lane = Box::new(lane);
            return Ok(Self::Inline { lane, outflow });
        }
        let (tickets, taken) = mpsc::channel();
        let under_way = Arc::new(UnderWay::new(count));
        let ending = Arc::clone(&under_way);
        let outflow = spawn("outflow", move || deliver(outflow, &taken, &Closing(ending)))?;
        let lanes = lanes.enumerate().map(|(at, lane)| {
            let (orders, taken) = mpsc::channel();
            Ok((orders, spawn(&format!("lane-{at}"), move || work(lane, &taken))?))
        });
        Ok(Self::Threads {
            lanes: lanes.collect::<Result<_, LaneEnd>>()?,
            tickets,
            under_way,
            outflow,
            next: 0,
        })
    }

    /// Takes a batch through the chains and on to the sinks. `pinned` keeps it in the first lane.
    pub(super) fn process(&mut self, job: Job, pinned: bool) -> Result<(), LaneEnd> {
        match self {
            Self::Inline { lane, outflow } => {
                let done = lane.process(job).map_err(LaneEnd::Problem)?;
                outflow.deliver(done)
            }
            Self::Threads {
                lanes,
                tickets,
                under_way,
                next,
                ..
            } => {
                *next = (*next + 1) % lanes.len();
                let lane = if pinned { 0 } else { *next };
                let (done, result) = mpsc::sync_channel(1);
                let gone = |_| LaneEnd::SinkGone;
                let bytes = job.batch.size_bytes();
                if !under_way.begin(bytes) {
                    return Err(LaneEnd::SinkGone);
                }
                tickets.send(Ticket::Batch(result, bytes)).map_err(gone)?;
                let order = Order::Process(Box::new(job), done);
                lanes[lane].0.send(order).map_err(|_| LaneEnd::SinkGone)
            }
        }
    }

    pub(super) fn are_several(&self) -> bool {
        matches!(self, Self::Threads { .. })
    }

    /// Marks without a batch, to be stored behind what was sent before.
    pub(super) fn mark(&mut self, marks: Vec<Mark>) -> Result<(), LaneEnd> {
        match self {
            Self::Inline { outflow, .. } => outflow.mark(marks),
            Self::Threads { tickets, .. } => {
                return tickets.send(Ticket::Marks(marks)).map_err(|_| LaneEnd::SinkGone);
            }
        }
        Ok(())
    }

    /// Until all batches so far have reached the outflow's end: what was set aside of them is written.
    pub(super) fn settle(&mut self) -> Result<(), LaneEnd> {
        if let Self::Threads { tickets, .. } = self {
            let (reached, told) = mpsc::channel();
            let gone = |_| LaneEnd::SinkGone;
            tickets.send(Ticket::Reached(reached)).map_err(gone)?;
            // Nothing is ever said. Where the outflow has gone, the next batch meets that.
            let _ = told.recv();
        }
        Ok(())
    }

    /// Gives the first lane's version what the running one keeps, behind all batches so far. Where it doesn't take it,
    /// nothing has changed.
    pub(super) fn prepare(&mut self, mut takeover: Takeover) -> Result<Result<Takeover, Box<Problem>>, LaneEnd> {
        match self {
            Self::Inline { lane, .. } => Ok(lane.prepare(&mut takeover).map(|()| takeover)),
            Self::Threads { lanes, .. } => {
                let (send, prepared) = mpsc::sync_channel(1);
                let order = Order::Prepare(Box::new(takeover), send);
                lanes[0].0.send(order).map_err(|_| LaneEnd::SinkGone)?;
                let prepared = prepared.recv().map_err(|_| LaneEnd::SinkGone)?;
                Ok(prepared.map(|takeover| *takeover))
            }
        }
    }

    /// Lets the first lane look at the clock.
    pub(super) fn tick(&mut self) -> Result<(), LaneEnd> {
        match self {
            Self::Inline { lane, .. } => lane.tick().map_err(LaneEnd::Problem),
            Self::Threads { lanes, .. } => lanes[0].0.send(Order::Tick).map_err(|_| LaneEnd::SinkGone),
        }
    }

    /// A new version for these lanes, from the next batch on.
    pub(super) fn take_over(&mut self, takeovers: impl IntoIterator<Item = (usize, Takeover)>) {
        match self {
            Self::Inline { lane, .. } => {
                let own = takeovers.into_iter().filter(|(at, _)| *at == 0);
                own.for_each(|(_, takeover)| lane.take_over(takeover));
            }
            Self::Threads { lanes, .. } => {
                for (at, takeover) in takeovers {
                    // A lane that has gone is noticed with its next batch.
                    if let Some((orders, _)) = lanes.get(at) {
                        let _ = orders.send(Order::TakeOver(Box::new(takeover)));
                    }
                }
            }
        }
    }

    /// Lets everything under way reach the sinks' queues. The outflow's own reason counts before the intake's.
    pub(super) fn finish(self, end: LaneEnd) -> LaneEnd {
        let Self::Threads {
            lanes,
            tickets,
            outflow,
            ..
        } = self
        else {
            return end;
        };
        drop(tickets);
        let (orders, lanes): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
        drop(orders);
        let ended = join(outflow);
        lanes.into_iter().for_each(join);
        match ended {
            Err(LaneEnd::Problem(problem)) => LaneEnd::Problem(problem),
            Err(other) if !matches!(end, LaneEnd::Problem(_)) => other,
            _ => end,
        }
    }
}

fn work(mut lane: Lane, orders: &Receiver<Order>) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::TakeOver(takeover) => lane.take_over(*takeover),
            Order::Tick => {
                // What can't be written down now is tried again with the next look.
                if let Err(problem) = lane.tick() {
                    tracing::warn!(code = problem.code, "{}", problem.headline);
                }
            }
            Order::Prepare(mut takeover, prepared) => {
                let result = lane.prepare(&mut takeover);
                // Where the intake has gone, nobody needs it.
                let _ = prepared.send(result.map(|()| takeover));
            }
            Order::Process(job, done) => {
                let result = lane.process(*job);
                let failed = result.is_err();
                // Where the outflow has gone, nobody needs it.
                let _ = done.send(result);
                if failed {
                    return;
                }
            }
        }
    }
}

/// Tells the intake, should it wait, that the outflow has ended.
struct Closing(Arc<UnderWay>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn deliver(mut outflow: Outflow, tickets: &Receiver<Ticket>, closing: &Closing) -> Result<(), LaneEnd> {
    while let Ok(ticket) = tickets.recv() {
        match ticket {
            Ticket::Marks(marks) => outflow.mark(marks),
            Ticket::Reached(reached) => drop(reached),
            Ticket::Batch(result, bytes) => {
                // A lane that has panicked: joining it says so.
                let done = result.recv().map_err(|_| LaneEnd::SinkGone)?;
                outflow.deliver(done.map_err(LaneEnd::Problem)?)?;
                closing.0.end(bytes);
            }
        }
    }
    Ok(())
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, LaneEnd> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(|error| {
        let help = "raise the limit of threads: `ulimit -u`";
        let problem = Problem::new("E0705", Exit::Usage, "a thread for the plugins can't be started", help);
        LaneEnd::Problem(Box::new(problem.with_cause(error)))
    })
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
