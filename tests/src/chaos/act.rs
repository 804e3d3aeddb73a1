//! Does what the schedule says.

use super::schedule::{Act, Lasting, Step};
use super::shelves::Shelves;
use super::stage::Stage;
use crate::oracle::{Ledger, Scribe};
use crate::{Fault, get, wait_until};
use anyhow::{Context, Result, ensure};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// How long a server or the process may take to start or to end.
const CHANGE: Duration = Duration::from_secs(60);
/// How long a version that breaks or can't run stays in place: it is looked at after 20 ms.
const IN_PLACE: Duration = Duration::from_millis(700);
/// As `drain_timeout` ends: everything is delivered, or the rest is sent again by the next start.
const DRAINED: [Option<i32>; 2] = [Some(0), Some(143)];

pub(super) fn step(stage: &mut Stage, step: &Step, ledger: &Arc<Mutex<Ledger>>, hand: &mut Hand) -> Result<()> {
    sleep(step.pause);
    lock(ledger).fault();
    let Some((lasting, hold)) = step.lasting else {
        return step.act.map_or(Ok(()), |what| act(stage, what, ledger, hand));
    };
    begin(stage, lasting)?;
    sleep(hold / 2);
    if let Some(what) = step.act {
        act(stage, what, ledger, hand)?;
    }
    sleep(hold / 2);
    end(stage, lasting)
}

/// Ends everything that lasts. What runs goes on, what doesn't is started.
pub(super) fn heal(stage: &mut Stage) -> Result<()> {
    stage.source_net.set(Fault::Pass);
    stage.target_net.set(Fault::Pass);
    stage.disk.as_ref().map_or(Ok(()), crate::SmallDisk::free)
}

fn begin(stage: &Stage, lasting: Lasting) -> Result<()> {
    match lasting {
        Lasting::SourceNet(fault) => stage.source_net.set(fault),
        Lasting::TargetNet(fault) => stage.target_net.set(fault),
        Lasting::HostStopped => signal(stage, libc::SIGSTOP)?,
        Lasting::SourceDown => stage.source.stop_server("immediate")?,
        Lasting::TargetDown => stage.target.stop_server("immediate")?,
        Lasting::DiskFull => {
            answers(stage)?;
            stage.disk.as_ref().map_or(Ok(()), crate::SmallDisk::fill)?;
        }
    }
    Ok(())
}

fn end(stage: &Stage, lasting: Lasting) -> Result<()> {
    match lasting {
        Lasting::SourceNet(_) => stage.source_net.set(Fault::Pass),
        Lasting::TargetNet(_) => stage.target_net.set(Fault::Pass),
        Lasting::HostStopped => signal(stage, libc::SIGCONT)?,
        Lasting::SourceDown => started(&stage.source)?,
        Lasting::TargetDown => started(&stage.target)?,
        Lasting::DiskFull => stage.disk.as_ref().map_or(Ok(()), crate::SmallDisk::free)?,
    }
    Ok(())
}

/// A start with a full disk, or with garbage for a plugin, is refused, as it has to be; what is meant is a process at
/// work. Where it answers it has taken its plugins in.
fn answers(stage: &Stage) -> Result<()> {
    wait_until("the process answers", CHANGE, || {
        Ok((get(stage.console, "/healthz")?.0 == 200).then_some(()))
    })
}

fn signal(stage: &Stage, signal: i32) -> Result<()> {
    stage.host.as_ref().context("a process")?.signal(signal)
}

fn started(cluster: &crate::Cluster) -> Result<()> {
    wait_until("the server is back", CHANGE, || cluster.start_server().map(Some))
}

fn act(stage: &mut Stage, act: Act, ledger: &Arc<Mutex<Ledger>>, hand: &mut Hand) -> Result<()> {
    const WALSENDERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    const SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = 'target' AND pid <> pg_backend_pid()";
    let mode = |immediate| if immediate { "immediate" } else { "fast" };
    match act {
        Act::Kill => {
            stage.host.take().context("a process")?.kill()?;
            stage.start()?;
        }
        Act::Terminate => {
            answers(stage)?;
            let mut host = stage.host.take().context("a process")?;
            host.signal(libc::SIGTERM)?;
            let status = host.wait(CHANGE)?;
            ensure!(DRAINED.contains(&status.code()), "SIGTERM: {status}");
            stage.start()?;
        }
        Act::WalsendersTerminated => drop(stage.source.sql("source", WALSENDERS)?),
        Act::TargetSessionsTerminated => drop(stage.target.sql("target", SESSIONS)?),
        Act::SourceRestart { immediate } => {
            stage.source.stop_server(mode(immediate))?;
            started(&stage.source)?;
        }
        Act::TargetRestart { immediate } => {
            stage.target.stop_server(mode(immediate))?;
            started(&stage.target)?;
        }
        Act::ReloadGood => good(stage, ledger)?,
        Act::ReloadBreaking => {
            answers(stage)?;
            let tag = stage.install_breaking()?;
            lock(ledger).tag(tag);
            sleep(IN_PLACE);
            good(stage, ledger)?;
        }
        Act::ReloadGarbage => {
            answers(stage)?;
            stage.install_garbage()?;
            sleep(IN_PLACE);
            good(stage, ledger)?;
        }
        Act::LargeTransaction { rows } => drop(hand.events(rows)?),
        Act::ColumnAdded { table } => hand.shelves.add_column(&stage.source, table, true)?,
        Act::ColumnDropped { table } => hand.shelves.drop_column(&stage.source, table)?,
        Act::ColumnRenamed { table } => hand.shelves.rename_column(&stage.source, table)?,
        Act::AlterRolledBack { table } => hand.shelves.add_column(&stage.source, table, false)?,
        Act::Emptied => hand.shelves.empty(&stage.source)?,
        Act::TableAdded { by_hand } => hand.shelves.add_table(&stage.source, by_hand)?,
    }
    Ok(())
}

fn good(stage: &mut Stage, ledger: &Arc<Mutex<Ledger>>) -> Result<()> {
    // Known before any row can have it.
    lock(ledger).tag(crate::tag(stage.version + 1));
    stage.install_good().map(drop)
}

pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer that is told what to write.
pub(super) struct Hand {
    runtime: tokio::runtime::Runtime,
    scribe: Scribe,
    pub shelves: Shelves,
}

impl Hand {
    pub fn new(scribe: Scribe, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            scribe,
            shelves: Shelves::new(seed),
        })
    }

    /// One transaction of so many rows; returns the number of the first.
    pub fn events(&mut self, rows: usize) -> Result<u64> {
        self.runtime.block_on(self.scribe.events(rows))
    }
}
