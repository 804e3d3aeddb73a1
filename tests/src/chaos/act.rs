//! Does what the schedule says.

use super::schedule::{Act, Lasting, Step};
use super::shelves::Shelves;
use super::stage::Stage;
use crate::oracle::{Ledger, Scribe};
use crate::{Fault, MemoryGroup, POINTS, get, wait_until};
use anyhow::{Context, Result, ensure};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// How long a server or the process may take to start or to end.
const CHANGE: Duration = Duration::from_secs(60);
/// How long a version that breaks or can't run stays in place: it is looked at after 20 ms.
const IN_PLACE: Duration = Duration::from_millis(700);
/// Rows that take more memory than there is.
const LARGE: usize = 3_000;
/// How long a process may take to a point of the flow, or beyond its memory; then it is killed.
const TO_ITS_END: Duration = Duration::from_secs(4);
/// What a process may take beyond what it has, before it is out of memory.
const MORE_BYTES: u64 = 4 << 20;
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
    if let Some(clock) = &stage.clock {
        clock.set(0)?;
    }
    let Some([state, output]) = &stage.disks else {
        return Ok(());
    };
    output.grow()?;
    state.free()
}

fn begin(stage: &mut Stage, lasting: Lasting) -> Result<()> {
    match lasting {
        Lasting::SourceNet(fault) => stage.source_net.set(fault),
        Lasting::TargetNet(fault) => stage.target_net.set(fault),
        Lasting::HostStopped => signal(stage, libc::SIGSTOP)?,
        Lasting::SourceDown => stage.source.stop_server("immediate")?,
        Lasting::TargetDown => stage.target.stop_server("immediate")?,
        Lasting::DiskFull => {
            answers(stage)?;
            if let Some([state, _]) = &stage.disks {
                state.fill()?;
            }
        }
        Lasting::OutputFull => {
            if let Some([_, output]) = &stage.disks {
                output.shrink()?;
            }
        }
        Lasting::TargetLocked => {
            // It ends with its connection, long after what it is held for.
            let lock = "BEGIN; LOCK TABLE events, accounts; SELECT pg_sleep(60)";
            stage.locker = Some(stage.target.start_sql("target", lock)?);
        }
    }
    Ok(())
}

fn end(stage: &mut Stage, lasting: Lasting) -> Result<()> {
    match lasting {
        Lasting::SourceNet(_) => stage.source_net.set(Fault::Pass),
        Lasting::TargetNet(_) => stage.target_net.set(Fault::Pass),
        Lasting::HostStopped => signal(stage, libc::SIGCONT)?,
        Lasting::SourceDown => started(&stage.source)?,
        Lasting::TargetDown => started(&stage.target)?,
        Lasting::DiskFull => {
            if let Some([state, _]) = &stage.disks {
                state.free()?;
            }
        }
        Lasting::OutputFull => {
            if let Some([_, output]) = &stage.disks {
                output.grow()?;
            }
        }
        Lasting::TargetLocked => {
            const CANCEL: &str =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'
                 AND pid <> pg_backend_pid()";
            let mut locker = stage.locker.take().context("a lock")?;
            // Where it waits for the lock still, it is found by its query too.
            wait_until("the lock is let go", CHANGE, || {
                stage.target.sql("target", CANCEL)?;
                Ok(locker.try_wait()?)
            })?;
        }
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
        Act::KillAt { point, hit } => {
            stage.host.take().context("a process")?.kill()?;
            stage.start_to(POINTS[point], hit)?;
            ends_by_itself(stage, libc::SIGABRT)?;
            stage.start()?;
        }
        Act::OutOfMemory => {
            let pid = stage.host.as_ref().context("a process")?.pid();
            let group = MemoryGroup::new(&format!("rowmill-chaos-{pid}"), MORE_BYTES);
            let group = group.and_then(|group| group.take(pid).map(|()| group));
            if let Err(error) = &group {
                println!("no bound of memory: {error}");
            }
            hand.events(LARGE)?;
            ends_by_itself(stage, libc::SIGKILL)?;
            drop(group);
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
        Act::PluginDeleted => {
            answers(stage)?;
            stage.delete_module()?;
            sleep(IN_PLACE);
            good(stage, ledger)?;
        }
        Act::PluginCorrupted { byte } => {
            answers(stage)?;
            stage.corrupt_module(byte)?;
            sleep(IN_PLACE);
            good(stage, ledger)?;
        }
        Act::PluginCut { part } => {
            answers(stage)?;
            stage.cut_module(part)?;
            sleep(IN_PLACE);
            good(stage, ledger)?;
        }
        Act::ConfigGood => {
            answers(stage)?;
            stage.edition += 1;
            stage.write_pipeline()?;
            signal(stage, libc::SIGHUP)?;
        }
        Act::ConfigBad => {
            answers(stage)?;
            stage.write_no_pipeline()?;
            signal(stage, libc::SIGHUP)?;
            sleep(IN_PLACE);
            stage.write_pipeline()?;
        }
        Act::ClockSet { seconds } => {
            if let Some(clock) = &stage.clock {
                clock.set(seconds)?;
            }
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

/// By this signal, soon; a process that doesn't is killed.
fn ends_by_itself(stage: &mut Stage, signal: i32) -> Result<()> {
    let mut host = stage.host.take().context("a process")?;
    match host.wait(TO_ITS_END) {
        Ok(status) => ensure!(status.signal() == Some(signal), "not by signal {signal}: {status}"),
        Err(_) => host.kill()?,
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
