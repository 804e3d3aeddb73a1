use super::*;
use crate::batch::Part;
use crate::sink::testing::{Builder, COMMIT_BYTES, context, orders, text};
use crate::sink::{Known, SinkFuture, Standing};
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot};

mod stopped;

/// What the double does with its next write.
enum Step {
    /// Refuses before anything has happened.
    Reject,
    /// Takes the rows, commits them, and fails: the reply is lost.
    FailAfterWrite,
    /// Waits for a word before it takes the rows.
    Hold(oneshot::Receiver<()>),
    Definite,
    /// Commits what came before, and refuses the rest.
    DefiniteBehind,
    Row(usize),
}

/// A target that keeps transactions as they come: each is a list of ids, visible once its last part is flushed.
#[derive(Default)]
struct Target {
    committed: Vec<String>,
    position: Lsn,
    opened: usize,
}

struct Double {
    target: Arc<Mutex<Target>>,
    knows_position: bool,
    steps: VecDeque<Step>,
    open: Vec<String>,
    open_position: Lsn,
    complete: u64,
    inside: bool,
    durable: u64,
    /// What it says of that when it is asked.
    told: u64,
    events: mpsc::UnboundedSender<u64>,
}

impl Double {
    fn commit(&mut self) -> u64 {
        if !self.inside {
            let mut target = self.target.lock().unwrap();
            target.committed.append(&mut self.open);
            target.position = target.position.max(self.open_position);
            self.durable = self.complete;
        }
        self.durable
    }

    fn take(&mut self, delivery: &Delivery) {
        for (transaction, rows) in delivery.transactions() {
            for row in rows {
                self.open.push(format!("{}:{}", transaction.commit_lsn, row.ordinal));
            }
            self.inside = !transaction.is_complete();
            self.open_position = self.open_position.max(transaction.end_lsn);
        }
        if !self.inside {
            self.complete = delivery.sequence;
        }
    }
}

impl Sink for Double {
    fn open<'a>(&'a mut self, context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        Box::pin(async move {
            self.open.clear();
            self.inside = false;
            let mut target = self.target.lock().unwrap();
            target.opened += 1;
            if self.knows_position {
                context
                    .known
                    .opened(&context.sink, Standing::At(target.position).into())?;
            }
            Ok(self.knows_position.then_some(target.position))
        })
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        Box::pin(async move {
            let _ = self.events.send(delivery.sequence);
            let lost = || SinkError::Transient(anyhow::anyhow!("connection lost"));
            match self.steps.pop_front() {
                Some(Step::Reject) => return Err(lost()),
                Some(Step::FailAfterWrite) => {
                    self.take(delivery);
                    self.commit();
                    return Err(lost());
                }
                Some(Step::Hold(word)) => {
                    let _ = word.await;
                }
                Some(Step::Definite) => return Err(Problem::new("E0424", Exit::Sink, "no", "yes").into()),
                Some(Step::DefiniteBehind) => {
                    self.told = self.commit();
                    return Err(Problem::new("E0410", Exit::Sink, "no", "yes").into());
                }
                Some(Step::Row(row)) => {
                    let error = anyhow::anyhow!("too long");
                    return Err(SinkError::Row { row, error });
                }
                None => {}
            }
            self.take(delivery);
            Ok(Progress::Accepted)
        })
    }

    /// What a call has told that has failed, and no other.
    #[expect(clippy::misnamed_getters)]
    fn durable(&self) -> u64 {
        self.told
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(async { Ok(self.commit()) })
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async {
            self.commit();
            Ok(())
        })
    }
}

struct Bench {
    handle: SinkHandle,
    target: Arc<Mutex<Target>>,
    durable: mpsc::UnboundedReceiver<u64>,
    writes: mpsc::UnboundedReceiver<u64>,
    outcome: tokio::task::JoinHandle<Outcome>,
    /// How many writes there were when it was found on the source's timeline.
    settled: mpsc::UnboundedReceiver<usize>,
}

fn start(steps: impl IntoIterator<Item = Step>, knows_position: bool, bound: u64, position: u64) -> Bench {
    start_before(steps, knows_position, bound, position, Lsn(u64::MAX))
}

/// Where the source's WAL ends at `end`.
fn start_before(
    steps: impl IntoIterator<Item = Step>,
    knows_position: bool,
    bound: u64,
    position: u64,
    end: Lsn,
) -> Bench {
    start_in(context("double"), steps, knows_position, bound, position, end)
}

