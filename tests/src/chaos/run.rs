//! Rounds until the time is over.

use super::act::{self, Hand, heal, lock};
use super::live::Yardstick;
use super::receiving::Receiving;
use super::schedule::Round;
use super::stage::Stage;
use crate::oracle::{
    Arrival, Change, Echo, Feed, Judge, Ledger, Outputs, Promise, Sampler, Scribe, Scribes, Table, Told,
};
use crate::{get, tag, wait_until};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Rule g, on a machine that does nothing else; one that does gets so many times as long as its work takes just then.
const LIVENESS: Duration = Duration::from_secs(5);
/// What was written meanwhile may take so long to arrive; beyond that it is lost.
const ARRIVAL: Duration = Duration::from_secs(120);
const WRITERS: u64 = 3;
const BETWEEN_TRANSACTIONS: Duration = Duration::from_millis(20);
/// Rows that are there before the start.
const COPIED: usize = 2_000;
const WAREHOUSE: usize = 0;
const FEED: usize = 1;
const ECHO: usize = 2;

/// What a run has come to.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub rounds: u64,
    /// Settings of the pipeline that follow from the seed.
    pub receiving: String,
    /// How often what was done.
    pub done: BTreeMap<String, u64>,
    pub changes: usize,
    pub forbidden: usize,
    /// Transactions.
    pub prepared: u64,
    pub arrivals: u64,
    pub samples: usize,
    /// From healing to a fresh row at all sinks.
    pub slowest: Duration,
    /// The same on a machine that does nothing else: by how slow it was meanwhile.
    pub slowest_alone: Duration,
    /// Changes that came once more to the sink that keeps no position.
    pub twice: u64,
    pub violations: Vec<String>,
}

impl Report {
    pub fn to_json(&self) -> Value {
        json!({
            "seed": self.seed,
            "rounds": self.rounds,
            "receiving": self.receiving,
            "done": self.done,
            "changes": self.changes,
            "forbidden": self.forbidden,
            "prepared": self.prepared,
            "arrivals": self.arrivals,
            "samples": self.samples,
            "twice": self.twice,
            "slowest_liveness_ms": self.slowest.as_millis() as u64,
            "slowest_liveness_alone_ms": self.slowest_alone.as_millis() as u64,
            "violations": self.violations,
        })
    }

    pub fn to_text(&self) -> String {
        let done: Vec<String> = self
            .done
            .iter()
            .map(|(what, times)| format!("{times} {what}"))
            .collect();
        let mut text = format!(
            "seed {} ({}): {} rounds, {}\n{} changes had to arrive, {} must not; {} transactions were prepared\n\
             {} arrivals, {} of them once more; {} samples of positions\n\
             a fresh row took {} ms at most, {} by what the machine could do just then\n{} violations",
            self.seed,
            self.receiving,
            self.rounds,
            done.join(", "),
            self.changes,
            self.forbidden,
            self.prepared,
            self.arrivals,
            self.twice,
            self.samples,
            self.slowest.as_millis(),
            self.slowest_alone.as_millis(),
            self.violations.len()
        );
        for violation in &self.violations {
            text.push_str(&format!("\n{violation}"));
        }
        text
    }
}

struct Trial {
    stage: Stage,
    ledger: Arc<Mutex<Ledger>>,
    judge: Judge,
    told: Told,
    feed: Feed,
    echo: Echo,
    outputs: Outputs,
    sampler: Sampler,
    hand: Hand,
    report: Report,
}

/// Runs the rounds of a seed for so long, at least one. The first violation ends it.
pub fn run(seed: u64, time: Duration, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let started = Instant::now();
    let mut trial = Trial::new(seed)?;
    say(&format!("seed {seed}: {}", trial.report.receiving));
    let scribes = Scribes::start(
        &trial.stage.source,
        &trial.ledger,
        WRITERS,
        BETWEEN_TRANSACTIONS,
        seed,
        true,
    );
    while trial.report.rounds == 0 || started.elapsed() < time {
        trial.round(&scribes, say)?;
        if !trial.judge.violations().is_empty() {
            trial.keep(say);
            break;
        }
    }
    drop(scribes);
    let Trial {
        judge,
        ledger,
        mut report,
        ..
    } = trial;
    let ledger = lock(&ledger);
    report.changes = ledger.obligations();
    report.forbidden = ledger.forbidden();
    report.prepared = ledger.prepared();
    report.arrivals = judge.arrivals();
    report.twice = judge.twice();
    report.violations = judge.violations().iter().map(ToString::to_string).collect();
    Ok(report)
}

