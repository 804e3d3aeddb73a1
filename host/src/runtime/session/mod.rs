//! One session: from connecting to the source to the last thing that became durable.

mod end;
mod launch;

pub(super) use end::SessionEnd;

use super::assembly::{self, Assembly};
use super::copies;
use super::live_copies::Joining;
use super::process::Process;
use super::receive::{Onward, ReceiveEnd, Until, receive};
use super::source::{NotReady, prepare, query};
use super::stop::{Stop, StopRequest};
use super::supervise::RunOptions;
use super::{failure::unavailable, heartbeat, partitions, types, wal_pressure};
use crate::batch::Lsn;
use crate::decode::Decoder;
use crate::problem::Problem;
use crate::source::catalog::Catalog;
use crate::source::monitor;
use crate::source::replication::ProtocolOptions;
use crate::source::slot;
use end::{WoundDown, conclude, wind_down};
use launch::launch;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Copies that wait to be passed on: hardly ever one, and beyond it another session begins.
const JOINS: usize = 16;
/// After the server didn't say how the slot is.
const WATCHED_AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn session(
    process: &Arc<Process>,
    options: RunOptions,
    stop: &mut StopRequest,
) -> Result<SessionEnd, Box<Problem>> {
    let mut again = process.again.subscribe();
    // Before the settings are read: a change in between is noticed.
    let settings = process.settings.load(Ordering::Acquire);
    let Some(ready) = until_stop(stop, prepare(process, options)).await else {
        return Ok(SessionEnd::Done);
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(NotReady::Retry(reason)) if options.exit_on_unavailable => return Err(unavailable(&reason)),
        Err(NotReady::Retry(reason)) => return Ok(SessionEnd::Retry(reason)),
        Err(NotReady::SlotTaken(problem)) => return Ok(SessionEnd::SlotTaken(problem)),
        Err(NotReady::Refused(problem)) => return Ok(SessionEnd::Refused(problem)),
        Err(NotReady::Problem(problem)) => return Err(problem),
    };
    let start = ready.start;
    let (acks, acknowledged) = watch::channel(start);
    let Some(types) = until_stop(stop, types::load(&ready.monitor, &process.config())).await else {
        return Ok(SessionEnd::Done);
    };
    let types = match types {
        Ok(types) => Arc::new(types),
        Err(error) => return Ok(SessionEnd::Retry(format!("the source's types can't be read: {error}"))),
    };
    let protocol = protocol(process, ready.connection.server_version()).with_binary(ready.types.is_some());
    let assembler = match protocol.streaming || protocol.two_phase {
        true => Some(assembly::assembler(process, start)?),
        false => None,
    };
    let running = launch(process, &ready, &types, acks)?;
    let mut decoder = Decoder::new(ready.catalog.tables.iter().map(copies::hint));
    if let Some(types) = &ready.types {
        decoder = decoder.with_binary(Arc::clone(types));
    }
    let bound = options.once.then_some(ready.flushed);
    tracing::info!(slot = ready.slot, publication = ready.publication, position = %start, "streaming");
    process.status.streaming(protocol);

    let publications = [ready.publication.clone()];
    process.streams(&ready.catalog);
    let (joins, mut joining) = mpsc::channel(JOINS);
    let joins = Joining::new(
        &ready.catalog,
        settings,
        types,
        running.only.clone(),
        &running.copiers,
        joins,
    );
    let monitor = Arc::new(ready.monitor);
    let mut server_gone = watch_server(process, Arc::clone(&monitor), joins, ready.catalog.clone(), &ready.slot);
    let starting = ready
        .connection
        .start(&ready.slot, start, &publications, protocol, acknowledged);
    let mut receiver = match until_stop(stop, starting).await {
        Some(Ok(receiver)) => receiver,
        not_started => {
            let wound_down = wind_down(process, running, None, false, stop).await?;
            let Some(Err(error)) = not_started else {
                return Ok(match wound_down {
                    WoundDown::TooSlow | WoundDown::Rewind(_) => SessionEnd::Interrupted,
                    WoundDown::Settled | WoundDown::ReaderGone => SessionEnd::Done,
                });
            };
            return match query(error) {
                NotReady::Retry(reason) => Ok(SessionEnd::Retry(reason)),
                NotReady::SlotTaken(problem) => Ok(SessionEnd::SlotTaken(problem)),
                NotReady::Refused(problem) => Ok(SessionEnd::Refused(problem)),
                NotReady::Problem(problem) => Err(problem),
            };
        }
    };
    // From here on the slot is ours, and nothing has been acknowledged yet.
    if let Some(reason) = until_stop(stop, moved_on(&monitor, &ready.slot, start)).await.flatten() {
        wind_down(process, running, None, false, stop).await?;
        return Ok(SessionEnd::Retry(reason));
    }
    receiver.limit_rows(usize::try_from(process.config().source.max_row.0).unwrap_or(usize::MAX));
    let mut until = Until {
        stop,
        server_gone: &mut server_gone,
        ended: &running.ended,
        again: &mut again,
        joins: &mut joining,
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

/// Why the stream can't be trusted to begin at `start`: the server begins where the slot stands, without a word, and between
/// our look at it and now somebody else may have moved it. The next session looks again, and says what is lost.
async fn moved_on(monitor: &tokio_postgres::Client, slot: &str, start: Lsn) -> Option<String> {
    let stands = match slot::state(monitor, slot).await {
        Ok(Some(state)) => Lsn(state.confirmed_flush_lsn.unwrap_or_default()),
        Ok(None) => return Some(format!("slot {slot} is gone")),
        Err(problem) => return Some(problem.headline),
    };
    (stands > start).then(|| format!("slot {slot} was moved on to {stands} meanwhile"))
}

/// What comes of it, unless somebody asks to stop first: a server may take as long as it likes to answer.
async fn until_stop<T>(stop: &mut StopRequest, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = stop.requested(Stop::Drain) => None,
    }
}

/// What is asked of the server, once per session.
fn protocol(process: &Process, server_version: u32) -> ProtocolOptions {
    let chosen = if process.streams_transactions() {
        ProtocolOptions::choose_streaming(server_version)
    } else {
        ProtocolOptions::choose(server_version)
    };
    let source = &process.config().source;
    let chosen = chosen.with_decoding_memory(source.decoding_memory);
    match source.two_phase {
        true => chosen.with_two_phase(server_version),
        false => chosen,
    }
}

/// Tells when the server is seen to shut down, or to be gone. Says nothing while all is well.
fn watch_server(
    process: &Arc<Process>,
    client: Arc<tokio_postgres::Client>,
    joins: Joining,
    catalog: Catalog,
    slot: &str,
) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    let (slot, process) = (slot.to_owned(), Arc::clone(process));
    tokio::spawn(async move {
        let health = process.status.health_reports();
        let watching = async {
            loop {
                let ended = monitor::watch(&client, monitor::until_closed(&client), &slot, health).await;
                match ended {
                    // It may have waited for a lock on the catalog. The stream notices its own silence by itself.
                    monitor::Ended::Unresponsive | monitor::Ended::Refused(_) => {
                        tracing::debug!(?ended, "the slot's health isn't known for now");
                        tokio::time::sleep(WATCHED_AGAIN).await;
                    }
                    ended => return ended,
                }
            }
        };
        let ended = tokio::select! {
            ended = watching => ended,
            // What is done at the source beside the stream: none of it ends.
            () = joins.watch(&process, &client) => return,
            () = partitions::watch(&process, &client, &catalog) => return,
            () = heartbeat::beat(&process, &client) => return,
            () = wal_pressure::watch(&process) => return,
            // The session has ended.
            () = send.closed() => return,
        };
        let reason = match ended {
            monitor::Ended::ServerShutdown(text) => text,
            monitor::Ended::ConnectionLost => "the server has closed its connections".to_owned(),
            other => return tracing::debug!(?other, "the slot's health isn't watched any more"),
        };
        let _ = send.send(reason).await;
    });
    receive
}