fn start_in(
    context: SinkContext,
    steps: impl IntoIterator<Item = Step>,
    knows_position: bool,
    bound: u64,
    position: u64,
    end: Lsn,
) -> Bench {
    let target = Arc::new(Mutex::new(Target {
        position: Lsn(position),
        ..Target::default()
    }));
    let (events, writes) = mpsc::unbounded_channel();
    let (report, durable) = mpsc::unbounded_channel();
    let (tell, settled) = mpsc::unbounded_channel();
    let double = Double {
        target: Arc::clone(&target),
        knows_position,
        steps: steps.into_iter().collect(),
        open: Vec::new(),
        open_position: Lsn(0),
        complete: 0,
        inside: false,
        durable: 0,
        told: 0,
        events,
    };
    let hour = Duration::from_secs(3600);
    let (handle, mut driver) = Driver::new(Box::new(double), context, ByteSize(bound), hour, move |to| {
        let _ = report.send(to);
    });
    driver.backoff = Backoff::starting_with(Duration::from_millis(1));
    let of_target = Arc::clone(&target);
    let driver = driver.with_server_end(end).with_parting(move || {
        let _ = tell.send(of_target.lock().unwrap().committed.len());
        Ok(())
    });
    let outcome = tokio::spawn(driver.run());
    Bench {
        handle,
        target,
        durable,
        writes,
        outcome,
        settled,
    }
}

fn delivery(sequence: u64, commit_lsn: u64, part: Part) -> Delivery {
    Builder::new()
        .transaction(commit_lsn, part)
        .insert(&orders(), &[text("1"), text("a"), text("2")])
        .delivery(sequence)
}

async fn send(handle: &SinkHandle, delivery: Delivery) {
    let handle = handle.clone();
    tokio::task::spawn_blocking(move || handle.send(delivery))
        .await
        .unwrap()
        .unwrap();
}

fn committed(bench: &Bench) -> Vec<String> {
    committed_of(&bench.target)
}

fn committed_of(target: &Mutex<Target>) -> Vec<String> {
    target.lock().unwrap().committed.clone()
}

#[tokio::test]
async fn an_idle_sink_is_durable_at_once() {
    let mut bench = start([], false, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    send(&bench.handle, delivery(3, 0x20, Part::Whole)).await;
    assert_eq!(bench.durable.recv().await, Some(3));
    bench.handle.close();
    assert!(matches!(bench.outcome.await.unwrap(), Outcome::Done));
    assert_eq!(bench.handle.state(), SinkState::Ended);
    assert_eq!(bench.handle.rows_delivered(), 2);
}

#[tokio::test]
async fn what_failed_is_sent_again() {
    let mut bench = start([Step::Reject, Step::Reject], false, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    assert_eq!(committed(&bench), ["0/10:0"]);
    assert_eq!(bench.handle.retries(), 2);
}

#[tokio::test]
async fn a_lost_reply_doubles_nothing_where_the_target_knows_its_position() {
    for (knows, expected) in [(true, &["0/10:0"][..]), (false, &["0/10:0", "0/10:0"][..])] {
        let mut bench = start([Step::FailAfterWrite], knows, 1 << 20, 0);
        send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
        assert_eq!(bench.durable.recv().await, Some(1));
        assert_eq!(committed(&bench), expected);
    }
}

#[tokio::test]
async fn rows_that_the_target_has_are_not_sent() {
    let mut bench = start([], true, 1 << 20, 0x10 + COMMIT_BYTES);
    let known_and_new = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&orders(), &[text("1"), text("a"), text("2")])
        .transaction(0x18, Part::Whole)
        .insert(&orders(), &[text("2"), text("a"), text("2")])
        .copy(0x10, 1)
        .row(
            crate::batch::Op::Read,
            &orders(),
            Some(&[text("3"), text("a"), text("2")]),
            None,
        );
    send(&bench.handle, known_and_new.delivery(1)).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    assert_eq!(committed(&bench), ["0/18:0", "0/10:0"]);
}

#[tokio::test]
async fn a_sink_beyond_the_servers_wal_is_refused_and_one_that_comes_there_isnt() {
    let bench = start_before([], true, 1 << 20, 0x21, Lsn(0x20));
    let Outcome::Stopped(problem) = bench.outcome.await.unwrap() else {
        panic!("it would drop what commits below its position")
    };
    assert_eq!(problem.code, "E0512");
    assert_eq!(problem.headline, "sink double is at 0/21, beyond the server's WAL");

    // What it gets moves it on, and opening it again is no reason to stop.
    let mut bench = start_before([Step::FailAfterWrite], true, 1 << 20, 0x20, Lsn(0x20));
    send(&bench.handle, delivery(1, 0x30, Part::Whole)).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    assert_eq!(bench.target.lock().unwrap().opened, 2);
    assert_eq!(committed(&bench), ["0/30:0"]);
}

#[tokio::test]
async fn a_sink_is_on_the_timeline_before_it_gets_anything() {
    let parted_at = |at, position| {
        let mut context = context("double");
        context.known = Arc::new(Known::new(None, Lsn(0)).parted(Some(Lsn(at))));
        start_in(context, [Step::FailAfterWrite], true, 1 << 20, position, Lsn(u64::MAX))
    };
    let mut bench = parted_at(0x20, 0x21);
    let Outcome::Stopped(problem) = bench.outcome.await.unwrap() else {
        panic!("it would drop what commits below its position")
    };
    assert_eq!(problem.code, "E0517");
    assert_eq!(bench.settled.try_recv().ok(), None);

    // What it gets moves it on, and opening it again is no reason to stop.
    let mut bench = parted_at(0x20, 0x20);
    assert_eq!(bench.settled.recv().await, Some(0), "nothing was written before");
    send(&bench.handle, delivery(1, 0x30, Part::Whole)).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    assert_eq!(bench.target.lock().unwrap().opened, 2);
    assert_eq!(committed(&bench), ["0/30:0"]);
    assert_eq!(bench.settled.try_recv().ok(), None, "once");
}

#[tokio::test]
async fn changes_that_waited_for_a_copy_are_not_taken_for_known_ones() {
    let mut bench = start([], true, 1 << 20, 0x20);
    let mut waited = delivery(1, 0x10, Part::Whole);
    Arc::get_mut(&mut waited.batch).unwrap().transactions[0].end_lsn = Lsn(0);
    send(&bench.handle, waited).await;
    assert_eq!(bench.durable.recv().await, Some(1));
    assert_eq!(committed(&bench), ["0/10:0"]);
}

#[tokio::test]
async fn a_failure_in_an_open_transaction_sends_its_parts_again() {
    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold)], true, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::First)).await;
    send(&bench.handle, delivery(2, 0x10, Part::Last)).await;
    go.send(()).unwrap();
    assert_eq!(bench.durable.recv().await, Some(2));
    assert_eq!(committed(&bench), ["0/10:0", "0/10:0"]);

    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold), Step::Reject], true, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::First)).await;
    send(&bench.handle, delivery(2, 0x10, Part::Last)).await;
    go.send(()).unwrap();
    assert_eq!(bench.durable.recv().await, Some(2));
    assert_eq!(committed(&bench), ["0/10:0", "0/10:0"]);
    assert_eq!(bench.target.lock().unwrap().opened, 2);
}