impl Trial {
    fn new(seed: u64) -> Result<Self> {
        let mut stage = Stage::new(Receiving::of(seed))?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        lock(&ledger).tag(tag(0));
        Hand::new(Scribe::new(&stage.source, &ledger, 0, seed), seed)?.events(COPIED)?;
        let hand = Hand::new(Scribe::new(&stage.source, &ledger, 1, seed), seed)?;
        stage.start()?;
        let sinks = [
            ("warehouse", Promise::ExactlyOnce, false),
            ("feed", Promise::ExactlyOnce, true),
            ("echo", Promise::AtLeastOnce, true),
        ];
        Ok(Self {
            judge: Judge::new(&sinks),
            told: Told::default(),
            feed: Feed::new(&stage.feed()),
            echo: Echo::new(&stage.echo()),
            outputs: Outputs::new(stage.folder.path()),
            sampler: Sampler::start(&stage.source, &stage.target, &stage.feed(), &stage.echo()),
            report: Report {
                seed,
                receiving: stage.receiving.lines().split_whitespace().collect::<Vec<_>>().join(" "),
                ..Report::default()
            },
            stage,
            ledger,
            hand,
        })
    }

    /// Safety: faults under load. Then healing, liveness, and rest.
    fn round(&mut self, scribes: &Scribes, say: &mut dyn FnMut(&str)) -> Result<()> {
        let round = Round::of(self.report.seed, self.report.rounds);
        for step in &round.0 {
            say(&format!(
                "seed {} round {}: {step}",
                self.report.seed, self.report.rounds
            ));
            self.count(step);
            act::step(&mut self.stage, step, &self.ledger, &mut self.hand)?;
            self.must_run()?;
        }
        self.report.rounds += 1;
        heal(&mut self.stage)?;
        self.live(say)?;
        scribes.pause(true);
        wait_until("the writers rest", ARRIVAL, || Ok(scribes.rest()?.then_some(())))?;
        self.settle()?;
        scribes.pause(false);
        Ok(())
    }

    fn count(&mut self, step: &super::Step) {
        let words = [
            step.lasting.map(|lasting| format!("{:?}", lasting.0)),
            step.act.map(|act| format!("{act:?}")),
        ];
        for text in words.into_iter().flatten() {
            // Without figures and fields.
            let word: String = text.chars().take_while(|c| !c.is_ascii_digit() && *c != '{').collect();
            let word = word.trim_end_matches(|c: char| !c.is_alphabetic()).replace('(', " ");
            *self.report.done.entry(word).or_default() += 1;
        }
    }

    /// Rule i. Where it has ended it is started again, so that the rest can be seen.
    fn must_run(&mut self) -> Result<()> {
        let host = self.stage.host.as_mut().context("a process")?;
        if let Some(status) = host.ended()? {
            let log = host.log();
            let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            self.judge.broken('i', format!("the process ended: {status}\n{end}"));
            self.stage.start()?;
        }
        Ok(())
    }

    /// Rule g: a row that is written now passes soon.
    fn live(&mut self, say: &mut dyn FnMut(&str)) -> Result<()> {
        let (healed, yardstick) = (Instant::now(), Yardstick::start());
        let fresh = Change::event(self.hand.events(1)?);
        let is_live = wait_until("a fresh row", ARRIVAL, || {
            self.must_run()?;
            self.arrive()?;
            Ok(self.judge.is_everywhere(fresh).then_some(()))
        });
        let (took, slowness) = (healed.elapsed(), yardstick.slowness());
        self.report.slowest = self.report.slowest.max(took);
        self.report.slowest_alone = self.report.slowest_alone.max(took.div_f64(slowness));
        let what = format!(
            "a fresh row took {} ms, the machine {slowness:.1} times as long as alone",
            took.as_millis()
        );
        say(&what);
        if let Err(error) = is_live {
            self.judge.broken('g', format!("{error:#}"));
        } else if took > LIVENESS.mul_f64(slowness) {
            self.judge.broken('g', what);
        }
        Ok(())
    }