#[tokio::test]
async fn a_transaction_too_large_to_retain_rewinds_on_failure() {
    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold)], true, 1, 0);
    send(&bench.handle, delivery(1, 0x10, Part::First)).await;
    go.send(()).unwrap();
    send(&bench.handle, delivery(2, 0x10, Part::Last)).await;
    assert_eq!(bench.durable.recv().await, Some(2));
    bench.handle.close();
    assert!(matches!(bench.outcome.await.unwrap(), Outcome::Done));

    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold), Step::Reject], true, 1, 0);
    send(&bench.handle, delivery(1, 0x10, Part::First)).await;
    go.send(()).unwrap();
    send(&bench.handle, delivery(2, 0x10, Part::Last)).await;
    assert!(matches!((&mut bench.outcome).await.unwrap(), Outcome::Rewind(_)));
    assert_eq!(committed(&bench), [""; 0]);
    assert_eq!(bench.handle.send(delivery(3, 0x20, Part::Whole)), Err(Closed));
}

#[tokio::test]
async fn a_target_that_goes_back_within_a_session_rewinds_it() {
    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold), Step::Reject], true, 1 << 20, 0x20);
    send(&bench.handle, delivery(1, 0x30, Part::Whole)).await;
    go.send(()).unwrap();
    assert_eq!(bench.durable.recv().await, Some(1));
    // What it loses is durable by its word, and in no memory any more.
    bench.target.lock().unwrap().position = Lsn(0x10);
    send(&bench.handle, delivery(2, 0x40, Part::Whole)).await;
    assert!(matches!((&mut bench.outcome).await.unwrap(), Outcome::Rewind(_)));
}

#[tokio::test]
async fn a_full_queue_holds_the_sender_and_an_ended_driver_frees_it() {
    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold), Step::Definite], false, 1, 0);
    send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
    assert_eq!(bench.writes.recv().await, Some(1));
    // Larger than the bound, taken since the queue is empty.
    send(&bench.handle, delivery(2, 0x20, Part::Whole)).await;
    assert!(bench.handle.is_full());
    let handle = bench.handle.clone();
    let third = std::thread::spawn(move || {
        let _ = handle.send(delivery(3, 0x30, Part::Whole));
        handle.send(delivery(4, 0x40, Part::Whole))
    });
    go.send(()).unwrap();
    let outcome = bench.outcome.await.unwrap();
    assert!(matches!(outcome, Outcome::Stopped(problem) if problem.code == "E0424"));
    assert_eq!(third.join().unwrap(), Err(Closed));
}