    /// Nobody writes any more: all that was committed arrives, and is judged.
    fn settle(&mut self) -> Result<()> {
        let waited = wait_until("everything arrives", ARRIVAL, || {
            self.must_run()?;
            self.arrive()?;
            Ok((self.judge.missing(&lock(&self.ledger)) == 0).then_some(()))
        });
        if let Err(error) = waited {
            self.judge.broken('a', format!("{error:#}"));
        }
        self.pass_all()?;
        self.arrive()?;
        self.shelves()?;
        let samples = self.sampler.take();
        self.report.samples += samples.len();
        let mut ledger = lock(&self.ledger);
        self.judge.settle(&mut ledger, &samples);
        self.judge.accounts(&ledger, &accounts(&self.stage)?);
        drop(ledger);
        self.judge.copied();
        self.look_at_outputs()
    }

    /// Waits until the session that runs has acknowledged all that there is: what would come twice has come then.
    fn pass_all(&mut self) -> Result<()> {
        let mark = self
            .stage
            .source
            .sql("source", "SELECT pg_logical_emit_message(false, 'chaos', 'mark')")?;
        let passed = format!("SELECT bool_and(confirmed_flush_lsn >= '{mark}') FROM pg_replication_slots");
        let waited = wait_until("everything is acknowledged", ARRIVAL, || {
            self.must_run()?;
            Ok((self.stage.source.sql("source", &passed)? == "t").then_some(()))
        });
        if let Err(error) = waited {
            self.judge.broken('g', format!("{error:#}"));
        }
        Ok(())
    }

    /// What was altered, emptied and added is the same everywhere: rule a. Tables that have come are copied first.
    fn shelves(&mut self) -> Result<()> {
        let waited = wait_until("the shelves are the same", ARRIVAL, || {
            self.must_run()?;
            self.arrive()?;
            let (source, target) = (&self.stage.source, &self.stage.target);
            match self.hand.shelves.difference(source, target, self.feed.shelves())? {
                Some(difference) => anyhow::bail!("{difference}"),
                None => Ok(Some(())),
            }
        });
        if let Err(error) = waited {
            self.judge.broken('a', format!("{error:#}"));
        }
        Ok(())
    }

    fn arrive(&mut self) -> Result<()> {
        // As text first: a line that can't be read is a violation, not an end of the run.
        let told = self.told.read(&self.stage.target)?;
        let (feed, echo) = (self.feed.read(), self.echo.read());
        // What has arrived may be of a transaction whose writer hasn't noted yet that it was committed.
        let ending = lock(&self.ledger).ending.clone();
        wait_until("the writers have noted their commits", ARRIVAL, || {
            Ok(lock(&self.ledger).ending.is_disjoint(&ending).then_some(()))
        })?;
        let ledger = lock(&self.ledger);
        self.judge.arrive(WAREHOUSE, &told, &ledger);
        for (sink, read) in [(FEED, feed), (ECHO, echo)] {
            match read {
                Ok(arrivals) => self.judge.arrive(sink, &arrivals, &ledger),
                Err(error) => self.judge.broken('c', format!("sink {sink}: {error:#}")),
            }
        }
        Ok(())
    }

    fn look_at_outputs(&mut self) -> Result<()> {
        for line in self.outputs.unexpected()? {
            self.judge.broken('h', line);
        }
        let mut pages = Vec::new();
        for path in ["/metrics", "/api/status", "/readyz"] {
            pages.push((path, get(self.stage.console, path)?.1));
        }
        let pid = self.stage.host.as_ref().context("a process")?.pid();
        pages.push((
            "the command line",
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?,
        ));
        for leak in self.outputs.leaks(&pages)? {
            self.judge.broken('h', leak);
        }
        Ok(())
    }

    /// For whoever looks for the cause.
    fn keep(&self, say: &mut dyn FnMut(&str)) {
        let copy = std::env::temp_dir().join(format!("rowmill-chaos-{}-log", self.report.seed));
        if std::fs::copy(self.stage.folder.path().join("log"), &copy).is_ok() {
            say(&format!("the log is kept as {}", copy.display()));
        }
    }
}

/// The accounts as the target has them.
fn accounts(stage: &Stage) -> Result<Vec<Arrival>> {
    let rows = stage
        .target
        .sql("target", "SELECT key, txn, seq, payload, email, tag FROM accounts")?;
    let of = |row: &str| {
        let cells: Vec<&str> = row.split('|').collect();
        let number = |at: usize| cells[at].parse::<u64>().context("a number");
        Ok(Arrival {
            table: Table::Accounts,
            key: number(0)?,
            transaction: number(1)?,
            number: number(2)?,
            is_delete: false,
            payload: cells[3].to_owned(),
            email: cells[4].to_owned(),
            tag: cells[5].to_owned(),
            at: 0,
            lsn: None,
            is_copy: true,
        })
    };
    rows.lines().map(of).collect()
}
